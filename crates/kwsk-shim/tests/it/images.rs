//! Images over the registry API: against Debian's `docker-registry`, and against registries that lie.

mod append;
mod build;
mod refusals;
mod registry;
