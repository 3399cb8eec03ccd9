//! `check` itself: it finds nothing wrong with runtimes that keep the contract, and what is wrong with each that does not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use kwsk_shim::check::{self, Checked, Language, Level, Options, SAMPLES, Samples, Summary, Target, Verdict};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::fake;
use crate::harness::{fixture, free_port};

const TOGETHER: u32 = 20;

/// Files whose content is their name, as the runtime in this executable has it.
fn words() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for sample in SAMPLES {
        std::fs::write(directory.path().join(sample.name()), sample.name()).unwrap();
    }
    directory
}

fn options(argv: Vec<String>, samples: Samples) -> Options {
    let mut options = Options::new(Target::Command(argv), samples);
    options.time_limit = Duration::from_millis(1500);
    options
}

fn of_fake(manner: &str, words: &Path) -> Options {
    let samples = Samples { language: None, directory: Some(words.to_owned()) };
    let mut options = options(fake::command(manner, Path::new("/dev/null")), samples);
    options.concurrent = Some(TOGETHER);
    options
}

fn built_in(language: Language) -> Samples {
    Samples { language: Some(language), directory: None }
}

async fn check(options: Options) -> Summary {
    check::run(options, |_| ()).await.unwrap()
}

fn failures(summary: &Summary) -> BTreeSet<&'static str> {
    summary.cases.iter().filter(|case| case.is_failure()).map(|case| case.name).collect()
}

fn skipped(summary: &Summary) -> BTreeSet<&'static str> {
    let is_skipped = |case: &&Checked| matches!(case.verdict, Verdict::Skip(_));
    summary.cases.iter().filter(is_skipped).map(|case| case.name).collect()
}

fn text(summary: &Summary) -> String {
    summary.cases.iter().map(Checked::to_text).collect()
}

