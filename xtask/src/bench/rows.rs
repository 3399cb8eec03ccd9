//! The table. A new row is a line here and a function that measures it.

mod cold;
mod durable;
mod footprint;
mod proxy;
mod shim;
mod warm;

use super::Better::{Higher, Lower};
use super::{Better, Row};

pub(crate) const ALL: &[Row] = &[
    ratio("P1", "shim POST / ÷ direct POST /run, p50: node http runtime", Lower, 1.15, 1.15, shim::node),
    ratio("P1", "shim POST / ÷ direct POST /run, p50: python http runtime", Lower, 1.15, 1.15, shim::python),
    ratio("P1", "shim POST / ÷ direct POST /run, p50: tiny Rust http runtime", Lower, 2.2, 1.8, shim::tiny),
    ratio("P1", "shim over actionloop ÷ direct POST /run, p50: node", Lower, 1.15, 1.0, shim::node_loop),
    ratio("P2", "shim requests per CPU second ÷ a bare hyper echo's", Higher, 0.4, 0.5, shim::per_core),
    ratio("P3", "warm blocking invoke ÷ POST to the same shim, p50: node", Lower, 1.2, 1.1, warm::node),
    ratio("P3", "warm blocking invoke ÷ POST to the same shim, p50: echo", Lower, 1.8, 1.6, warm::echo),
    ratio(
        "P4",
        "invokes per CPU second, recorded ÷ plain hyper reverse proxy",
        Higher,
        0.6,
        0.8,
        proxy::per_core,
    ),
    ratio("P5", "durable 202, p99 ÷ fdatasync p99", Lower, 1.5, 1.2, durable::latency),
    ratio(
        "P5",
        "durable 202, rate with 64 in flight ÷ batched SQLite inserts",
        Higher,
        0.5,
        0.7,
        durable::rate,
    ),
    ratio("P8", "cold invoke ÷ bare spawn, init and run: node", Lower, 1.05, 1.05, cold::bare),
    ratio(
        "P8",
        "cold invoke with a stem cell ÷ bare spawn, init and run: node",
        Lower,
        0.25,
        0.1,
        cold::prewarmed,
    ),
    size("P9", "resident memory, server idle", "MB", 15.0, 10.0, footprint::idle),
    size("P9", "resident memory per 10,000 actions", "MB", 20.0, 10.0, footprint::actions),
    size("P9", "resident memory, shim", "MB", 4.0, 2.5, footprint::shim),
    aside("P9", "resident memory, bare node http runtime", "MB", footprint::runtime),
    size("P11", "process start to first answer", "ms", 50.0, 20.0, footprint::start),
    aside("P11", "process start to ready, shim", "ms", footprint::shim_start),
    aside("P11", "process start to listening, bare node http runtime", "ms", footprint::runtime_start),
    size("P11", "binary, server", "MB", 20.0, 12.0, footprint::server_binary),
    size("P11", "binary, shim", "MB", 3.0, 2.0, footprint::shim_binary),
];

type Measure = fn(&super::lab::Lab) -> anyhow::Result<super::stats::Reading>;

const fn ratio(
    id: &'static str,
    what: &'static str,
    better: Better,
    aim: f64,
    stretch: f64,
    measure: Measure,
) -> Row {
    Row { id, what, unit: "", better, aim, stretch, measure }
}

const fn size(
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    aim: f64,
    stretch: f64,
    measure: Measure,
) -> Row {
    Row { id, what, unit, better: Lower, aim, stretch, measure }
}

/// No aim: what a user would have instead, for comparison.
const fn aside(id: &'static str, what: &'static str, unit: &'static str, measure: Measure) -> Row {
    size(id, what, unit, f64::NAN, f64::NAN, measure)
}
