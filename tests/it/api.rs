//! The API, noun by noun: status and body, as many refusals as successes.

mod actions;
mod activations;
mod info;
mod invoke;
mod names;
mod packages;
mod queries;
mod rules;
mod throttle;
mod transport;
mod triggers;
mod web_pages;