/// pyenv and the like put a slow script in its place.
fn python() -> String {
    let asked =
        std::process::Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    String::from_utf8(asked.unwrap().stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_runtime_keeps_it() {
    let argv = ["node".into(), fixture("nodejs.js"), "{port}".into()];
    let mut options = options(argv.into(), built_in(Language::Nodejs));
    options.concurrent = Some(TOGETHER);
    let summary = check(options).await;
    assert!(summary.is_kept(true), "{}", text(&summary));
    assert_eq!(skipped(&summary), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_runtime_keeps_it() {
    let argv = [python(), fixture("python.py"), "{port}".into()];
    let summary = check(options(argv.into(), built_in(Language::Python))).await;
    assert!(summary.is_kept(true), "{}", text(&summary));
    // There is no undefined there, and no concurrency.
    assert_eq!(skipped(&summary), ["attach/concurrent", "concurrent", "exec/concurrent", "nothing"].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_runtime_keeps_it() {
    let words = words();
    let summary = check(of_fake("good", words.path())).await;
    assert!(summary.is_kept(true), "{}", text(&summary));
    assert_eq!(skipped(&summary), BTreeSet::new());
}

/// A runtime that breaks one rule, the case that says so, and what follows from it for activations.
const MUTANTS: &[(&str, &[&str])] = &[
    ("deaf", &["accepts"]),
    ("runs-at-once", &["run-before-init"]),
    ("init-201", &["init"]),
    ("loses-nulls", &["run-object"]),
    ("no-arrays", &["run-array"]),
    ("ascii-results", &["unicode"]),
    ("small-arguments", &["large-arguments"]),
    ("any-path", &["unknown-path"]),
    ("dies-of-nonsense", &["malformed-body"]),
    ("init-again", &["init-twice"]),
    ("two-sentinels", &["sentinels"]),
    ("empty-code", &["init-without-code"]),
    ("lenient", &["init-broken-code"]),
    ("terse", &["init-broken-code"]),
    ("always-main", &["entry-point"]),
    ("no-init-env", &["init-env"]),
    ("no-run-env", &["run-env"]),
    ("stale-run-env", &["run-env"]),
    ("ascii-logs", &["logs", "exec/logs"]),
    ("silent-stderr", &["logs", "exec/logs"]),
    ("small-results", &["large-result", "exec/large-result", "attach/large-result"]),
    ("forgets", &["state"]),
    ("error-502", &["error", "exec/error", "attach/error"]),
    ("swallows", &["exception", "exception-status", "exec/exception", "attach/exception"]),
    ("polite", &["exception-status"]),
    ("nothing-null", &["nothing"]),
    ("null-object", &["null", "exec/null", "attach/null"]),
    ("wraps-scalars", &["scalar", "exec/scalar", "attach/scalar"]),
    ("one-at-a-time", &["concurrent", "exec/concurrent", "attach/concurrent"]),
    ("lenient-at-all", &["init-broken-code", "exec/broken-code", "attach/broken-code"]),
    ("tired", &["exec/result", "attach/result"]),
    ("impatient", &["exec/time-limit", "attach/time-limit"]),
    ("undying", &["exec/exit", "attach/exit"]),
    ("abridged-logs", &["exec/log-limit"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_mutant_is_found() {
    let words = words();
    let mut running = JoinSet::new();
    let mut waiting = MUTANTS.iter();
    let mut missed = Vec::new();
    loop {
        while running.len() < 6
            && let Some((manner, wanted)) = waiting.next()
        {
            let mut options = of_fake(manner, words.path());
            if ["deaf", "one-at-a-time"].contains(manner) {
                options.timeout = Duration::from_secs(2);
            }
            if !wanted.iter().any(|case| case.ends_with("time-limit")) {
                // They take as long as they say.
                options.skip = Some("time-limit".into());
            }
            running.spawn(async move { (manner, wanted, check(options).await) });
        }
        let Some(checked) = running.join_next().await else { break };
        let (manner, wanted, summary) = checked.unwrap();
        let found = failures(&summary);
        if found != wanted.iter().copied().collect() {
            let failed: String =
                summary.cases.iter().filter(|c| c.is_failure()).map(Checked::to_text).collect();
            missed.push(format!("{manner}: {found:?}\n{failed}"));
        }
        let breaks_must = |case: &Checked| case.is_failure() && case.level == Level::Must;
        assert_eq!(summary.is_kept(false), !summary.cases.iter().any(breaks_must), "{manner}");
        assert!(!summary.is_kept(true), "{manner}");
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_belong_on_both_streams_unless_there_are_none() {
    let words = words();
    for (manner, case, text) in [
        ("stdout-sentinels", "sentinels", "on stderr, the last line"),
        ("no-sentinels", "sentinels", "on stdout, the last line"),
        ("no-sentinels", "exec/logs", "now 20%€§$ off! 🦀\"]"),
    ] {
        let summary = check(Options { filter: Some(case.into()), ..of_fake(manner, words.path()) }).await;
        assert_eq!(failures(&summary), [case].into());
        let Verdict::Fail(finding) = &summary.cases[0].verdict else { panic!("{summary:?}") };
        assert!(finding.expected.ends_with(text), "{manner}: {finding:?}");
    }

    let summary = check(Options { sentinels: false, ..of_fake("no-sentinels", words.path()) }).await;
    assert!(summary.is_kept(true), "{}", text(&summary));
    assert_eq!(skipped(&summary), ["sentinels", "exec/logs"].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_its_own_is_used_again_and_again() {
    let words = words();
    let port = free_port();
    let argv = fake::command("good", Path::new("/dev/null"));
    let argv = argv.iter().map(|arg| arg.replace("{port}", &port.to_string())).collect();
    let summary = check(Options { target: Target::Command(argv), port, ..of_fake("", words.path()) }).await;
    assert!(summary.is_kept(true), "{}", text(&summary));
    assert_eq!(skipped(&summary), BTreeSet::new());
}

#[test]
fn each_case_has_a_mutant() {
    let found: BTreeSet<&str> = MUTANTS.iter().flat_map(|(_, cases)| cases.iter().copied()).collect();
    assert_eq!(check::cases().iter().map(|case| case.name).collect::<BTreeSet<_>>(), found);
}

/// A runtime of ours, as someone else would have started it.
async fn started(manner: &str) -> (tokio::process::Child, SocketAddr) {
    let port = free_port();
    let argv = fake::command(manner, Path::new("/dev/null"));
    let argv: Vec<String> = argv.iter().map(|arg| arg.replace("{port}", &port.to_string())).collect();
    let mut command = tokio::process::Command::new(&argv[0]);
    command.args(&argv[1..]).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    (command.spawn().unwrap(), SocketAddr::from(([127, 0, 0, 1], port)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_one_is_checked_as_it_is() {
    let words = words();
    let (_child, address) = started("good").await;
    let options = Options { target: Target::Running(address), ..of_fake("", words.path()) };
    let summary = check(options.clone()).await;
    assert!(summary.is_kept(true), "{}", text(&summary));
    let tried: BTreeSet<_> =
        summary.cases.iter().filter(|c| c.verdict == Verdict::Ok).map(|c| c.name).collect();
    let wanted = "accepts run-before-init init run-object run-array unicode large-arguments unknown-path malformed-body \
                  init-twice";
    assert_eq!(tried, wanted.split(' ').collect());
    // It has its code now.
    assert_eq!(failures(&check(options).await), ["init", "run-before-init"].into());

    let (_child, address) = started("no-arrays").await;
    let options = Options { target: Target::Running(address), ..of_fake("", words.path()) };
    assert_eq!(failures(&check(options).await), ["run-array"].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_with_their_own_action() {
    let summary =
        check(Options { samples: built_in(Language::None), ..of_fake("empty-code", Path::new("")) }).await;
    assert!(summary.is_kept(true), "{}", text(&summary));
    let tried: BTreeSet<_> =
        summary.cases.iter().filter(|c| c.verdict == Verdict::Ok).map(|c| c.name).collect();
    let wanted = "accepts run-before-init init run-object unknown-path malformed-body init-twice sentinels exec/result \
                  attach/result";
    assert_eq!(tried, wanted.split(' ').collect());
    let summary =
        check(Options { samples: built_in(Language::None), ..of_fake("good", Path::new("")) }).await;
    assert_eq!(failures(&summary), ["init"].into());
}

async fn command_line(args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kwsk-shim"));
    command.arg("check").args(args).kill_on_drop(true).output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_it_all() {
    let words = words();
    let words = words.path().to_str().unwrap();
    let mut argv = fake::command("polite", Path::new("/dev/null"));
    for arg in &mut argv {
        *arg = format!("'{}'", arg.replace('\'', r"'\''"));
    }
    let argv = argv.join(" ");
    let given = ["--image-cmd", &argv, "--samples", words, "--filter", "exception", "--time-limit", "1500"];
    let seen = command_line(&given).await;
    let text = String::from_utf8(seen.stdout).unwrap();
    assert_eq!(seen.status.code(), Some(0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "ok    exception");
    assert_eq!(lines[1], "FAIL  exception-status (should)");
    assert!(lines[2].starts_with("      sent      POST /run {\"value\":{}"), "{text}");
    assert_eq!(lines[3], "      expected  a status other than 200");
    assert_eq!(lines[4], "      got       200 {\"error\":\"An error has occurred: thrown\"}");
    assert_eq!(lines[5], "      contract  an exception does not answer 200");
    let end = "the contract is kept: 3 ok, 0 must and 1 should failed, 0 skipped";
    assert_eq!(lines[6..], ["ok    exec/exception", "ok    attach/exception", end]);

    let seen = command_line(&[&given[..], &["--strict", "--json"]].concat()).await;
    assert_eq!(seen.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(document["ok"], false);
    assert_eq!(document["counts"], serde_json::json!({"ok": 3, "must": 0, "should": 1, "skipped": 0}));
    assert_eq!(document["cases"][1]["verdict"], "fail");
    assert_eq!(document["cases"][1]["level"], "should");

    let seen = command_line(&["--list"]).await;
    assert_eq!(seen.status.code(), Some(0));
    assert_eq!(String::from_utf8(seen.stdout).unwrap().lines().count(), check::cases().len());
    let help = String::from_utf8(command_line(&["--help"]).await.stdout).unwrap();
    assert!(SAMPLES.iter().all(|sample| help.contains(sample.meaning())));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_starts_where_the_command_is_given() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kwsk-shim"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runtimes")).kill_on_drop(true);
    command.args([
        "check",
        "--image-cmd",
        "node nodejs.js {port}",
        "--language",
        "nodejs",
        "--filter",
        "result",
    ]);
    let seen = command.output().await.unwrap();
    let text = String::from_utf8(seen.stdout).unwrap();
    assert_eq!(seen.status.code(), Some(0), "{text}");
    assert!(text.contains("ok    exec/result") && text.contains("ok    attach/result"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_refuses_nonsense() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = listener.local_addr().unwrap().port().to_string();
    for (args, reason) in [
        (&["--language", "nodejs"][..], "name the runtime: --image-cmd COMMAND or --runtime ADDR"),
        (
            &["--image-cmd", "x", "--runtime", "127.0.0.1:1", "--language", "none"],
            "--image-cmd and --runtime exclude each other",
        ),
        (&["--image-cmd", "sh 'x", "--language", "none"], "a quote is not closed in sh 'x"),
        (&["--image-cmd", " ", "--language", "none"], "the command is empty"),
        (
            &["--image-cmd", "no-such-program {port}", "--language", "none"],
            "there is no program 'no-such-program'",
        ),
        (&["--image-cmd", "sh {port}"], "the runtime needs actions"),
        (&["--image-cmd", "sh {port}", "--language", "cobol"], "there are no samples in 'cobol'"),
        (
            &["--image-cmd", "sh {port}", "--samples", "/nonexistent"],
            "the samples in /nonexistent cannot be read",
        ),
        (
            &["--image-cmd", "sh {port}", "--language", "none", "--filter", "init", "--skip", "in"],
            "no case is left to be tried",
        ),
        (&["--image-cmd", "sh", "--port", &taken, "--language", "none"], "something listens on port"),
        (&["--runtime", "nowhere", "--language", "none"], "'nowhere' is no address"),
        (&["--image-cmd", "sh", "--timeout", "0", "--language", "none"], "--timeout: 0 is no time to wait"),
        (&["--image-cmd", "sh", "--timeout", "-1", "--language", "none"], "--timeout"),
        (&["--image-cmd", "sh", "--port", "70000", "--language", "none"], "--port"),
        (&["--wrong"], "invalid option '--wrong'"),
    ] {
        let seen = command_line(args).await;
        let said = String::from_utf8(seen.stderr).unwrap();
        assert_eq!(seen.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(reason) && said.lines().count() == 1, "{args:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_ends_is_quoted() {
    let argv = ["sh", "-c", "echo no licence >&2; exit 3", "{port}"].map(str::to_owned);
    let summary = check(options(argv.into(), built_in(Language::None))).await;
    assert_eq!(failures(&summary), ["accepts"].into());
    let Verdict::Fail(finding) = &summary.cases[0].verdict else { panic!("{summary:?}") };
    assert_eq!(finding.got, "it ended (exit status: 3) and said: no licence");
    assert!(summary.cases[1..].iter().all(|case| matches!(case.verdict, Verdict::Skip(_))));
}
