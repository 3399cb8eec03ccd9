//! [`App`]: what every handler needs. [`Standalone`]: an App and the machine underneath it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use kwsk_knative::cluster::local::{LocalCluster, LocalOptions, RuntimeFinding, detect};
use kwsk_knative::ops::{Ops, invoke};
use kwsk_model::identity::{AuthKey, NamespaceLimits, Subject, SubjectNamespace};
use kwsk_model::name::Namespace;
use kwsk_translate::platform::Platform;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::guard::Guard;
use crate::layers::MAX_LARGE_BODIES;
use crate::report::Fatal;
use crate::routes;

/// The key every OpenWhisk distribution gives to the namespace `guest`.
pub const GUEST_KEY: &str =
    "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";
/// The key every OpenWhisk distribution gives to the namespace `whisk.system`.
pub const SYSTEM_KEY: &str =
    "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

/// Everything a handler needs, built once.
pub struct App {
    /// The operations.
    pub ops: Arc<Ops>,
    /// Who may send requests at all.
    pub guard: Guard,
    /// The document of `GET /`.
    pub(crate) about: Bytes,
    /// Places for large bodies.
    pub(crate) large_bodies: Arc<Semaphore>,
}

impl App {
    /// An App on these operations.
    #[must_use]
    pub fn new(ops: Arc<Ops>, guard: Guard) -> Arc<Self> {
        let about = routes::about(&ops.platform);
        Arc::new(Self { ops, guard, about, large_bodies: Arc::new(Semaphore::new(MAX_LARGE_BODIES)) })
    }
}

/// A platform on one machine: the App over a [`LocalCluster`].
pub struct Standalone {
    app: Arc<App>,
    cluster: LocalCluster,
    runtimes: Vec<RuntimeFinding>,
}

impl Standalone {
    /// Opens the data directory, makes sure the well-known subjects exist, and goes on with what an earlier process
    /// had accepted.
    ///
    /// # Errors
    /// A [`Fatal`] that names the way out.
    pub async fn start(config: &Config, listen: SocketAddr) -> Result<Self, Fatal> {
        let manifest = config.manifest.clone();
        // Looks for programs on disk and starts each.
        let found = tokio::task::spawn_blocking(move || detect(&manifest)).await;
        let (manifest, runtimes) = found.map_err(|error| Fatal::Runtime(error.into()))?;
        let platform = Arc::new(Platform { limits: config.limits, ..Platform::with_manifest(manifest) });
        let api_host = config.api_host(listen);
        let guard = Guard::new(listen, &api_host, &config.allow_origin);
        let options = LocalOptions {
            data: config.data.clone(),
            platform: Arc::clone(&platform),
            api_host,
            memory_mb: config.memory_mb,
            idle: config.idle,
            stem_cells: config.stem_cells,
            max_store_bytes: config.max_store_bytes,
            keep_activations: config.keep_activations,
            cgroup: config.cgroup.clone(),
            subjects: vec![well_known("guest", GUEST_KEY), well_known("whisk.system", SYSTEM_KEY)],
        };
        let cluster = LocalCluster::start(options).await?;
        let ops = Ops::new(cluster.ports(), platform);
        let resumed = invoke::resume(&ops).await.map_err(Fatal::State)?;
        if resumed > 0 {
            tracing::info!(resumed, "going on with what was accepted before the restart");
        }
        cluster.resume().await.map_err(Fatal::State)?;
        Ok(Self { app: App::new(ops, guard), cluster, runtimes })
    }

    /// The App, for [`crate::serve()`].
    #[must_use]
    pub fn app(&self) -> Arc<App> {
        Arc::clone(&self.app)
    }

    /// What was found out about each kind of the manifest.
    #[must_use]
    pub fn runtimes(&self) -> &[RuntimeFinding] {
        &self.runtimes
    }

    /// What protects this machine from actions.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        self.cluster.features()
    }

    /// Waits for runs that have begun; what has not stays in the journal.
    pub async fn drain(&self) {
        self.app.ops.drain().await;
    }

    /// Ends every runtime and writes what is still queued.
    pub async fn stop(self) {
        self.cluster.shutdown().await;
    }
}

fn well_known(name: &str, key: &str) -> Subject {
    let (Ok(namespace), Ok(auth)) = (Namespace::new(name), key.parse::<AuthKey>()) else {
        unreachable!("the well-known subjects are checked by a test");
    };
    Subject {
        subject: name.to_owned(),
        namespaces: vec![SubjectNamespace { name: namespace, auth }],
        blocked: false,
        limits: NamespaceLimits::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_subjects() {
        for (name, key) in [("guest", GUEST_KEY), ("whisk.system", SYSTEM_KEY)] {
            assert_eq!(well_known(name, key).namespaces[0].auth.reveal(), key);
        }
    }
}
