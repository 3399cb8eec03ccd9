//! What is not taken in.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    let served = served(echo()).await;
    let version = &BINARY[..1];
    let newer = [&[("ce-specversion", "1.1")], &BINARY[1..]].concat();
    let twice = [&BINARY[..], &[("CE-Type", "t")]].concat();
    let raw = [&BINARY[..], &[("ce-subject", "ä")]].concat();
    let avro = [("content-type", "application/cloudevents+avro")];
    let avro_batch = [("content-type", "application/cloudevents-batch+avro")];
    let batch_id = [BATCH[0], (header::ACTIVATION_ID, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")];
    let batch_context = [BATCH[0], (header::CONTEXT, "{}")];
    let good = structured("1", "{}");
    let many = format!("[{}]", vec![good.as_str(); 101].join(","));
    let half = format!(r#"[{good},{{"specversion":"1.0"}}]"#);
    let both = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1,"data_base64":"AA=="}"#;
    let nested = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","x":{}}"#;
    for (line, headers, body, status, text) in [
        ("POST /", &[][..], "{", 400, "not a JSON object or array"),
        ("POST /", &[][..], "1", 400, "not a JSON object or array"),
        ("POST /", &[][..], "\u{0}", 400, "not a JSON object or array"),
        ("POST /", &[(header::ACTIVATION_ID, "short")][..], "{}", 400, "must be 32"),
        ("POST /", &[(header::CONTEXT, "{}")][..], "{}", 400, "x-kwsk-context is malformed"),
        ("POST /", &[(header::DEADLINE, "soon")][..], "{}", 400, "not a number of milliseconds"),
        ("POST /", version, "{}", 400, "no 'id'"),
        ("POST /", &newer[..], "{}", 400, "version '1.1' is not supported"),
        ("POST /", &twice[..], "{}", 400, "more than one header 'ce-type'"),
        ("POST /", &raw[..], "{}", 400, "The header ce-subject is not ASCII"),
        ("POST /", &STRUCTURED[..], "{}", 400, "no 'specversion'"),
        ("POST /", &STRUCTURED[..], "nonsense", 400, "cannot be read"),
        ("POST /", &STRUCTURED[..], both, 400, "both 'data' and 'data_base64'"),
        ("POST /", &STRUCTURED[..], nested, 400, "'x' is not text"),
        ("POST /", &avro[..], "x", 415, "only JSON is"),
        ("POST /", &avro_batch[..], "x", 415, "only JSON is"),
        ("POST /", &BATCH[..], &good, 400, "the batch of CloudEvents cannot be read"),
        ("POST /", &BATCH[..], &half, 400, "event 1 of the batch: the CloudEvent has no 'id'"),
        ("POST /", &BATCH[..], &many, 413, "a batch may have 100 CloudEvents at most"),
        ("POST /", &batch_id[..], "[]", 400, "A batch cannot have the header x-kwsk-activation-id"),
        ("POST /", &batch_context[..], "[]", 400, "A batch cannot have the header x-kwsk-context"),
        ("POST /kwsk/rule/guest/r", &[][..], "{}", 404, "/kwsk/rule/guest/r takes CloudEvents only"),
        ("POST /kwsk/other", &[][..], "{}", 404, "takes CloudEvents only"),
        ("GET /kwsk/other", &[][..], "", 404, "There is nothing at /kwsk/other."),
        ("GET /", &[][..], "", 405, "GET is not allowed here, only POST."),
        ("PUT /", &[][..], "{}", 405, "PUT is not allowed here, only POST."),
        ("BREW /pot", &BINARY[..], "{}", 405, "BREW is not allowed here, only POST."),
        ("POST /kwsk/ready", &[][..], "{}", 405, "only GET, HEAD."),
        ("POST /kwsk/metrics", &BINARY[..], "{}", 405, "only GET, HEAD."),
    ] {
        let got = ask(served.address, line, headers, body).await;
        assert_eq!(got.status, status, "{line} {body} {got:?}");
        assert!(got.is_refusal() && got.body.contains(text), "{line} {body} {got:?}");
        assert_eq!(got.header("allow").is_some(), status == 405);
    }
    assert!(!served.shim.is_warm(), "nothing ran");
    assert_eq!(served.samples().await, ["kwsk_shim_events_refused_total 15"]);
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_read_to_its_end() {
    let served = served(echo()).await;
    let large = format!(r#""{}""#, "x".repeat(300_000));
    let texts = [
        request("PUT /", &[], &large),
        request("POST /kwsk/other", &[], &large),
        request("GET /kwsk/ready", &[], &large),
        request("POST /", &[], &large),
        request("POST /", &BINARY[..1], &large),
        "POST /kwsk/other HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            .to_owned(),
        request("POST /", &[("Connection", "close")], "{}"),
    ];
    let answers = say(served.address, texts.concat().as_bytes()).await;
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["405", "404", "200", "400", "400", "404", "200"], "one connection, {answers}");
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds() {
    let bounds =
        Bounds { head: Duration::from_millis(500), body: Duration::from_millis(100), body_bytes: 1000 };
    let served = served_within(bounds, echo()).await;
    let address = served.address;
    let exact = format!(r#"{{"a":"{}"}}"#, "x".repeat(992));
    assert_eq!(ask(address, "POST /", &[], &exact).await.status, 200);
    let chunked = |bytes: usize| {
        let piece = "x".repeat(bytes);
        format!(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{piece}\r\n0\r\n\r\n"
        )
    };
    let post = |length: usize, more: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n{body}")
    };
    for (text, status, closes) in [
        // More than allowed, and read to its end nevertheless.
        (chunked(1001), "413", false),
        // So much more that it is not.
        (post(1001, "", ""), "413", true),
        (post(1001, "Expect: 100-continue\r\n", ""), "413", true),
        // Never complete.
        (post(10, "", "{"), "408", true),
        (post(10, "Expect: 100-continue\r\n", ""), "100 Continue\r\n\r\nHTTP/1.1 408", true),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{".to_owned(), "408", true),
        ("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{".to_owned(), "405", true),
        (format!("POST / HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(70_000)), "431", true),
        (format!("POST / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)), "431", true),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n".to_owned(), "400", true),
    ] {
        // The server closes, at the latest when no further head comes.
        let answer = say(address, text.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(answer.to_lowercase().contains("connection: close"), closes, "{answer}");
    }
    // A head that never ends.
    assert_eq!(say(address, b"POST / HTTP/1.1\r\nHost:").await, "");
    assert_eq!(
        served.samples().await.iter().filter(|line| line.starts_with("kwsk_shim_runs_total")).count(),
        1
    );
    served.close().await;
}
