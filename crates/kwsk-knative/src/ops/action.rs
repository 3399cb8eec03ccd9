//! Actions: get, list, put, delete.

use bytes::Bytes;
use kwsk_model::action::{Action, ActionPut, Code, Exec};
use kwsk_model::name::{EntityName, FullyQualifiedEntityName, Namespace};
use kwsk_translate::document::{Document, Resource};
use kwsk_translate::error::{Invalid, Unreadable};
use kwsk_translate::{action, sequence, validate};

use super::resolve::{self, Found, Met};
use super::{Caller, Ops, Page};
use crate::cluster::{Apply, Precondition};
use crate::error::{Error, Result};

/// The action with the parameters of its package (and binding) underneath its own, and with its code if `with_code`.
///
/// # Errors
/// 403, 404 and 409 as [`resolve::action`].
pub async fn get(
    ops: &Ops,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
    with_code: bool,
) -> Result<Action> {
    let resolved = resolve::action(ops, caller, name).await?;
    let mut action = Action::clone(&resolved.action.entity);
    action.parameters = resolved.parameters();
    if with_code { with_text(ops, action).await } else { Ok(action) }
}

/// Puts the code itself where the document has a reference.
async fn with_text(ops: &Ops, mut action: Action) -> Result<Action> {
    let Some(Code::Stored(stored)) = action.exec.code() else {
        return Ok(action);
    };
    let lost =
        || Unreadable { object: format!("code of {}", action.fqn()), why: "the blob is missing".to_owned() };
    let text = ops.code.get(stored).await?.ok_or_else(lost)?;
    let text = String::from_utf8(text.into()).map_err(|error| Unreadable {
        object: format!("code of {}", action.fqn()),
        why: error.to_string(),
    })?;
    action.exec = action.exec.with_code(Code::Inline(text));
    Ok(action)
}

/// Items newest first; `package` narrows the list to one package, through a binding to the bound one.
///
/// # Errors
/// 403 for foreign namespaces and unreadable packages, 404 for a missing package.
pub async fn list(
    ops: &Ops,
    caller: &Caller,
    namespace: &Namespace,
    package: Option<&EntityName>,
    page: Page,
) -> Result<Vec<Found<Action>>> {
    Ok(page.of(matching(ops, caller, namespace, package).await?))
}

/// How many [`list`] would show without a page.
///
/// # Errors
/// As [`list`].
pub async fn count(
    ops: &Ops,
    caller: &Caller,
    namespace: &Namespace,
    package: Option<&EntityName>,
) -> Result<u64> {
    Ok(matching(ops, caller, namespace, package).await?.len() as u64)
}

async fn matching(
    ops: &Ops,
    caller: &Caller,
    namespace: &Namespace,
    package: Option<&EntityName>,
) -> Result<Vec<Found<Action>>> {
    let Some(package) = package else {
        return resolve::owned(ops, caller, namespace).await;
    };
    let name = FullyQualifiedEntityName::new(namespace.clone(), package.clone());
    let path = resolve::package(ops, caller, &name).await?;
    let mut found = in_package(ops, &path.provider().entity.fqn()).await?;
    resolve::newest_first(&mut found);
    Ok(found)
}

/// The actions of a package, in no particular order.
pub(crate) async fn in_package(ops: &Ops, package: &FullyQualifiedEntityName) -> Result<Vec<Found<Action>>> {
    let mut all = resolve::all::<Action>(&*ops.cluster, &ops.platform, package.namespace()).await?;
    all.retain(|a| a.entity.namespace.package_name().as_ref() == Some(package));
    Ok(all)
}

/// Creates or, with `overwrite`, updates an action; answers it with its code.
///
/// # Errors
/// The refusals of openwhisk-api 3.2, in that order; 409 when another writer was faster.
pub async fn put(
    ops: &Ops,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
    put: ActionPut,
    overwrite: bool,
) -> Result<Action> {
    caller.must_own(name)?;
    let _turn = ops.turnstile.pass(name).await;
    enclosing_package(ops, caller, name).await?;
    let checked = check_sequence(ops, caller, name, put.exec.as_ref()).await?;
    let met = resolve::meet::<Action>(ops, name).await?;
    let limits = &caller.identity.limits;
    let bounds = ops.platform.limits.bounds_of(limits);
    let (stored, now, kinds) = (met.entity(), met.now_ms, limits.allowed_kinds.as_deref());
    let valid = validate::action(&ops.platform, &bounds, name, stored, put, overwrite, now, kinds)?;
    checked?;
    let answer = valid.clone();
    let document = build(ops, &store_code(ops, valid).await?);
    apply(ops, &met, document).await?;
    with_text(ops, answer).await
}

