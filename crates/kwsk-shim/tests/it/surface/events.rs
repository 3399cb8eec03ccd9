//! CloudEvents in, activations out.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn events() {
    let served = served(echo()).await;
    let path = "POST /kwsk/rule/guest/a%20rule";
    let first = ask(served.address, path, &BINARY, r#"{"q":3}"#).await;
    let body = first.json();
    assert_eq!((first.status, &body["got"]), (200, &json!({"p":1,"q":3})));
    let rule = "guest/a rule".parse().unwrap();
    assert_eq!(body["id"], json!(ActivationId::of_rule("/s", "7", &rule)));
    assert_eq!(first.header(header::ACTIVATION), body["id"].as_str());
    let again = ask(served.address, path, &STRUCTURED, &structured("7", r#"{"q":9}"#)).await;
    assert_eq!((again.status, again.json()), (200, body), "a redelivered event is not run again");
    for path in ["POST /", "POST /any/path", "POST /kwsk/rule/nonsense"] {
        let direct = ask(served.address, path, &STRUCTURED, &structured("7", r#"{"q":9}"#)).await.json();
        let expected = ActivationId::of_rule("/s", "7", &"_/act".parse().unwrap());
        assert_eq!((&direct["got"], &direct["id"]), (&json!({"p":1,"q":9}), &json!(expected)));
    }
    let other = ask(served.address, "POST /", &BINARY, "[1]").await.json();
    assert_eq!(other["got"]["q"], json!(9), "same id, same answer");
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_events_carry() {
    let served = served(source("function main(a) { return {got: a} }")).await;
    let attributes = |more: Value| {
        let mut all = json!({"id":"7","source":"/s","type":"t"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let typed = |media_type: &'static str| [("content-type", media_type)];
    for (number, (headers, body, got)) in [
        (&typed("application/json")[..], r#"{"b":1,"a":2}"#, json!({"b":1,"a":2})),
        (&[], r#"{"b":1}"#, json!({"b":1})),
        (&[], "", json!({})),
        (
            &typed("text/plain"),
            "hi",
            json!({"data":"hi","ce":attributes(json!({"datacontenttype":"text/plain"}))}),
        ),
        (
            &typed("image/png"),
            "x",
            json!({"data":"eA==","ce":attributes(json!({"datacontenttype":"image/png"}))}),
        ),
        (
            &[("ce-subject", "m%C3%BCller%20%F0%9F%98%80"), ("ce-count", "7")],
            "[1]",
            json!({"data":[1],"ce":attributes(json!({"subject":"müller 😀","count":"7"}))}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // Another rule each time: the same event would not be run again.
        let line = format!("POST /kwsk/rule/guest/r{number}");
        let answer = ask(served.address, &line, &[&BINARY, headers].concat(), body).await;
        assert_eq!((answer.status, &answer.json()["got"]), (200, &got), "{body}");
    }
    for (number, (members, got)) in [
        (r#""data_base64":"eyJhIjoxfQ==""#, json!({"a":1})),
        (
            r#""data_base64":"AP8=","n":7,"b":true"#,
            json!({"data":"AP8=","ce":attributes(json!({"n":"7","b":"true"}))}),
        ),
        (r#""data":"x","nothing":null"#, json!({"data":"x","ce":attributes(json!({}))})),
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!("POST /kwsk/rule/guest/s{number}");
        let body = format!(r#"{{"specversion":"1.0","id":"7","source":"/s","type":"t",{members}}}"#);
        let answer = ask(served.address, &line, &STRUCTURED, &body).await;
        assert_eq!((answer.status, &answer.json()["got"]), (200, &got), "{members}");
    }
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies() {
    let served = served(echo()).await;
    let address = served.address;
    let trigger = ActivationId::from_bytes([7; 16]);
    let fire = [
        ("ce-specversion", "1.0"),
        ("ce-id", trigger.as_str()),
        ("ce-source", "/namespaces/guest/triggers/t"),
        ("ce-type", event::TRIGGER_TYPE),
        ("ce-owtransid", "t9"),
        ("ce-owuser", "some%20one"),
        ("Prefer", "respond-async, Reply;x=y"),
    ];
    for (rule, payload, outcome) in [
        ("a r", "{}", Outcome::Success),
        ("b", r#"{"fail":1}"#, Outcome::ApplicationError),
        ("c", r#"{"die":1}"#, Outcome::DeveloperError),
    ] {
        let line = format!("POST /kwsk/rule/guest/{}", rule.replace(' ', "%20"));
        let got = ask(address, &line, &fire, payload).await;
        assert_eq!((got.status, got.header("content-type")), (200, Some("application/json")), "{rule}");
        assert_eq!(got.header("ce-source"), Some("/namespaces/_/actions/act"));
        let notice = event::activation_of(&got.event()).unwrap();
        let rule = format!("guest/{rule}").parse().unwrap();
        let id = ActivationId::of_rule("/namespaces/guest/triggers/t", trigger.as_str(), &rule);
        assert_eq!(got.header(header::ACTIVATION), Some(id.as_str()));
        assert_eq!((notice.id, notice.rule), (id, Some(rule)));
        assert_eq!(notice.action, "_/act".parse().unwrap());
        assert_eq!((notice.transaction.as_deref(), notice.user.as_deref()), (Some("t9"), Some("some one")));
        assert_eq!(notice.cause, Some(trigger.clone()));
        let report: Report = serde_json::from_str(notice.report.get()).unwrap();
        assert_eq!((report.response.outcome, report.ran, report.repeated), (outcome, true, false));
        assert!(report.logs.iter().any(|line| line.ends_with("stdout: hi")));
        // Headers are compared in lower case here.
        let time: jiff::Timestamp = notice.time.unwrap().to_uppercase().parse().unwrap();
        assert_eq!(time.as_millisecond().cast_unsigned(), report.end_ms);
        if outcome == Outcome::Success {
            assert_eq!(result(&report)["tid"], json!("t9"));
        }
        let again = event::activation_of(&ask(address, &line, &fire, payload).await.event()).unwrap();
        let again: Report = serde_json::from_str(again.report.get()).unwrap();
        assert_eq!(again, Report { repeated: true, ..report });
    }
    // Nobody's trigger, no rule.
    let prefer = [&BINARY[..], &[("prefer", "reply")]].concat();
    let notice = event::activation_of(&ask(address, "POST /", &prefer, "{}").await.event()).unwrap();
    assert_eq!((notice.cause, notice.rule, notice.user), (None, None, None));
    assert_eq!(notice.transaction.as_deref(), Some(notice.id.as_str()));
    // The envelope, if that is asked for; the result, if nothing is.
    let both = [&prefer[..], &[("accept", REPORT_MEDIA_TYPE), ("ce-x", "2")]].concat();
    assert_eq!(ask(address, "POST /", &both, "{}").await.header("content-type"), Some(REPORT_MEDIA_TYPE));
    for (rule, payload, outcome) in [("d", r#"{"fail":1}"#, "1"), ("e", r#"{"die":1}"#, "2")] {
        let got = ask(address, &format!("POST /kwsk/rule/guest/{rule}"), &BINARY, payload).await;
        assert_eq!((got.status, got.header(header::OUTCOME)), (200, Some(outcome)), "it ran");
        assert!(!got.json()["error"].is_null() && got.header("ce-id").is_none());
    }
    // Not an event: nothing to reply to.
    let got = ask(address, "POST /", &[("prefer", "reply")], "{}").await;
    assert!(got.header("ce-id").is_none() && got.json()["got"].is_object());
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches() {
    for concurrency in [1, 4] {
        let mut spec = counter();
        spec.concurrency = concurrency;
        let served = served(spec).await;
        let address = served.address;
        let empty = ask(address, "POST /", &BATCH, "[]").await;
        assert_eq!((empty.status, empty.json()), (200, json!([])));
        // One twice, one with an answer that depends on nothing.
        let ids = ["a", "b", "a", "c", "d", "e", "f"];
        let events: Vec<String> =
            ids.iter().map(|id| structured(id, &format!(r#"{{"id":"{id}"}}"#))).collect();
        let body = format!("[{}]", events.join(","));
        let line = "POST /kwsk/rule/guest/r";
        let got = ask(address, line, &BATCH, &body).await;
        assert_eq!((got.status, got.header("content-type")), (200, Some(event::BATCH)));
        let answers = CloudEvent::from_batch(event::BATCH, got.body.as_bytes(), 100).unwrap();
        let mut runs = Vec::new();
        let rule = "guest/r".parse().unwrap();
        for (id, answer) in ids.iter().zip(&answers) {
            let notice = event::activation_of(answer).unwrap();
            assert_eq!(notice.id, ActivationId::of_rule("/s", id, &rule));
            assert_eq!(notice.rule.as_ref(), Some(&rule));
            let report: Report = serde_json::from_str(notice.report.get()).unwrap();
            assert_eq!(result(&report)["got"]["id"], json!(id), "in order");
            runs.push(result(&report)["n"].as_u64().unwrap());
        }
        assert_eq!((answers.len(), runs[0]), (ids.len(), runs[2]));
        runs.sort_unstable();
        runs.dedup();
        assert_eq!(runs, [1, 2, 3, 4, 5, 6]);
        // A member that comes again on its own.
        let again = ask(
            address,
            line,
            &[("ce-specversion", "1.0"), ("ce-id", "b"), ("ce-source", "/s"), ("ce-type", "t")],
            "{}",
        )
        .await;
        assert_eq!(again.json()["got"]["id"], json!("b"));
        let samples = served.samples().await;
        for expected in [
            r#"kwsk_shim_runs_total{outcome="success",caller="event"} 6"#,
            "kwsk_shim_repetitions_total 2",
            "kwsk_shim_run_duration_seconds_count 6",
        ] {
            assert!(samples.iter().any(|line| line == expected), "{expected}: {samples:?}");
        }
        served.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_fails_in_a_batch_is_reported_there() {
    let served = served(echo()).await;
    let body = format!(
        "[{},{},{}]",
        structured("a", r#"{"fail":1}"#),
        structured("b", r#"{"die":1}"#),
        structured("c", "{}")
    );
    let got = ask(served.address, "POST /", &BATCH, &body).await;
    let answers = CloudEvent::from_batch(event::BATCH, got.body.as_bytes(), 100).unwrap();
    let outcome = |event: &CloudEvent| {
        let notice = event::activation_of(event).unwrap();
        serde_json::from_str::<Report>(notice.report.get()).unwrap().response.outcome
    };
    let outcomes: Vec<Outcome> = answers.iter().map(outcome).collect();
    assert_eq!(
        (got.status, outcomes),
        (200, vec![Outcome::ApplicationError, Outcome::DeveloperError, Outcome::Success])
    );
    served.close().await;
}
