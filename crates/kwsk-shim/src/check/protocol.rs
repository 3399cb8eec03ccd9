//! The cases about `/init` and `/run` themselves.

use kwsk_model::proxy::LOG_SENTINEL;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::bench::{Bench, context};
use super::call::{Exchange, Reply};
use super::finding::Stop;
use super::samples::Sample;
use super::subject::sentinels;

const REFUSED: &str = "a status other than 200 and a JSON object with `error`";
const TWICE: &str = "Cannot initialize the action more than once.";
const TEXT: &str = "«ταБЬℓσö»: 1<2 & 4+1>³, now 20%€§$ off! 🦀";
const LARGE: usize = 1_000_000;

type Checked = Result<(), Stop>;

fn is_refused(reply: &Reply) -> bool {
    reply.status != 200 && reply.has_error()
}

/// 200 and exactly this result.
fn result_is(exchange: &Exchange, wanted: &Value) -> Checked {
    let expected = format!("status 200 and {}", super::call::shown(&wanted.to_string()));
    exchange.answered_if(&expected, |reply| reply.status == 200 && reply.json() == *wanted).map(|_| ())
}

pub(super) async fn accepts(bench: &mut Bench) -> Checked {
    bench.subject().await.map(|_| ())
}

pub(super) async fn run_before_init(bench: &mut Bench) -> Checked {
    bench.untouched()?;
    bench.run(json!({})).await?.answered_if(REFUSED, is_refused).map(|_| ())
}

pub(super) async fn init(bench: &mut Bench) -> Checked {
    bench.ready_somehow().await
}

pub(super) async fn run_object(bench: &mut Bench) -> Checked {
    bench.ready_somehow().await?;
    let arguments = json!({"text": "a", "number": 1.5, "nested": {"list": [1, null, true, {}]}, "empty": ""});
    let run = bench.run(arguments.clone()).await?;
    if bench.brings_own() {
        let good =
            |reply: &Reply| reply.status == 200 && (reply.json().is_object() || reply.json().is_array());
        return run.answered_if("status 200 and a JSON object or array", good).map(|_| ());
    }
    result_is(&run, &arguments)
}

pub(super) async fn run_array(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Echo).await?;
    let arguments = json!([1, "two", {"three": [3]}]);
    result_is(&bench.run(arguments.clone()).await?, &arguments)
}

pub(super) async fn unicode(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Echo).await?;
    let arguments = json!({"text": TEXT, TEXT: "name"});
    result_is(&bench.run(arguments.clone()).await?, &arguments)
}

pub(super) async fn large_arguments(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Echo).await?;
    let arguments = json!({"text": "a".repeat(LARGE)});
    result_is(&bench.run(arguments.clone()).await?, &arguments)
}

pub(super) async fn unknown_path(bench: &mut Bench) -> Checked {
    bench.ready_somehow().await?;
    let asked = bench.post("/elsewhere", "{}").await?;
    asked.answered_if("a status other than 200", |reply| reply.status != 200).map(|_| ())
}

pub(super) async fn malformed_body(bench: &mut Bench) -> Checked {
    bench.ready_somehow().await?;
    let broken = bench.post("/run", "{\"value\":").await?;
    broken.answered_if("a status other than 200", |reply| reply.status != 200)?;
    let after = bench.run(json!({})).await?;
    let expected = "status 200 or a JSON object with `error`, after the request POST /run {\"value\":";
    after.answered_if(expected, |reply| reply.status == 200 || reply.has_error()).map(|_| ())
}

pub(super) async fn init_twice(bench: &mut Bench) -> Checked {
    bench.ready_somehow().await?;
    let sample = (!bench.brings_own()).then_some(Sample::Echo);
    let again = bench.init(sample, json!({})).await?;
    let expected = format!("status 403 and {{\"error\":\"{TWICE}\"}}, after a first /init with 200");
    again.answered_if(&expected, |reply| reply.status == 403 && reply.json()["error"] == TWICE).map(|_| ())
}

pub(super) async fn sentinels_once(bench: &mut Bench) -> Checked {
    if !bench.options.sentinels {
        return Err(Stop::skip("the runtime is said to print none"));
    }
    bench.fresh()?;
    bench.ready_somehow().await?;
    let before = printed(bench, |_| true).await;
    // Two runs, since a superfluous sentinel may come later than the first.
    for done in 1..=2 {
        bench.run(json!({"text": TEXT})).await?.answered_if("status 200", |reply| reply.status == 200)?;
        let lines =
            printed(bench, |now| (0..2).all(|i| sentinels(&now[i]) >= sentinels(&before[i]) + done)).await;
        for (i, stream) in ["stdout", "stderr"].into_iter().enumerate() {
            let new = &lines[i][before[i].len().min(lines[i].len())..];
            let last = new.last().is_some_and(|line| line.ends_with(LOG_SENTINEL));
            if sentinels(new) != done || !last {
                let expected = format!("{done} times {LOG_SENTINEL} on {stream}, the last line");
                let got = super::call::shown(&format!("{new:?}"));
                return Err(Stop::fail(format!("{done} runs"), expected, got));
            }
        }
    }
    Ok(())
}

