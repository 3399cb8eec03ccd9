//! Packages and bindings: get, list, put, delete.

use std::sync::Arc;

use kwsk_model::action::Action;
use kwsk_model::name::{FullyQualifiedEntityName, Namespace};
use kwsk_model::package::{Package, PackagePut};
use kwsk_translate::document::Resource;
use kwsk_translate::validate::BindingTarget;
use kwsk_translate::{package, validate};

use super::resolve::{self, Collection, Found};
use super::{Caller, Ops, Page, action};
use crate::error::{Error, Result};

/// A package with its actions; of a binding, the bound package's actions and its parameters underneath.
///
/// # Errors
/// 403, 409, and 404 that names the package.
pub async fn get(
    ops: &Ops,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
) -> Result<(Package, Vec<Action>)> {
    let path = resolve::package(ops, caller, name).await.map_err(|error| match error {
        Error::NotFound => Error::NotFoundNamed(name.to_string()),
        other => other,
    })?;
    let mut shown = Package::clone(&path.named.entity);
    if let Some(target) = &path.target {
        shown.parameters = target.entity.parameters.merged(&shown.parameters);
    }
    let mut actions = action::in_package(ops, &path.provider().entity.fqn()).await?;
    actions.sort_by(|a, b| a.entity.name.cmp(&b.entity.name));
    let actions = actions.iter().map(|found| Action::clone(&found.entity)).collect();
    Ok((shown, actions))
}

async fn visible(ops: &Ops, caller: &Caller, namespace: &Namespace) -> Result<Vec<Found<Package>>> {
    let mut all = resolve::all::<Package>(&*ops.cluster, &ops.platform, namespace).await?;
    if !caller.owns(namespace) {
        all.retain(|p| p.entity.publish && p.entity.binding.is_none());
    }
    resolve::newest_first(&mut all);
    Ok(all)
}

/// Packages newest first; of foreign namespaces only published ones.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn list(
    ops: &Ops,
    caller: &Caller,
    namespace: &Namespace,
    page: Page,
) -> Result<Vec<Found<Package>>> {
    Ok(page.of(visible(ops, caller, namespace).await?))
}

/// How many [`list`] would show without a page.
///
/// # Errors
/// As [`list`].
pub async fn count(ops: &Ops, caller: &Caller, namespace: &Namespace) -> Result<u64> {
    Ok(visible(ops, caller, namespace).await?.len() as u64)
}

/// Creates or, with `overwrite`, updates a package or binding.
///
/// # Errors
/// The refusals of openwhisk-api 6.1.
pub async fn put(
    ops: &Ops,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
    put: PackagePut,
    overwrite: bool,
) -> Result<Package> {
    caller.must_own(name)?;
    let _turn = ops.turnstile.pass(name).await;
    let target = binding_target(ops, caller, &put).await?;
    let met = resolve::meet::<Package>(ops, name).await?;
    let valid = validate::package(name, met.entity(), put, overwrite, met.now_ms, target.borrowed())?;
    ops.cluster.apply(package::to_document(&valid).to_document(), met.condition()).await?;
    Ok(valid)
}

/// What a binding is to point at; a foreign package must be readable.
async fn binding_target(ops: &Ops, caller: &Caller, put: &PackagePut) -> Result<Target> {
    let Some(binding) = &put.binding else {
        return Ok(Target::NotAsked);
    };
    let name = binding.fqn();
    let found = resolve::find::<Package>(&*ops.cluster, &ops.platform, &name).await?;
    if !caller.owns(&binding.namespace) && !found.as_ref().is_some_and(|f| f.entity.publish) {
        return Err(Error::Forbidden(vec![name.to_string()]));
    }
    match found {
        Some(found) => Ok(Target::Found(found.entity)),
        None => match resolve::refuse_other_collections(&*ops.cluster, Collection::Packages, &name).await {
            Ok(()) => Ok(Target::Missing),
            Err(Error::WrongCollection) => Ok(Target::NotAPackage),
            Err(error) => Err(error),
        },
    }
}

/// [`BindingTarget`] with its package.
enum Target {
    NotAsked,
    Missing,
    NotAPackage,
    Found(Arc<Package>),
}

impl Target {
    fn borrowed(&self) -> BindingTarget<'_> {
        match self {
            Self::NotAsked => BindingTarget::NotAsked,
            Self::Missing => BindingTarget::Missing,
            Self::NotAPackage => BindingTarget::NotAPackage,
            Self::Found(package) => BindingTarget::Found(package),
        }
    }
}

/// Deletes a package; with `force` its actions first.
///
/// # Errors
/// 403, 404, 409 when it is not empty.
pub async fn delete(
    ops: &Ops,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
    force: bool,
) -> Result<Package> {
    caller.must_own(name)?;
    let _turn = ops.turnstile.pass(name).await;
    let found = resolve::get::<Package>(ops, name).await?;
    if found.entity.binding.is_none() {
        let actions = action::in_package(ops, name).await?;
        validate::package_delete(name, actions.len(), force)?;
        for one in &actions {
            action::remove(ops, one).await?;
        }
    }
    action::remove(ops, &found).await?;
    Ok(Package::clone(&found.entity))
}
