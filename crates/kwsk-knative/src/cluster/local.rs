//! [`LocalCluster`]: Knative for one machine.
//!
//! Documents, activations and channel queues are in one SQLite file, code is in files beside it. KServices are reconciled into
//! shims ([`services`]), Channels into durable queues and Subscriptions into delivery loops ([`channels`]). The same documents
//! that a Kubernetes cluster would get are the only state: nothing here knows OpenWhisk's API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use kwsk_model::identity::Subject;
use kwsk_shim::{Launchpad, Report, Run, Sandbox};
use kwsk_translate::document::{Document, Key, ResourceKind};
use kwsk_translate::event::CloudEvent;
use kwsk_translate::keys;
use kwsk_translate::platform::Platform;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::activations::Activations;
use self::blueprint::Blueprints;
use self::channels::Channels;
use self::documents::Documents;
use self::rules::RuleRunner;
use self::services::Services;
use self::store::{Opening, Store, StoreOptions};
use super::{Apply, Cluster, Event, Labels, Precondition};
use crate::auth::subjects::{SubjectAuthenticator, ensure_subject};
use crate::code::file::FileCodeStore;
use crate::error::{Error, Result};
use crate::invoke::{Call, Invoker};
use crate::ops::{Ports, now_ms};

pub mod activations;
pub mod blueprint;
pub mod channels;
pub mod documents;
mod rules;
pub mod runtimes;
pub mod services;
pub mod store;

pub use runtimes::{RuntimeFinding, detect};

/// What a [`LocalCluster`] is made of.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Everything it keeps is in here; made when missing.
    pub data: PathBuf,
    /// Runtimes, limits, addresses.
    pub platform: Arc<Platform>,
    /// What actions see as `__OW_API_HOST`.
    pub api_host: String,
    /// MB that the memory limits of all instances may add up to.
    pub memory_mb: u64,
    /// How long an instance may be idle, unless its KService says otherwise.
    pub idle: Duration,
    /// Prewarmed processes of each family's default kind.
    pub stem_cells: usize,
    /// Bytes the SQLite file may grow to.
    pub max_store_bytes: Option<u64>,
    /// Subjects that are made when they do not exist. Their keys work from the first request on.
    pub subjects: Vec<Subject>,
    /// A memory cgroup delegated to kwsk.
    pub cgroup: Option<PathBuf>,
    /// How long records of activations are kept; for ever when absent.
    pub keep_activations: Option<Duration>,
}

/// Why a [`LocalCluster`] does not start. `Display` is one line for the operator and names the way out.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] Opening),
    /// The work directory cannot be used.
    #[error("runtimes cannot be started: choose another --data directory or free its disk")]
    Launch(#[from] kwsk_shim::LaunchError),
    /// What is stored cannot be read.
    #[error("the stored documents cannot be read: restore the data directory or choose another with --data")]
    Read(#[source] Error),
}

/// How often records are looked at for their age.
const PURGE_EVERY: Duration = Duration::from_secs(3600);

/// Knative for one machine.
pub struct LocalCluster {
    documents: Arc<Documents>,
    activations: Arc<Activations>,
    code: Arc<FileCodeStore>,
    auth: Arc<SubjectAuthenticator>,
    services: Services,
    channels: Arc<Channels>,
    invoker: Arc<LocalInvoker>,
    store: Store,
    launchpad: Launchpad,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl LocalCluster {
    /// Opens the data directory, ends what a killed predecessor left running, and starts reconciling.
    ///
    /// # Errors
    /// [`StartError`]; nothing has been bound or started then.
    pub async fn start(options: LocalOptions) -> Result<Self, StartError> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let store_options = StoreOptions { max_bytes: options.max_store_bytes, ..StoreOptions::default() };
        let store = Store::open(&options.data, store_options)?;
        let launchpad = launch(&options, &tasks, &stop).await?;
        let documents = Arc::new(Documents::new(store.clone()));
        let activations = Arc::new(Activations::new(store.clone()));
        let code = Arc::new(FileCodeStore::new(options.data.join("code")).map_err(StartError::Read)?);
        let cluster: Arc<dyn Cluster> = Arc::clone(&documents) as _;
        for subject in &options.subjects {
            ensure_subject(&*cluster, subject).await.map_err(StartError::Read)?;
        }
        let auth = SubjectAuthenticator::new(cluster, tasks.clone(), stop.clone())
            .await
            .map_err(StartError::Read)?;
        let auth = Arc::new(auth);
        let blueprints = Arc::new(Blueprints::new(&options, Arc::clone(&code)));
        let services = Services::new(launchpad.clone(), &tasks, stop.clone(), options.memory_mb);
        let runner = RuleRunner::new(
            Arc::clone(&documents),
            Arc::clone(&options.platform),
            Arc::clone(&auth) as _,
            services.clone(),
            Arc::clone(&blueprints),
        );
        let channels = Arc::new(Channels::new(
            store.clone(),
            Arc::clone(&documents),
            Arc::new(runner),
            tasks.clone(),
            stop.clone(),
        ));
        let invoker = Arc::new(LocalInvoker {
            services: services.clone(),
            blueprints: Arc::clone(&blueprints),
            channels: Arc::clone(&channels),
        });
        tasks.spawn(stop.clone().run_until_cancelled_owned(reconcile(
            Arc::clone(&documents),
            services.clone(),
            blueprints,
        )));
        if let Some(keep) = options.keep_activations {
            tasks.spawn(stop.clone().run_until_cancelled_owned(purge(Arc::clone(&activations), keep)));
        }
        Ok(Self {
            documents,
            activations,
            code,
            auth,
            services,
            channels,
            invoker,
            store,
            launchpad,
            tasks,
            stop,
        })
    }

    /// The five ports.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports {
            cluster: Arc::clone(&self.documents) as _,
            invoker: Arc::clone(&self.invoker) as _,
            activations: Arc::clone(&self.activations) as _,
            code: Arc::clone(&self.code) as _,
            auth: Arc::clone(&self.auth) as _,
        }
    }

    /// What protects this machine from actions, in words.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        runtimes::feature_words(self.launchpad.sandbox().features())
    }

    /// How many instances a service has.
    #[must_use]
    pub fn scale(&self, key: &Key) -> usize {
        self.services.scale(key)
    }

    /// After a start: delivers the events a predecessor had accepted.
    ///
    /// # Errors
    /// When the queues cannot be read.
    pub async fn resume(&self) -> Result<()> {
        self.channels.resume().await
    }

    /// Ends every runtime and every task, and writes what is still queued.
    pub async fn shutdown(self) {
        self.services.close();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // Nothing is written any more, so what no document refers to now is garbage.
        if let Err(error) = self.sweep().await {
            tracing::warn!(%error, "code that is no longer used was not removed");
        }
        self.store.close().await;
    }

    async fn sweep(&self) -> Result<()> {
        let services = self.documents.list(ResourceKind::KService, None, &[]).await?;
        let referenced = services.iter().filter_map(|d| keys::code_digest(d)).map(str::to_owned).collect();
        self.code.sweep(referenced).await.map(drop)
    }
}

