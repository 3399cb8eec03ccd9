use serde_json::json;

use crate::harness::{
    Pad, archive, binary, command, developer_error, foreign_loop, logs, native, ok, run, source,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_loop() {
    let pad = Pad::new().await;
    for first_lines in [&[][..], &[r#"{"ok":true}"#][..]] {
        let shim = pad.shim(&foreign_loop(first_lines), source("unused"));
        let value = ok(&run(&shim, json!({"a":1})).await);
        assert_eq!((&value["got"], &value["env"]), (&json!({"a":1}), &json!("yes")));
        let report = run(&shim, json!({"a":2})).await;
        assert_eq!(logs(&report), ["stdout: asked"]);
        assert_eq!(report.init_ms, None);
        for (answer, text) in [
            ("nonsense", "The action did not return a dictionary or array."),
            ("{", "The action did not produce a valid JSON or JSON Array response: {"),
            ("exit", "The action did not produce a valid response and exited unexpectedly."),
        ] {
            assert_eq!(developer_error(&run(&shim, json!({ "answer": answer })).await), text);
        }
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_does_not_begin() {
    let pad = Pad::new().await;
    let shim = pad.shim(&foreign_loop(&[r#"{"error":"cannot compile"}"#]), source("x"));
    assert_eq!(developer_error(&run(&shim, json!({})).await), "cannot compile");
    let shim = pad.shim(&command(&["/no/such/program"]), source("x"));
    assert!(developer_error(&run(&shim, json!({})).await).contains("executable file not found"));
    let shim = pad.shim(&command(&["{code}/exec"]), source("#!/no/such/interpreter\n"));
    assert!(developer_error(&run(&shim, json!({})).await).contains("executable file not found"));
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executable_that_speaks_actionloop() {
    let pad = Pad::new().await;
    let script = "#!/bin/sh\nwhile read -r line; do echo \"log\"; echo '{\"n\":1}' >&3; done\n";
    for spec in [source(script), archive(&[("exec", script)]), binary(script.as_bytes())] {
        let shim = pad.shim(&command(&["{code}/exec"]), spec);
        for _ in 0..2 {
            let report = run(&shim, json!({})).await;
            assert_eq!((ok(&report), logs(&report)), (json!({"n":1}), vec!["stdout: log"]));
        }
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_run_once_per_activation() {
    let pad = Pad::new().await;
    let runtime = native();
    let script = "#!/bin/sh\necho first; echo; echo \"$__OW_ACTIVATION_ID\" >&2; printf '{\"arg\":%s,' \"$1\"; printf '\"in\":%s}' \"$(cat)\"";
    for spec in [source(script), archive(&[("exec", script)]), binary(script.as_bytes())] {
        let shim = pad.shim(&runtime, spec);
        let report = run(&shim, json!({"a":"b c"})).await;
        assert_eq!(ok(&report), json!({"arg":{"a":"b c"},"in":{"a":"b c"}}));
        let mut lines = logs(&report);
        lines.sort_unstable();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("stderr: 0000") && lines[1] == "stdout: first");
        assert!(shim.is_warm());
    }
    let shim = pad.shim(&runtime, source("#!/bin/sh\necho \"{\\\"args\\\":$#,\\\"read\\\":$(wc -c)}\""));
    let value = ok(&run(&shim, json!({"long":"x".repeat(200_000)})).await);
    assert_eq!(value, json!({"args":0,"read":200_011}));
    shim.stop().await;
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_fail() {
    let pad = Pad::new().await;
    let runtime = native();
    let dictionary = "The action did not return a dictionary.";
    for (spec, text, lines) in [
        (source("#!/bin/sh\necho text"), dictionary, vec!["stderr: text"]),
        (source("#!/bin/sh\necho '{}'; echo 1"), dictionary, vec!["stdout: {}", "stderr: 1"]),
        (source("#!/bin/sh\nexit 3"), dictionary, vec![]),
        (
            archive(&[("other", "")]),
            "The action failed to generate or locate a binary. See logs for details.",
            vec![],
        ),
    ] {
        let report = run(&pad.shim(&runtime, spec), json!({})).await;
        assert_eq!(developer_error(&report), text);
        assert_eq!(logs(&report)[..report.logs.len() - 1], lines);
    }
    let report = run(&pad.shim(&runtime, source("#!/no/interpreter\n")), json!({})).await;
    assert!(developer_error(&report).contains("executable file not found"));
    pad.close().await;
}
