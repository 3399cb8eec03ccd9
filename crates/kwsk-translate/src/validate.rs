//! Every refusal of a write: what is asked for, plus what there is, → what is to be stored, or [`Invalid`].
//!
//! The order of the checks decides which error a client sees, and is upstream's. What depends on rights (403 and 404
//! of other people's packages) is decided before these functions are called.

mod action;
mod package;
mod rule;
mod trigger;

pub use action::action;
pub use package::{BindingTarget, package, package_delete};
pub use rule::{rule, rule_links, rule_state};
pub use trigger::trigger;

use kwsk_model::limits::{MAX_PARAMETERS_BYTES, MAX_PAYLOAD_BYTES, TooLarge};
use kwsk_model::params::{Annotations, Parameters};
use kwsk_model::version::SemVer;

use crate::error::Invalid;

/// Checks the payload of an invocation or a fire.
///
/// # Errors
/// [`Invalid::TooLarge`] above [`MAX_PAYLOAD_BYTES`].
pub fn payload_size(bytes: u64) -> Result<(), Invalid> {
    Ok(TooLarge::check("Request", bytes, MAX_PAYLOAD_BYTES)?)
}

fn sizes(parameters: Option<&Parameters>, annotations: Option<&Annotations>) -> Result<(), Invalid> {
    TooLarge::check("parameters", parameters.map_or(0, Parameters::json_size), MAX_PARAMETERS_BYTES)?;
    TooLarge::check("annotations", annotations.map_or(0, Annotations::json_size), MAX_PARAMETERS_BYTES)?;
    Ok(())
}

/// 409 when there is one already and it is not to be overwritten.
fn may_write<T>(existing: Option<&T>, overwrite: bool) -> Result<(), Invalid> {
    if existing.is_some() && !overwrite { Err(Invalid::Exists) } else { Ok(()) }
}

/// The version asked for; else the patch level plus one; else the first.
fn next_version(asked: Option<SemVer>, existing: Option<SemVer>) -> SemVer {
    asked.unwrap_or_else(|| existing.map_or_else(SemVer::default, SemVer::bumped))
}

#[cfg(test)]
mod tests;
