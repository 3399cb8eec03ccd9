//! Tests of the whole platform over HTTP.

mod api;
mod coverage;