/// The package of a packaged action; bindings take no actions.
async fn enclosing_package(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<()> {
    let Some(package) = name.path.package_name() else {
        return Ok(());
    };
    let path = resolve::package(ops, caller, &package).await?;
    if path.named.entity.binding.is_some() {
        return Err(Invalid::ThroughBinding.into());
    }
    Ok(())
}

/// Walks a sequence to be. Components the caller may not read are refused at once; what else is wrong with it is told
/// only after everything that comes before it in the order of refusals, hence the inner result.
async fn check_sequence(
    ops: &Ops,
    caller: &Caller,
    own: &FullyQualifiedEntityName,
    exec: Option<&Exec>,
) -> Result<Result<(), Invalid>> {
    let Some(Exec::Sequence { components }) = exec else {
        return Ok(Ok(()));
    };
    let mut refused = Vec::new();
    let mut check = sequence::Check::new(own, components);
    let mut verdict = Ok(());
    while let (Ok(()), Some(next)) = (&verdict, check.next_name()) {
        let component = match resolve::action(ops, caller, &next).await {
            // A sequence on its way to containing itself may not exist yet.
            _ if next == *own => sequence::Component::Sequence { name: next, components: Vec::new() },
            Ok(resolved) => component(&resolved.action.entity),
            Err(Error::Forbidden(what)) => {
                refused.extend(what);
                continue;
            }
            Err(Error::NotFound | Error::WrongCollection) => sequence::Component::Missing,
            Err(error) => return Err(error),
        };
        verdict = check.found(component);
    }
    refused.sort();
    refused.dedup();
    if refused.is_empty() { Ok(verdict) } else { Err(Error::Forbidden(refused)) }
}

fn component(action: &Action) -> sequence::Component {
    match &action.exec {
        Exec::Sequence { components } => {
            sequence::Component::Sequence { name: action.fqn(), components: components.clone() }
        }
        Exec::Code { .. } | Exec::Blackbox { .. } => sequence::Component::Action,
    }
}

async fn store_code(ops: &Ops, mut action: Action) -> Result<Action> {
    if let Some(Code::Inline(text)) = action.exec.code() {
        let stored = ops.code.put(Bytes::from(text.clone())).await?;
        action.exec = action.exec.with_code(Code::Stored(stored));
    }
    Ok(action)
}

fn build(ops: &Ops, action: &Action) -> Document {
    match action.exec {
        Exec::Sequence { .. } => sequence::to_document(action).to_document(),
        Exec::Code { .. } | Exec::Blackbox { .. } => action::to_kservice(&ops.platform, action).to_document(),
    }
}

/// Writes the new document; one that changed kind (code ↔ sequence) replaces the old object.
async fn apply(ops: &Ops, met: &Met<Action>, document: Document) -> Result<()> {
    let mut condition = met.condition();
    if let Some(old) = &met.existing
        && old.document.kind != document.kind
    {
        remove(ops, old).await?;
        condition = Apply::Create;
    }
    ops.cluster.apply(document, condition).await?;
    Ok(())
}

/// Deletes an action and answers its last state, code included.
///
/// # Errors
/// 403, 404, 409.
pub async fn delete(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<Action> {
    caller.must_own(name)?;
    let _turn = ops.turnstile.pass(name).await;
    enclosing_package(ops, caller, name).await?;
    let found = resolve::get::<Action>(ops, name).await?;
    let action = with_text(ops, Action::clone(&found.entity)).await?;
    remove(ops, &found).await?;
    Ok(action)
}

/// Deletes the document an entity was read from, unless it changed since.
pub(crate) async fn remove<T>(ops: &Ops, found: &Found<T>) -> Result<()> {
    let version = Precondition::ResourceVersion(found.document.resource_version().to_owned());
    match ops.cluster.delete(&found.document.key(), version).await? {
        Some(_) => Ok(()),
        None => Err(Error::NotFound),
    }
}
