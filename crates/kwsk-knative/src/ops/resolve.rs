//! From names to entities: lookups by collection, the key space all collections share, packages and bindings.

use std::sync::Arc;

use kwsk_model::action::Action;
use kwsk_model::name::{EntityName, FullyQualifiedEntityName, Namespace};
use kwsk_model::package::Package;
use kwsk_model::params::Parameters;
use kwsk_model::rule::Rule;
use kwsk_model::trigger::Trigger;
use kwsk_translate::document::{Document, Key, ResourceKind};
use kwsk_translate::error::Unreadable;
use kwsk_translate::platform::Platform;
use kwsk_translate::{action, keys, names, package, rule, sequence, trigger};

use super::{Caller, Ops, now_ms};
use crate::cluster::{Apply, Cluster};
use crate::error::{Error, Result};

/// OpenWhisk's collections of named entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// Code and sequences.
    Actions,
    /// Packages and bindings.
    Packages,
    /// Triggers.
    Triggers,
    /// Rules.
    Rules,
}

impl Collection {
    const ALL: [Self; 4] = [Self::Actions, Self::Packages, Self::Triggers, Self::Rules];

    /// The kinds of document an entity of the collection may be.
    #[must_use]
    pub fn kinds(self) -> &'static [ResourceKind] {
        match self {
            Self::Actions => &[ResourceKind::KService, ResourceKind::Sequence],
            Self::Packages => &[ResourceKind::Package],
            Self::Triggers => &[ResourceKind::Channel],
            Self::Rules => &[ResourceKind::Subscription],
        }
    }
}

/// An entity with the document it was read from.
#[derive(Debug)]
pub struct Found<T> {
    /// The document.
    pub document: Arc<Document>,
    /// What it says.
    pub entity: Arc<T>,
}

impl<T> Clone for Found<T> {
    fn clone(&self) -> Self {
        Self { document: Arc::clone(&self.document), entity: Arc::clone(&self.entity) }
    }
}

/// An entity kwsk can read out of documents.
pub trait Entity: Sized + Send + Sync + 'static {
    /// Where it belongs.
    const COLLECTION: Collection;

    /// # Errors
    /// [`Unreadable`] when the document says something else.
    fn read(platform: &Platform, document: &Document) -> Result<Self, Unreadable>;

    /// Milliseconds since the epoch of its last PUT.
    fn updated(&self) -> u64;

    /// Its own name.
    fn own_name(&self) -> &EntityName;
}

impl Entity for Action {
    const COLLECTION: Collection = Collection::Actions;

    fn read(platform: &Platform, document: &Document) -> Result<Self, Unreadable> {
        match document.kind {
            ResourceKind::Sequence => sequence::from_document(document),
            _ => action::from_kservice(platform, document),
        }
    }

    fn updated(&self) -> u64 {
        self.updated
    }

    fn own_name(&self) -> &EntityName {
        &self.name
    }
}

impl Entity for Package {
    const COLLECTION: Collection = Collection::Packages;

    fn read(_: &Platform, document: &Document) -> Result<Self, Unreadable> {
        package::from_document(document)
    }

    fn updated(&self) -> u64 {
        self.updated
    }

    fn own_name(&self) -> &EntityName {
        &self.name
    }
}

impl Entity for Trigger {
    const COLLECTION: Collection = Collection::Triggers;

    /// Without its rules: they are other documents.
    fn read(_: &Platform, document: &Document) -> Result<Self, Unreadable> {
        trigger::from_channel(document, None)
    }

    fn updated(&self) -> u64 {
        self.updated
    }

    fn own_name(&self) -> &EntityName {
        &self.name
    }
}

impl Entity for Rule {
    const COLLECTION: Collection = Collection::Rules;

    fn read(platform: &Platform, document: &Document) -> Result<Self, Unreadable> {
        rule::from_subscription(platform, document)
    }

    fn updated(&self) -> u64 {
        self.updated
    }

    fn own_name(&self) -> &EntityName {
        &self.name
    }
}

/// Reads an entity out of its document, once per version of the document.
///
/// # Errors
/// [`Error::Unreadable`].
pub fn read<T: Entity>(platform: &Platform, document: Arc<Document>) -> Result<Found<T>> {
    let entity = document.view(|d| T::read(platform, d))?;
    Ok(Found { document, entity })
}

