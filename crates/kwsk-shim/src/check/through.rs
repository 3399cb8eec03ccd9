//! The cases about activations: what a shim reports of the runtime.

use std::time::Duration;

use kwsk_model::activation::Outcome;
use kwsk_model::json::RawJson;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::bench::{Bench, Mode, context};
use super::call::shown;
use super::finding::Stop;
use super::samples::Sample;
use crate::shim::Shim;
use crate::spec::{Report, Run};

const TEXT: &str = "«ταБЬℓσö»: 1<2 & 4+1>³, now 20%€§$ off! 🦀";
const DIED: &str = "The action did not produce a valid response and exited unexpectedly.";
/// What upstream's ActionLoop proxies answer when the action's process ends.
const COMMAND_EXITED: &str = "command exited";
const TOO_LONG: &str = "The action produced a response that exceeded the allowed length: ";
/// Beyond what results may have.
const TOO_LARGE: u64 = 1_100_000;
const LOG_LIMIT: u64 = 40;

type Checked = Result<(), Stop>;

/// An activation and its report.
struct Seen {
    sent: String,
    report: Report,
}

async fn run(shim: &Shim, arguments: Value) -> Seen {
    let sent = format!("an activation with {}", shown(&arguments.to_string()));
    let report = shim.run(Run { context: context(), arguments: RawJson::from(arguments) }).await;
    Seen { sent, report }
}

impl Seen {
    fn expect(&self, expected: &str, good: impl FnOnce(&Self) -> bool) -> Checked {
        if good(self) { Ok(()) } else { Err(self.fail(expected)) }
    }

    fn fail(&self, expected: &str) -> Stop {
        let result = self.report.response.result.as_ref().map_or("nothing", RawJson::get);
        let code = self.report.response.outcome.code();
        let mut got = format!("status {code} and {}", shown(result));
        if !self.report.logs.is_empty() {
            got.push_str(&format!(", logs {}", shown(&format!("{:?}", self.report.logs))));
        }
        Stop::fail(self.sent.clone(), expected, got)
    }

    fn outcome(&self) -> Outcome {
        self.report.response.outcome
    }

    fn result(&self) -> Value {
        self.report.response.result.as_ref().map_or(Value::Null, RawJson::to_value)
    }

