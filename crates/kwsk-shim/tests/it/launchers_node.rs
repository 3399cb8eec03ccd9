use kwsk_model::activation::Outcome;
use serde_json::{Value, json};

use crate::harness::{Pad, archive, binary, developer_error, logs, node, ok, result, run, source};

#[tokio::test(flavor = "multi_thread")]
async fn what_succeeds() {
    let pad = Pad::new().await;
    let runtime = node();
    for (code, main, arguments, expected) in [
        ("function main(a) { return {got: a} }", None, json!({"n":1}), json!({"got":{"n":1}})),
        (
            "const main = async a => ({b: await Promise.resolve(a.n)}) // end",
            None,
            json!({"n":1}),
            json!({"b":1}),
        ),
        ("exports.main = () => [1, 2]", None, json!({}), json!([1, 2])),
        ("module.exports = () => ({m: 1})", None, json!({}), json!({"m":1})),
        ("exports.a = {b: () => ({nested: true})}", Some("a.b"), json!({}), json!({"nested":true})),
        (
            "function other() { return new Promise(r => setTimeout(() => r({late: 1}), 10)) }",
            Some("other"),
            json!({}),
            json!({"late":1}),
        ),
        (
            "import os from 'os'; export function main() { return {os: typeof os.cpus} }",
            None,
            json!({}),
            json!({"os":"function"}),
        ),
        ("export default () => ({d: 1})", None, json!({}), json!({"d":1})),
        (
            "const os = require('os'); function main() { return {os: typeof os.cpus} }",
            None,
            json!({}),
            json!({"os":"function"}),
        ),
        ("function main() {}", None, json!({}), json!({})),
        ("function main(a) { return {array: Array.isArray(a)} }", None, json!([1]), json!({"array":true})),
    ] {
        let mut spec = source(code);
        spec.main = main.map(str::to_owned);
        assert_eq!(ok(&run(&pad.shim(&runtime, spec), arguments).await), expected, "{code}");
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archives() {
    let pad = Pad::new().await;
    let runtime = node();
    let module = ("node_modules/dep/index.js", "module.exports = 7");
    let main = "exports.main = () => ({dep: require('dep')})";
    let package = r#"{"main":"lib/entry.js"}"#;
    let esm = "import dep from 'dep'; export function main() { return {dep, cwd: process.cwd().endsWith('/code')} }";
    for (files, expected) in [
        (vec![("index.js", main), module], json!({"dep":7})),
        (vec![("package.json", package), ("lib/entry.js", main), module], json!({"dep":7})),
        (vec![("index.mjs", esm), module], json!({"dep":7,"cwd":true})),
        (
            vec![("package.json", r#"{"type":"module"}"#), ("index.js", esm), module],
            json!({"dep":7,"cwd":true}),
        ),
    ] {
        let report = run(&pad.shim(&runtime, archive(&files)), json!({})).await;
        assert_eq!(ok(&report), expected, "{files:?}");
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_at_init() {
    let pad = Pad::new().await;
    let runtime = node();
    let failed = "Initialization has failed due to: ";
    for (spec, text) in [
        (source(" "), "Missing main/no code to execute.".to_owned()),
        (source("function main( {"), format!("{failed}/")),
        (source("throw new Error('early')"), format!("{failed}Error: early")),
        (source("exports.other = 1"), format!("{failed}Action entrypoint 'main' is not a function.")),
        (source("const main = 1"), format!("{failed}Action entrypoint 'main' is not a function.")),
        (source("process.exit(0)"), "The action did not initialize and exited unexpectedly.".to_owned()),
        (
            binary(b"not a zip"),
            format!(
                "{failed}There was an error uncompressing the action archive. The file type is unsupported"
            ),
        ),
        (
            archive(&[("readme", "x")]),
            format!("{failed}Zipped actions must contain either package.json or index.js at the root."),
        ),
    ] {
        let report = run(&pad.shim(&runtime, spec), json!({})).await;
        let error = developer_error(&report);
        assert!(error.starts_with(&text), "{error}");
        assert!(report.init_ms.is_some() && report.run_ms == 0);
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_at_run() {
    let pad = Pad::new().await;
    let runtime = node();
    let nonsense = "The action did not produce a valid JSON or JSON Array response: ";
    for (code, text) in [
        ("function main() { throw new Error('bad') }", "An error has occurred: Error: bad".to_owned()),
        ("function main() { throw 'text' }", "An error has occurred: text".to_owned()),
        ("function main() { return 'text' }", "The action did not return a dictionary.".to_owned()),
        ("function main() { return 1 }", "The action did not return a dictionary.".to_owned()),
        ("function main() { return null }", format!("{nonsense}null")),
        (
            "function main() { const a = {}; a.a = a; return a }",
            "An error has occurred: TypeError: Converting".to_owned(),
        ),
        (
            "function main() { process.exit(0) }",
            "The action did not produce a valid response and exited unexpectedly.".to_owned(),
        ),
    ] {
        let shim = pad.shim(&runtime, source(code));
        let error = developer_error(&run(&shim, json!({})).await);
        assert!(error.starts_with(&text), "{error}");
        assert!(!shim.is_warm(), "{code}");
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn application_errors_leave_it_warm() {
    let pad = Pad::new().await;
    let runtime = node();
    for (code, error) in [
        ("function main() { return {error: 'x', more: 1} }", json!({"error":"x","more":1})),
        ("function main() { return Promise.reject('no') }", json!({"error":"no"})),
        ("function main() { return Promise.reject() }", json!({"error":{}})),
        ("function main() { return Promise.reject({code: 3}) }", json!({"error":{"code":3}})),
    ] {
        let shim = pad.shim(&runtime, source(code));
        let report = run(&shim, json!({})).await;
        assert_eq!((report.response.outcome, result(&report)), (Outcome::ApplicationError, error));
        let pid = shim.pid();
        assert!(shim.is_warm() && pid.is_some());
        assert_eq!(run(&shim, json!({})).await.init_ms, None);
        assert_eq!(shim.pid(), pid);
    }
    let shim = pad.shim(&runtime, source("async function main() { throw new TypeError('deep') }"));
    let error = result(&run(&shim, json!({})).await);
    assert_eq!((&error["error"]["name"], &error["error"]["message"]), (&json!("TypeError"), &json!("deep")));
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_and_state() {
    let pad = Pad::new().await;
    let code = "let runs = 0; const first = {...process.env};
        function main() { runs++; return {runs, first, now: {...process.env}, cwd: process.cwd(), fds: require('fs').readdirSync('/proc/self/fd').length} }";
    let mut spec = source(code);
    spec.init_env = json!({"A":"text","B":{"c":[1]},"N":null}).as_object().unwrap().clone();
    let shim = pad.shim(&node(), spec);
    let first = ok(&run(&shim, json!({})).await);
    let second = ok(&run(&shim, json!({})).await);
    assert_eq!((&first["runs"], &second["runs"]), (&json!(1), &json!(2)));
    let now = second["now"].as_object().unwrap();
    for (key, value) in [
        ("__OW_NAMESPACE", "guest"),
        ("__OW_ACTION_NAME", "/_/act"),
        ("__OW_ACTION_VERSION", "0.0.1"),
        ("__OW_TRANSACTION_ID", "tid"),
        ("__OW_DEADLINE", "1"),
        ("__OW_API_HOST", "http://api:1"),
        ("LANG", "C.UTF-8"),
        ("A", "text"),
        ("B", r#"{"c":[1]}"#),
        ("N", ""),
    ] {
        assert_eq!(now[key], json!(value), "{key}");
    }
    assert_ne!(first["now"]["__OW_ACTIVATION_ID"], now["__OW_ACTIVATION_ID"]);
    assert_eq!(first["first"]["__OW_ACTIVATION_ID"], first["now"]["__OW_ACTIVATION_ID"]);
    assert!(!now.contains_key("__OW_API_KEY") && !now.contains_key("CARGO_MANIFEST_DIR"));
    assert_eq!((&now["HOME"], &now["TMPDIR"]), (&second["cwd"], &second["cwd"]));
    assert!(second["cwd"].as_str().unwrap().starts_with(&*pad.work().to_string_lossy()));
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_belong_to_their_run() {
    let pad = Pad::new().await;
    let code = "console.log('at init'); function main(a) { console.log('out', a.n); console.error('err\\n\\nline'); process.stdout.write('«ταБЬℓσö»: 1<2 & 4+1>³, now 20%€§$ off!'); return {} }";
    let shim = pad.shim(&node(), source(code));
    let utf8 = "stdout: «ταБЬℓσö»: 1<2 & 4+1>³, now 20%€§$ off!";
    let first = run(&shim, json!({"n":1})).await;
    let mut lines = logs(&first);
    lines.sort_unstable();
    assert_eq!(lines, ["stderr: ", "stderr: err", "stderr: line", "stdout: at init", "stdout: out 1", utf8]);
    let second = run(&shim, json!({"n":2})).await;
    assert!(logs(&second).contains(&"stdout: out 2") && !logs(&second).contains(&"stdout: at init"));
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_a_time_in_one_process() {
    let pad = Pad::new().await;
    // Nobody is answered before a hundred are there.
    let code = "let here = 0; let open; const all = new Promise(r => { open = r });
        async function main(a) {
            console.log('before', a.n); if (++here === 100) open(); await all;
            await new Promise(r => setTimeout(r, a.n % 7)); console.error('after', a.n); console.log('done', a.n);
            return {n: a.n, pid: process.pid, allowed: process.env.__OW_ALLOW_CONCURRENT} }";
    let mut spec = source(code);
    spec.concurrency = 100;
    let shim = pad.shim(&node(), spec);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let shim = shim.clone();
        tasks.spawn(async move { (n, run(&shim, json!({ "n": n })).await) });
    }
    let mut pids = std::collections::HashSet::<String>::new();
    let mut inits = 0;
    while let Some(done) = tasks.join_next().await {
        let (n, report): (i32, _) = done.unwrap();
        let value: Value = ok(&report);
        assert_eq!((&value["n"], &value["allowed"]), (&json!(n), &json!("true")));
        assert_eq!(
            logs(&report),
            [format!("stdout: before {n}"), format!("stderr: after {n}"), format!("stdout: done {n}")]
        );
        pids.insert(value["pid"].to_string());
        inits += usize::from(report.init_ms.is_some());
    }
    assert_eq!((pids.len(), inits), (1, 1));
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_see_no_requests() {
    let pad = Pad::new().await;
    let code = "const { spawnSync } = require('child_process')
        const go = (program, ...args) => spawnSync(program, args, {stdio: ['inherit', 'pipe', 'inherit'], encoding: 'utf8'}).stdout
        function main() { return {cat: go('cat'), open: go('sh', '-c', 'ls /proc/$$/fd').trim().split('\\n').map(Number).filter(n => n > 2 && n < 10)} }";
    let shim = pad.shim(&node(), source(code));
    for _ in 0..2 {
        assert_eq!(ok(&run(&shim, json!({})).await), json!({"cat":"","open":[]}));
    }
    pad.close().await;
}