/// Objects that others made carry no name of ours: their own is it.
fn is_named(document: &Document, name: &FullyQualifiedEntityName) -> bool {
    keys::name(document).or(document.metadata.name.as_deref()) == Some(name.local_name().as_str())
}

async fn document_of(
    cluster: &dyn Cluster,
    collection: Collection,
    name: &FullyQualifiedEntityName,
) -> Result<Option<Arc<Document>>> {
    let mut key: Option<Key> = None;
    for kind in collection.kinds() {
        // The name of the object is the same for all kinds, and costs a hash.
        let at = match key.take() {
            Some(key) => Key { kind: *kind, ..key },
            None => names::key(*kind, name),
        };
        if let Some(document) = cluster.get(&at).await?
            && is_named(&document, name)
        {
            return Ok(Some(document));
        }
        key = Some(at);
    }
    Ok(None)
}

/// The entity of this name in its collection, or nothing.
///
/// # Errors
/// When the cluster cannot be read or the record is corrupt.
pub async fn find<T: Entity>(
    cluster: &dyn Cluster,
    platform: &Platform,
    name: &FullyQualifiedEntityName,
) -> Result<Option<Found<T>>> {
    match document_of(cluster, T::COLLECTION, name).await? {
        Some(document) => read(platform, document).map(Some),
        None => Ok(None),
    }
}

/// # Errors
/// [`Error::WrongCollection`] when an entity of another collection has this name.
pub async fn refuse_other_collections(
    cluster: &dyn Cluster,
    own: Collection,
    name: &FullyQualifiedEntityName,
) -> Result<()> {
    // Packaged names belong to actions alone.
    if name.path.package.is_some() {
        return Ok(());
    }
    for other in Collection::ALL.into_iter().filter(|c| *c != own) {
        if document_of(cluster, other, name).await?.is_some() {
            return Err(Error::WrongCollection);
        }
    }
    Ok(())
}

/// The entity of this name.
///
/// # Errors
/// [`Error::NotFound`], or [`Error::WrongCollection`] when the name belongs to another collection.
pub async fn get<T: Entity>(ops: &Ops, name: &FullyQualifiedEntityName) -> Result<Found<T>> {
    if let Some(found) = find(&*ops.cluster, &ops.platform, name).await? {
        return Ok(found);
    }
    refuse_other_collections(&*ops.cluster, T::COLLECTION, name).await?;
    Err(Error::NotFound)
}

/// All entities of a collection in a namespace.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn all<T: Entity>(
    cluster: &dyn Cluster,
    platform: &Platform,
    namespace: &Namespace,
) -> Result<Vec<Found<T>>> {
    let within = names::kubernetes_namespace(namespace);
    let mut found = Vec::new();
    for kind in T::COLLECTION.kinds() {
        for document in cluster.list(*kind, Some(&within), &[]).await? {
            match read(platform, Arc::clone(&document)) {
                Ok(one) => found.push(one),
                // One broken record must not hide the others.
                Err(error) => tracing::warn!(object = %document.key(), %error, "left out of a list"),
            }
        }
    }
    Ok(found)
}

/// As lists show them: the last updated first.
pub fn newest_first<T: Entity>(found: &mut [Found<T>]) {
    found.sort_by(|a, b| {
        let newest = b.entity.updated().cmp(&a.entity.updated());
        newest.then_with(|| a.entity.own_name().cmp(b.entity.own_name()))
    });
}

/// All entities of a collection in the caller's own namespace, newest first.
///
/// # Errors
/// [`Error::Forbidden`] for foreign namespaces.
pub async fn owned<T: Entity>(ops: &Ops, caller: &Caller, namespace: &Namespace) -> Result<Vec<Found<T>>> {
    if !caller.owns(namespace) {
        return Err(Error::Forbidden(vec![namespace.to_string()]));
    }
    let mut found = all(&*ops.cluster, &ops.platform, namespace).await?;
    newest_first(&mut found);
    Ok(found)
}

/// What a PUT of `name` meets: the stored entity, and the time of the update, which is later than the last one so that
/// lists keep their order.
pub struct Met<T> {
    /// What is stored.
    pub existing: Option<Found<T>>,
    /// Milliseconds since the epoch.
    pub now_ms: u64,
}

