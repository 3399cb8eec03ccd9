//! `PUT packages/…` and `DELETE packages/…`.

use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::package::{Binding, Package, PackagePut};
use kwsk_model::params::Annotations;

use super::{may_write, next_version, sizes};
use crate::error::Invalid;

/// The name that stands for "no package" in web action URLs.
const RESERVED: &str = "default";
/// The annotation the server keeps on bindings.
const BINDING: &str = "binding";

/// What the `binding` of a PUT leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BindingTarget<'a> {
    /// The PUT has no binding, so nobody looked.
    NotAsked,
    /// Nothing by that name.
    Missing,
    /// An action, trigger or rule.
    NotAPackage,
    /// A package or binding.
    Found(&'a Package),
}

/// The package that `put` makes of `existing`.
///
/// # Errors
/// [`Invalid`], in this order: the name, sizes, a circular binding, existence, what the binding leads to.
pub fn package(
    name: &FullyQualifiedEntityName,
    existing: Option<&Package>,
    put: PackagePut,
    overwrite: bool,
    now_ms: u64,
    target: BindingTarget<'_>,
) -> Result<Package, Invalid> {
    if name.name.as_str() == RESERVED {
        return Err(Invalid::PackageReserved(RESERVED.to_owned()));
    }
    sizes(put.parameters.as_ref(), put.annotations.as_ref())?;
    if put.binding.as_ref().is_some_and(|binding| binding.fqn() == *name) {
        return Err(Invalid::BindingCircular(name.clone()));
    }
    may_write(existing, overwrite)?;
    if put.binding.is_some() {
        check_binding(existing, target)?;
    }
    let binding = put.binding.or_else(|| existing?.binding.clone());
    let annotations = put.annotations.or_else(|| Some(existing?.annotations.clone())).unwrap_or_default();
    Ok(Package {
        namespace: name.namespace().clone(),
        name: name.name.clone(),
        version: next_version(put.version, existing.map(|package| package.version)),
        publish: put.publish.or(existing.map(|package| package.publish)).unwrap_or_default(),
        parameters: put.parameters.or_else(|| Some(existing?.parameters.clone())).unwrap_or_default(),
        annotations: with_binding(annotations, binding.as_ref()),
        binding,
        updated: now_ms,
    })
}

fn check_binding(existing: Option<&Package>, target: BindingTarget<'_>) -> Result<(), Invalid> {
    if existing.is_some_and(|package| package.binding.is_none()) {
        return Err(Invalid::PackageIsNoBinding);
    }
    match target {
        BindingTarget::NotAsked | BindingTarget::Missing => Err(Invalid::BindingTargetMissing),
        BindingTarget::NotAPackage => Err(Invalid::BindingTargetNotPackage),
        BindingTarget::Found(package) if package.binding.is_some() => Err(Invalid::BindingToBinding),
        BindingTarget::Found(_) => Ok(()),
    }
}

/// The client's annotations without its `binding`, and the server's on bindings.
fn with_binding(mut annotations: Annotations, binding: Option<&Binding>) -> Annotations {
    annotations.remove(BINDING);
    if let Some(binding) = binding {
        annotations.set(BINDING, serde_json::to_value(binding).unwrap_or_default());
    }
    annotations
}

/// Whether a package with `contents` actions may be deleted.
///
/// # Errors
/// [`Invalid::PackageReserved`], [`Invalid::PackageNotEmpty`] without `force`.
pub fn package_delete(name: &FullyQualifiedEntityName, contents: usize, force: bool) -> Result<(), Invalid> {
    if name.name.as_str() == RESERVED {
        return Err(Invalid::PackageReserved(RESERVED.to_owned()));
    }
    if contents > 0 && !force { Err(Invalid::PackageNotEmpty { contents }) } else { Ok(()) }
}
