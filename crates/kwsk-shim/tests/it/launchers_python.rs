use kwsk_model::activation::Outcome;
use serde_json::json;

use crate::harness::{Pad, archive, developer_error, logs, ok, python, result, run, source};

#[tokio::test(flavor = "multi_thread")]
async fn what_succeeds() {
    let pad = Pad::new().await;
    let runtime = python();
    for (spec, main, expected) in [
        (source("def main(args):\n    return {'got': args}"), None, json!({"got":{"n":1}})),
        (source("async def main(args):\n    return [args['n'], 'ä']"), None, json!([1, "ä"])),
        (
            source("class A:\n    @staticmethod\n    def go(args): return {'a': 1}"),
            Some("A.go"),
            json!({"a":1}),
        ),
        (
            archive(&[
                ("__main__.py", "from helper import help\ndef main(args): return help()"),
                ("helper.py", "def help(): return {'h': 1}"),
            ]),
            None,
            json!({"h":1}),
        ),
        (
            archive(&[
                ("__main__.py", "import dep\ndef main(args): return dep.d"),
                ("virtualenv/lib/python3.11/site-packages/dep.py", "d = {'v': 1}"),
            ]),
            None,
            json!({"v":1}),
        ),
        (
            archive(&[
                ("__main__.py", "def main(args): return {'a': activated}"),
                ("virtualenv/bin/activate_this.py", "import builtins\nbuiltins.activated = 1"),
            ]),
            None,
            json!({"a":1}),
        ),
        // Children must not eat the requests.
        (
            source(
                "import subprocess\ndef main(args):\n    return {'cat': subprocess.run(['cat'], capture_output=True).stdout.decode()}",
            ),
            None,
            json!({"cat":""}),
        ),
    ] {
        let mut spec = spec;
        spec.main = main.map(str::to_owned);
        let shim = pad.shim(&runtime, spec);
        for _ in 0..2 {
            assert_eq!(ok(&run(&shim, json!({"n":1})).await), expected);
        }
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails() {
    let pad = Pad::new().await;
    let runtime = python();
    let dictionary = "The action did not return a dictionary or array.";
    for (spec, text) in [
        (source(""), "Missing main/no code to execute."),
        (source("def main(:"), "Initialization has failed due to: Traceback"),
        (source("x = 1"), "Initialization has failed due to: Action entrypoint 'main' is not a function."),
        (
            archive(&[("x.py", "")]),
            "Initialization has failed due to: Zipped actions must contain __main__.py at the root.",
        ),
        (source("import os; os._exit(3)"), "The action did not initialize and exited unexpectedly."),
        (source("def main(a): raise ValueError('bad')"), "An error has occurred: bad"),
        (source("def main(a): return 'x'"), dictionary),
        (source("def main(a): return None"), dictionary),
        (
            source("def main(a): return {'a': object()}"),
            "An error has occurred: Object of type object is not JSON serializable",
        ),
        (
            source("import sys\ndef main(a): sys.exit(1)"),
            "The action did not produce a valid response and exited unexpectedly.",
        ),
    ] {
        let error = developer_error(&run(&pad.shim(&runtime, spec), json!({})).await);
        assert!(error.starts_with(text), "{error}");
    }
    let shim = pad.shim(&runtime, source("def main(a): raise ValueError('bad')"));
    let report = run(&shim, json!({})).await;
    assert!(logs(&report).contains(&"stderr: ValueError: bad"), "{report:?}");
    let report = run(&pad.shim(&runtime, source("def main(a): return {'error': 1}")), json!({})).await;
    assert_eq!((report.response.outcome, result(&report)), (Outcome::ApplicationError, json!({"error":1})));
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_a_time() {
    let pad = Pad::new().await;
    let code = "import threading\nall = threading.Barrier(20)\ndef main(a):\n    print('n', a['n'])\n    all.wait()\n    return a";
    let mut spec = source(code);
    spec.concurrency = 20;
    let shim = pad.shim(&python(), spec);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let shim = shim.clone();
        tasks.spawn(async move { (n, run(&shim, json!({ "n": n })).await) });
    }
    while let Some(done) = tasks.join_next().await {
        let (n, report): (i32, _) = done.unwrap();
        assert_eq!(ok(&report), json!({ "n": n }));
        assert_eq!(logs(&report), [format!("stdout: n {n}")]);
    }
    pad.close().await;
}