    fn error(&self) -> String {
        match &self.result()["error"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Log lines without their time; sorted, since who prints on two streams cannot say which is read first.
    fn lines(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = self
            .report
            .logs
            .iter()
            .map(|line| line.split_once(' ').map_or("", |(_, rest)| rest.trim_start()))
            .collect();
        lines.sort_unstable();
        lines
    }

    fn succeeds_with(&self, wanted: &Value) -> Checked {
        let expected = format!("success (status 0) and {}", shown(&wanted.to_string()));
        self.expect(&expected, |seen| seen.outcome() == Outcome::Success && seen.result() == *wanted)
    }

    fn succeeds(&self) -> Checked {
        self.expect("success (status 0)", |seen| seen.outcome() == Outcome::Success)
    }

    fn is_warm(&self) -> Checked {
        self.expect("no second /init", |seen| seen.report.init_ms.is_none())
    }

    fn is_developer_error(&self) -> Checked {
        self.expect("a developer error (status 2) and `error`", |seen| {
            seen.outcome() == Outcome::DeveloperError && seen.result().get("error").is_some()
        })
    }
}

pub(super) async fn result(bench: &mut Bench, mode: Mode) -> Checked {
    let own = bench.brings_own();
    let shim = bench.shim(mode, Sample::Echo, |_| ()).await?;
    for n in 0..3 {
        let arguments = json!({ "n": n });
        let seen = run(&shim, arguments.clone()).await;
        if own {
            let good = |seen: &Seen| matches!(seen.outcome(), Outcome::Success | Outcome::ApplicationError);
            seen.expect("an object or an array (status 0 or 1)", good)?;
        } else {
            seen.succeeds_with(&arguments)?;
        }
        if n > 0 {
            seen.is_warm()?;
        }
    }
    Ok(())
}

pub(super) async fn logs(bench: &mut Bench) -> Checked {
    if !bench.options.sentinels {
        return Err(Stop::skip("without sentinels logs cannot be told apart"));
    }
    let shim = bench.shim(Mode::Exec, Sample::Logs, |_| ()).await?;
    // What /init printed belongs to the activation that needed it.
    run(&shim, json!({"text": "first"})).await.succeeds()?;
    for text in [TEXT, "another"] {
        let seen = run(&shim, json!({"text": text})).await;
        seen.succeeds()?;
        let wanted = [format!("stderr: {text}"), format!("stdout: {text}")];
        seen.expect(&format!("the logs {wanted:?}"), |seen| seen.lines() == wanted)?;
    }
    Ok(())
}

pub(super) async fn error(bench: &mut Bench, mode: Mode) -> Checked {
    let shim = bench.shim(mode, Sample::Error, |_| ()).await?;
    for n in 0..2 {
        let seen = run(&shim, json!({})).await;
        seen.expect("an application error (status 1) and {\"error\":\"refused\"}", |seen| {
            seen.outcome() == Outcome::ApplicationError && seen.result() == json!({"error": "refused"})
        })?;
        if n > 0 {
            seen.is_warm()?;
        }
    }
    Ok(())
}

pub(super) async fn exception(bench: &mut Bench, mode: Mode) -> Checked {
    let shim = bench.shim(mode, Sample::Throws, |_| ()).await?;
    let seen = run(&shim, json!({})).await;
    seen.expect("an error of the action (status 1 or 2) with the text `thrown`", |seen| {
        matches!(seen.outcome(), Outcome::ApplicationError | Outcome::DeveloperError)
            && seen.error().contains("thrown")
    })
}

pub(super) async fn broken_code(bench: &mut Bench, mode: Mode) -> Checked {
    let shim = bench.shim(mode, Sample::Broken, |_| ()).await?;
    run(&shim, json!({})).await.is_developer_error()
}

pub(super) async fn null(bench: &mut Bench, mode: Mode) -> Checked {
    let shim = bench.shim(mode, Sample::Null, |_| ()).await?;
    run(&shim, json!({})).await.is_developer_error()
}

pub(super) async fn scalar(bench: &mut Bench, mode: Mode) -> Checked {
    let shim = bench.shim(mode, Sample::Scalar, |_| ()).await?;
    run(&shim, json!({})).await.is_developer_error()
}

pub(super) async fn large_result(bench: &mut Bench, mode: Mode) -> Checked {
    let shim = bench.shim(mode, Sample::Large, |_| ()).await?;
    let seen = run(&shim, json!({"size": TOO_LARGE})).await;
    seen.expect(&format!("an application error (status 1) that begins with {TOO_LONG}"), |seen| {
        seen.outcome() == Outcome::ApplicationError
            && seen.error().starts_with(TOO_LONG)
            && seen.error().ends_with('a')
    })?;
    let seen = run(&shim, json!({"size": 1})).await;
    seen.succeeds_with(&json!({"text": "a"}))?;
    seen.is_warm()
}

pub(super) async fn time_limit(bench: &mut Bench, mode: Mode) -> Checked {
    let limit = u64::try_from(bench.options.time_limit.as_millis()).unwrap_or(u64::MAX);
    let shim = bench.shim(mode, Sample::Hang, |spec| spec.timeout_ms = limit).await?;
    let seen = run(&shim, json!({})).await;
    let wanted = format!("The action exceeded its time limits of {limit} milliseconds.");
    seen.expect(&format!("a developer error (status 2): {wanted}"), |seen| {
        seen.outcome() == Outcome::DeveloperError && seen.error() == wanted && seen.report.timed_out
    })
}

pub(super) async fn exit(bench: &mut Bench, mode: Mode) -> Checked {
    let shim = bench.shim(mode, Sample::Exit, |_| ()).await?;
    run(&shim, json!({})).await.succeeds_with(&json!({}))?;
    let seen = run(&shim, json!({"exit": true})).await;
    seen.expect(&format!("a developer error (status 2): {DIED}"), |seen| {
        seen.outcome() == Outcome::DeveloperError && [DIED, COMMAND_EXITED].contains(&seen.error().as_str())
    })?;
    match mode {
        Mode::Exec => run(&shim, json!({})).await.succeeds_with(&json!({})),
        // Whoever started it starts it again.
        Mode::Attach => Ok(()),
    }
}

pub(super) async fn log_limit(bench: &mut Bench) -> Checked {
    let shim = bench.shim(Mode::Exec, Sample::Logs, |spec| spec.logs_bytes = LOG_LIMIT).await?;
    let text = "a".repeat(usize::try_from(LOG_LIMIT).unwrap_or(0));
    let seen = run(&shim, json!({ "text": text })).await;
    seen.succeeds()?;
    let wanted =
        format!("Logs were truncated because the total bytes size exceeds the limit of {LOG_LIMIT} bytes.");
    seen.expect(&format!("a log line: {wanted}"), |seen| {
        seen.report.logs.iter().any(|line| line.ends_with(&wanted)) && !seen.lines().contains(&text.as_str())
    })
}

pub(super) async fn concurrent(bench: &mut Bench, mode: Mode) -> Checked {
    let Some(count) = bench.options.concurrent.filter(|n| *n > 1) else {
        return Err(Stop::skip("no concurrency is declared"));
    };
    let limit = bench.options.timeout + Duration::from_secs(1);
    let shim = bench.shim(mode, Sample::Together, |spec| {
        spec.concurrency = count;
        spec.logs_bytes = 0;
    });
    let shim = shim.await?;
    let mut runs = JoinSet::new();
    for _ in 0..count {
        let shim = shim.clone();
        runs.spawn(async move { run(&shim, json!({"together": count})).await });
    }
    let all = async {
        while let Some(seen) = runs.join_next().await {
            let seen = seen.map_err(|error| Stop::fail("an activation", "its report", error.to_string()))?;
            seen.succeeds_with(&json!({"together": count}))?;
        }
        Ok(())
    };
    let late = |_| Err(Stop::fail(format!("{count} activations"), "their reports", "none in time"));
    tokio::time::timeout(limit * 2, all).await.unwrap_or_else(late)
}