/// Deletes records that are too old, now and then.
async fn purge(activations: Arc<Activations>, keep: Duration) {
    let mut ticks = tokio::time::interval(PURGE_EVERY);
    loop {
        ticks.tick().await;
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        match activations.purge_older_than(now_ms().saturating_sub(keep_ms)).await {
            Ok(0) => {}
            Ok(purged) => tracing::info!(purged, "deleted old activations"),
            Err(error) => tracing::warn!(%error, "old activations cannot be deleted"),
        }
    }
}

async fn launch(
    options: &LocalOptions,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Launchpad, StartError> {
    let work = options.data.join("work");
    let leftovers = kwsk_shim::reap_leftovers(&work);
    if leftovers > 0 {
        tracing::info!(leftovers, "ended runtimes that an earlier process left behind");
    }
    let sandbox = Sandbox {
        api_host: Some(options.api_host.clone()),
        path: runtimes::search_path(),
        cgroup: options.cgroup.clone(),
        ..Sandbox::new(work)
    };
    let launchpad = Launchpad::new(sandbox, tasks.clone(), stop.clone()).await?;
    if options.stem_cells > 0 {
        let defaults = options.platform.manifest.kinds().filter(|kind| kind.default);
        for runtime in defaults.filter_map(kwsk_shim::Runtime::of_kind) {
            if runtime.is_prewarmable() {
                launchpad.set_stem_cells(Arc::new(runtime), options.stem_cells);
            }
        }
    }
    Ok(launchpad)
}

/// Follows the KServices: deleted ones lose their instances, changed ones their old instances, and those with a
/// `min-scale` get theirs. Requests do not depend on it, they renew the pool they meet.
async fn reconcile(documents: Arc<Documents>, services: Services, blueprints: Arc<Blueprints>) {
    let mut events = documents.watch(ResourceKind::KService);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Applied(document)) => {
                let outdated = services.is_outdated_by(&document);
                if (outdated || Blueprints::min_scale(&document) > 0)
                    && let Err(error) = services.reconcile(&document, || blueprints.of(&document))
                {
                    tracing::warn!(object = %document.key(), %error, "cannot be reconciled");
                }
            }
            Ok(Event::Deleted(key)) => services.forget(&key),
            Err(error) => tracing::warn!(%error, "the watch of KServices was interrupted"),
        }
    }
}

struct LocalInvoker {
    services: Services,
    blueprints: Arc<Blueprints>,
    channels: Arc<Channels>,
}

#[async_trait]
impl Invoker for LocalInvoker {
    async fn invoke(&self, call: Call) -> Result<Report> {
        let Call { service, context, arguments, begin } = call;
        let run = Run { context, arguments };
        self.services.run(&service, || self.blueprints.of(&service), run, begin).await
    }

    async fn publish(&self, channel: &Key, event: CloudEvent) -> Result<()> {
        self.channels.publish(channel, event).await
    }
}

#[async_trait]
impl Cluster for LocalCluster {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Document>>> {
        self.documents.get(key).await
    }

    async fn list(
        &self,
        of: ResourceKind,
        within: Option<&str>,
        with: &Labels,
    ) -> Result<Vec<Arc<Document>>> {
        self.documents.list(of, within, with).await
    }

    async fn apply(&self, document: Document, how: Apply) -> Result<Arc<Document>> {
        self.documents.apply(document, how).await
    }

    async fn delete(&self, key: &Key, only_if: Precondition) -> Result<Option<Arc<Document>>> {
        self.documents.delete(key, only_if).await
    }

    fn watch(&self, of: ResourceKind) -> BoxStream<'static, Result<Event>> {
        self.documents.watch(of)
    }
}
