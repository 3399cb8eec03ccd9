//! Images over the registry API, without a daemon.

mod appender;
mod attest;
mod cache;
mod client;
pub mod command;
mod credentials;
mod digest;
mod document;
mod edit;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod layout;
mod media;
mod platform;
mod progress;
mod recipe;
mod reference;
mod shim_layer;
mod transport;
mod tree;
mod verified;

pub use appender::{AppendRequest, Appended, Appender, Blobs, to_stderr};
pub use cache::Cache;
pub use client::Client;
pub use credentials::Credentials;
pub use digest::Digest;
pub use error::ImageError;
pub use layout::Layout;
pub use platform::Platform;
pub use progress::Progress;
pub use recipe::{LayerRecipe, Recipe, Step, host_architecture};
pub use reference::Reference;
pub use shim_layer::{SHIM_PATH, ShimLayer, Shims};