impl<T> Met<T> {
    /// The stored entity.
    #[must_use]
    pub fn entity(&self) -> Option<&T> {
        self.existing.as_ref().map(|found| &*found.entity)
    }

    /// The condition on which the update may be written.
    #[must_use]
    pub fn condition(&self) -> Apply {
        match &self.existing {
            Some(found) => Apply::Replace(found.document.resource_version().to_owned()),
            None => Apply::Create,
        }
    }
}

/// Looks at what a PUT of `name` meets.
///
/// # Errors
/// [`Error::WrongCollection`] when the name belongs to another collection.
pub async fn meet<T: Entity>(ops: &Ops, name: &FullyQualifiedEntityName) -> Result<Met<T>> {
    let existing = find::<T>(&*ops.cluster, &ops.platform, name).await?;
    if existing.is_none() {
        refuse_other_collections(&*ops.cluster, T::COLLECTION, name).await?;
    }
    let last = existing.as_ref().map_or(0, |found| found.entity.updated() + 1);
    Ok(Met { existing, now_ms: now_ms().max(last) })
}

/// An action with everything that stands between its name and its arguments.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The action.
    pub action: Found<Action>,
    /// The package it is in.
    pub package: Option<Arc<Package>>,
    /// The binding it was named through.
    pub binding: Option<Arc<Package>>,
}

impl Resolved {
    /// Package < binding < action.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        let mut all = Parameters::new();
        for from in [&self.package, &self.binding].into_iter().flatten() {
            all = all.merged(&from.parameters);
        }
        all.merged(&self.action.entity.parameters)
    }

    /// `ns/binding`, for the annotation of that name.
    #[must_use]
    pub fn binding_name(&self) -> Option<String> {
        self.binding.as_ref().map(|b| b.fqn().to_string())
    }
}

/// Where a package path leads for this caller.
#[derive(Debug, Clone)]
pub struct ResolvedPackage {
    /// The package named.
    pub named: Found<Package>,
    /// The package it is bound to, when it is a binding.
    pub target: Option<Found<Package>>,
}

impl ResolvedPackage {
    /// The package whose actions these are.
    #[must_use]
    pub fn provider(&self) -> &Found<Package> {
        self.target.as_ref().unwrap_or(&self.named)
    }
}

/// A package this caller may read, with what it is bound to.
///
/// # Errors
/// [`Error::Forbidden`] naming the package that is refused (also when a foreign one does not exist), [`Error::NotFound`],
/// [`Error::WrongCollection`].
pub async fn package(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<ResolvedPackage> {
    let named = readable(ops, caller, name).await?;
    if !caller.owns(name.namespace()) && named.entity.binding.is_some() {
        return Err(Error::Forbidden(vec![name.to_string()]));
    }
    let target = match &named.entity.binding {
        None => None,
        Some(binding) => Some(readable(ops, caller, &binding.fqn()).await?),
    };
    Ok(ResolvedPackage { named, target })
}

async fn readable(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<Found<Package>> {
    if caller.owns(name.namespace()) {
        return get(ops, name).await;
    }
    match find::<Package>(&*ops.cluster, &ops.platform, name).await? {
        Some(found) if found.entity.publish => Ok(found),
        _ => Err(Error::Forbidden(vec![name.to_string()])),
    }
}

/// The action of this name, if the caller may read and invoke it.
///
/// # Errors
/// See [`package()`]; [`Error::Forbidden`] for foreign unpackaged actions.
pub async fn action(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<Resolved> {
    let Some(package_name) = name.path.package_name() else {
        caller.must_own(name)?;
        let action = get(ops, name).await?;
        return Ok(Resolved { action, package: None, binding: None });
    };
    let path = package(ops, caller, &package_name).await?;
    let provider = &path.provider().entity;
    let real = FullyQualifiedEntityName::packaged(
        provider.namespace.clone(),
        provider.name.clone(),
        name.name.clone(),
    );
    let action = get(ops, &real).await?;
    let provider = Arc::clone(provider);
    let binding = path.target.is_some().then_some(path.named.entity);
    Ok(Resolved { action, package: Some(provider), binding })
}
