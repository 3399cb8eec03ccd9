//! Activations: get, list, count.

use std::sync::Arc;

use kwsk_model::activation::{Activation, ActivationId};
use kwsk_model::name::Namespace;

use super::{Caller, Ops};
use crate::activations::ActivationQuery;
use crate::error::{Error, Result};

fn must_own(caller: &Caller, namespace: &Namespace) -> Result<()> {
    if caller.owns(namespace) { Ok(()) } else { Err(Error::Forbidden(vec![namespace.to_string()])) }
}

/// One record.
///
/// # Errors
/// 403 for foreign namespaces, 404 while there is no record.
pub async fn get(
    ops: &Ops,
    caller: &Caller,
    namespace: &Namespace,
    id: &ActivationId,
) -> Result<Arc<Activation>> {
    must_own(caller, namespace)?;
    ops.activations.get(namespace, id).await?.ok_or(Error::NotFound)
}

/// Records newest first.
///
/// # Errors
/// 403 for foreign namespaces.
pub async fn list(ops: &Ops, caller: &Caller, query: &ActivationQuery) -> Result<Vec<Arc<Activation>>> {
    must_own(caller, &query.namespace)?;
    ops.activations.list(query).await
}

/// How many records match, pages ignored.
///
/// # Errors
/// 403 for foreign namespaces.
pub async fn count(ops: &Ops, caller: &Caller, query: &ActivationQuery) -> Result<u64> {
    must_own(caller, &query.namespace)?;
    ops.activations.count(query).await
}
