//! [`SubjectAuthenticator`]: keys of the cluster's Subject documents.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use kwsk_model::identity::{AuthKey, Identity, Subject};
use kwsk_model::name::Namespace;
use kwsk_translate::document::{Document, Resource, ResourceKind};
use kwsk_translate::subject;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Authenticator;
use crate::cluster::{Apply, Cluster, Event};
use crate::error::{Error, Result};

/// What an unknown key is compared with, so that unknown and wrong take the same time. Secrets have 64 characters.
const NOBODY: [u8; 64] = [0; 64];

/// The pause after the watch was interrupted.
const PAUSE: Duration = Duration::from_secs(1);

/// Identities by the UUID of their key and by namespace, as the Subject documents say. A watch keeps them up to date; a
/// change counts from the moment the watch has told it.
pub struct SubjectAuthenticator {
    known: Arc<RwLock<Known>>,
}

/// What the documents say. `subjects` is the truth, the other two are made of it.
#[derive(Default)]
struct Known {
    /// By the name of their document, blocked ones left out.
    subjects: HashMap<String, Vec<Arc<Identity>>>,
    by_uuid: HashMap<String, Arc<Identity>>,
    by_namespace: HashMap<Namespace, Arc<Identity>>,
}

impl SubjectAuthenticator {
    /// Reads all subjects, then follows them until `stop`.
    ///
    /// # Errors
    /// When the subjects cannot be read.
    pub async fn new(cluster: Arc<dyn Cluster>, tasks: TaskTracker, stop: CancellationToken) -> Result<Self> {
        // Watching first: what changes between the two reads is told again.
        let mut events = cluster.watch(ResourceKind::Subject);
        let mut known = Known::default();
        for document in cluster.list(ResourceKind::Subject, None, &[]).await? {
            known.learn(&document);
        }
        known.index();
        let known = Arc::new(RwLock::new(known));
        let kept = Arc::clone(&known);
        let follow = async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => kept.write().unwrap_or_else(PoisonError::into_inner).hear(event),
                    Err(error) => {
                        tracing::warn!(%error, "subjects cannot be watched; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        tasks.spawn(stop.run_until_cancelled_owned(follow));
        Ok(Self { known })
    }

    fn find(&self, key: &AuthKey) -> Option<Arc<Identity>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let candidate = known.by_uuid.get(key.uuid());
        let secret = candidate.map_or(&NOBODY[..], |identity| identity.key.secret().as_bytes());
        let same: bool = secret.ct_eq(key.secret().as_bytes()).into();
        candidate.filter(|_| same).cloned()
    }
}

impl Known {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Applied(document) => self.learn(&document),
            Event::Deleted(key) => drop(self.subjects.remove(&key.name)),
        }
        self.index();
    }

    fn learn(&mut self, document: &Document) {
        let name = document.key().name;
        match subject::from_document(document) {
            Ok(subject) if !subject.blocked => drop(self.subjects.insert(name, identities(&subject))),
            Ok(_) => drop(self.subjects.remove(&name)),
            Err(error) => {
                tracing::error!(%error, "a subject cannot be read, its keys do not work");
                self.subjects.remove(&name);
            }
        }
    }

    /// Subjects change rarely, so everything is indexed again. Of two that claim a key or a namespace, the one that sorts
    /// first has it, whatever the order they were told in.
    fn index(&mut self) {
        self.by_uuid.clear();
        self.by_namespace.clear();
        let mut all: Vec<&Arc<Identity>> = self.subjects.values().flatten().collect();
        all.sort_by(|one, other| one.subject.cmp(&other.subject));
        for identity in all {
            let uuid = identity.key.uuid().to_owned();
            self.by_uuid.entry(uuid).or_insert_with(|| Arc::clone(identity));
            self.by_namespace.entry(identity.namespace.clone()).or_insert_with(|| Arc::clone(identity));
        }
    }
}

fn identities(subject: &Subject) -> Vec<Arc<Identity>> {
    let identity = |one: &kwsk_model::identity::SubjectNamespace| {
        Arc::new(Identity {
            subject: subject.subject.clone(),
            namespace: one.name.clone(),
            key: one.auth.clone(),
            limits: subject.limits.clone(),
        })
    };
    subject.namespaces.iter().map(identity).collect()
}

#[async_trait]
impl Authenticator for SubjectAuthenticator {
    async fn authenticate(&self, key: &AuthKey) -> Result<Option<Arc<Identity>>> {
        Ok(self.find(key))
    }

    async fn owner_of(&self, namespace: &Namespace) -> Result<Option<Arc<Identity>>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Ok(known.by_namespace.get(namespace).cloned())
    }
}

/// Makes sure that a subject of this name exists; one that does is left as it is.
///
/// # Errors
/// When the cluster cannot be written.
pub async fn ensure_subject(cluster: &dyn Cluster, subject: &Subject) -> Result<()> {
    let document = subject::to_document(subject).to_document();
    if cluster.get(&document.key()).await?.is_some() {
        return Ok(());
    }
    match cluster.apply(document, Apply::Create).await {
        Ok(_) | Err(Error::AlreadyExists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