async fn printed(bench: &mut Bench, enough: impl Fn(&[Vec<String>; 2]) -> bool) -> [Vec<String>; 2] {
    match bench.subject().await {
        Ok(subject) => subject.printed(enough).await.unwrap_or_default(),
        Err(_) => Default::default(),
    }
}

pub(super) async fn init_without_code(bench: &mut Bench) -> Checked {
    bench.given()?;
    bench.fresh()?;
    bench.init(None, json!({})).await?.answered_if(REFUSED, is_refused).map(|_| ())
}

pub(super) async fn init_broken_code(bench: &mut Bench) -> Checked {
    bench.fresh()?;
    bench.init(Some(Sample::Broken), json!({})).await?.answered_if(REFUSED, is_refused).map(|_| ())
}

pub(super) async fn entry_point(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Entry).await?;
    result_is(&bench.run(json!({})).await?, &json!({"other": true}))
}

pub(super) async fn init_env(bench: &mut Bench) -> Checked {
    let env = json!({"CHECK_TEXT": "a = 'b' \"c\"", "CHECK_NUMBER": "1", "CHECK_EMPTY": ""});
    bench.ready_with(Sample::Env, env.clone()).await?;
    environment_has(&bench.run(json!({})).await?, &env)
}

/// The result of the sample that returns its environment.
fn environment_has(run: &Exchange, wanted: &Value) -> Checked {
    let expected = format!("status 200 and an object with {wanted}");
    let reply = run.answered(&expected)?;
    let seen = reply.json();
    let wanted = wanted.as_object().into_iter().flatten();
    let wrong: Vec<String> = wanted
        .filter(|(name, value)| seen.get(name.as_str()) != Some(value))
        .map(|(name, _)| format!("{name}={}", seen.get(name).unwrap_or(&Value::Null)))
        .collect();
    if reply.status == 200 && wrong.is_empty() {
        return Ok(());
    }
    let got = format!("{} and {}", reply.status, wrong.join(", "));
    Err(Stop::fail("POST /run to an action that returns its environment", expected, got))
}

pub(super) async fn run_env(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Env).await?;
    for _ in 0..2 {
        let context = context();
        let wanted: Value =
            context.variables().into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        environment_has(&bench.run_as(json!({}), context).await?, &wanted)?;
    }
    Ok(())
}

pub(super) async fn logs(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Logs).await?;
    bench.run(json!({"text": TEXT})).await?.answered_if("status 200", |reply| reply.status == 200)?;
    let has = |lines: &[String]| lines.iter().any(|line| line.starts_with(TEXT));
    let lines = printed(bench, |now| has(&now[0]) && has(&now[1])).await;
    for (stream, lines) in ["stdout", "stderr"].into_iter().zip(&lines) {
        if !has(lines) {
            let got = super::call::shown(&format!("{lines:?}"));
            return Err(Stop::fail("a run that prints on both streams", format!("{TEXT} on {stream}"), got));
        }
    }
    Ok(())
}

pub(super) async fn large_result(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Large).await?;
    result_is(&bench.run(json!({"size": LARGE})).await?, &json!({"text": "a".repeat(LARGE)}))
}

pub(super) async fn state(bench: &mut Bench) -> Checked {
    bench.ready(Sample::State).await?;
    for count in 1..=3 {
        result_is(&bench.run(json!({})).await?, &json!({"count": count}))?;
    }
    Ok(())
}

pub(super) async fn error(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Error).await?;
    result_is(&bench.run(json!({})).await?, &json!({"error": "refused"}))
}

pub(super) async fn exception(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Throws).await?;
    bench.run(json!({})).await?.answered_if("a JSON object with `error`", Reply::has_error).map(|_| ())
}

pub(super) async fn exception_status(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Throws).await?;
    let run = bench.run(json!({})).await?;
    run.answered_if("a status other than 200", |reply| reply.status != 200).map(|_| ())
}

pub(super) async fn nothing(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Nothing).await?;
    result_is(&bench.run(json!({})).await?, &json!({}))
}

pub(super) async fn null(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Null).await?;
    let good = |reply: &Reply| is_refused(reply) || reply.status == 200 && reply.body.trim() == "null";
    let expected = format!("status 200 and null, or {REFUSED}");
    bench.run(json!({})).await?.answered_if(&expected, good).map(|_| ())
}

pub(super) async fn scalar(bench: &mut Bench) -> Checked {
    bench.ready(Sample::Scalar).await?;
    bench.run(json!({})).await?.answered_if(REFUSED, is_refused).map(|_| ())
}

pub(super) async fn concurrent(bench: &mut Bench) -> Checked {
    let Some(count) = bench.options.concurrent.filter(|n| *n > 1) else {
        return Err(Stop::skip("no concurrency is declared"));
    };
    bench.ready(Sample::Together).await?;
    let (address, patience) = (bench.subject().await?.address, bench.options.timeout);
    let mut runs = JoinSet::new();
    for _ in 0..count {
        let body = super::bench::run_body(json!({"together": count}), context());
        runs.spawn(async move { Exchange::post(address, "/run", body.into(), patience).await });
    }
    while let Some(run) = runs.join_next().await {
        let run = run.map_err(|error| Stop::fail("a run", "its end", error.to_string()))?;
        result_is(&run, &json!({"together": count}))?;
    }
    Ok(())
}
