//! Many events in one request.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Reply;
use super::answer;
use super::metrics::Caller;
use super::request::Origin;
use super::surface::Surface;
use crate::clock::Clock;
use crate::spec::{Report, Run};

/// Runs them all and answers with their activations in the same order.
pub(super) async fn answer(surface: &Arc<Surface>, asked: Vec<(Run, Origin)>) -> Reply {
    let (runs, origins): (Vec<Run>, Vec<Origin>) = asked.into_iter().unzip();
    let ids: Vec<String> = runs.iter().map(|run| run.context.activation_id.clone()).collect();
    let reports = run_all(surface, runs).await;
    // Events that did run are not to be sent again, so one that did is enough to be told which did not.
    if let Some(first) = reports.first()
        && reports.iter().all(|report| !report.ran)
    {
        return answer::not_run(first);
    }
    let events = reports.iter().zip(ids).zip(origins);
    let events: Vec<_> = events
        .filter_map(|((report, id), origin)| answer::event_of(report, &id, origin, surface.action()))
        .collect();
    answer::of_batch(&events)
}

/// The reports in the order of the runs, of which as many as the action takes run at a time.
async fn run_all(surface: &Arc<Surface>, runs: Vec<Run>) -> Vec<Report> {
    let places = surface.shim().spec().concurrency.max(1) as usize;
    if places == 1 {
        let mut reports = Vec::with_capacity(runs.len());
        for run in runs {
            reports.push(surface.run(run, Caller::Event).await);
        }
        return reports;
    }
    let mut reports: Vec<Option<Report>> = runs.iter().map(|_| None).collect();
    let mut runs = runs.into_iter().enumerate();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < places
            && let Some((index, run)) = runs.next()
        {
            let surface = Arc::clone(surface);
            tasks.spawn(async move { (index, surface.run(run, Caller::Event).await) });
        }
        match tasks.join_next().await {
            Some(Ok((index, report))) => reports[index] = Some(report),
            Some(Err(error)) => tracing::error!(%error, "the run of an event was interrupted"),
            None => break,
        }
    }
    let interrupted = || Clock::start().platform_error("The run was interrupted.");
    reports.into_iter().map(|report| report.unwrap_or_else(interrupted)).collect()
}
