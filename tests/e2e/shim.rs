//! The shim in real containers: kwsk's own images, an image it was appended to, and one it sits beside.

use reqwest::Method;
use reqwest::header::HeaderMap;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::container::{Action, AsHeaders as _, Container, Options, wait};
use crate::node::Node;

const NODE: &str = "function main(a) { console.log('hello log'); return {greeting: `Hello, ${a.name}!`} }";
const PYTHON: &str =
    "def main(a):\n    print('hello log')\n    return {'greeting': f\"Hello, {a['name']}!\"}\n";
const NATIVE: &str = "#!/bin/sh\necho 'hello log'\necho '{\"greeting\":\"Hello, shell!\"}'\n";

fn image(name: &str) -> String {
    Node::get().image(name)
}

/// A stock runtime's image with the shim appended.
fn appended() -> String {
    Node::get().append(&image("stock"))
}

fn result(report: &Value) -> &Value {
    &report["response"]["result"]
}

fn error(report: &Value) -> &str {
    result(report)["error"].as_str().unwrap_or_else(|| panic!("no error: {report}"))
}

/// The text of each log line.
fn logs(report: &Value) -> Vec<&str> {
    report["logs"].as_array().unwrap().iter().map(|line| &line.as_str().unwrap()[31..]).collect()
}

#[test]
fn every_kind_runs() {
    for (name, kind, code, greeting) in [
        ("nodejs", "nodejs:20", NODE, "Hello, you!"),
        ("python", "python:3.11", PYTHON, "Hello, you!"),
        ("native", "blackbox", NATIVE, "Hello, shell!"),
    ] {
        let container = Container::ready(&image(name), Options::of(Action::new(kind, code)));
        for n in 0..2 {
            let report = container.report(&json!({"name": "you"}));
            assert_eq!(result(&report)["greeting"], greeting, "{name}: {report}");
            assert_eq!(logs(&report), ["stdout: hello log"], "{name}");
            assert_eq!(report.get("initMs").is_some(), n == 0, "{name}: {report}");
        }
        let plain = container.post(&json!({"name": "you"}));
        assert_eq!((plain.status, &plain.body), (200, &json!({ "greeting": greeting })), "{name}");
        assert_eq!(plain.headers["x-kwsk-activation"].len(), 32, "{name}");
    }
}

#[test]
fn any_image_runs_once_the_shim_is_appended() {
    let appended = appended();
    assert!(appended.contains("@sha256:"), "{appended}");
    let code = "function main(a) { console.log('hello log'); return {greeting: `Hello, ${a.name}!`, image: process.env.FROM_IMAGE, cwd: process.cwd()} }";
    let container = Container::ready(&appended, Options::of(Action::new("blackbox", code)));
    let report = container.report(&json!({"name": "you"}));
    let expected = json!({"greeting": "Hello, you!", "image": "kept", "cwd": "/srv"});
    assert_eq!(result(&report), &expected, "{report}");
    assert_eq!(logs(&report), ["stdout: hello log"]);
    let failed = container.post(&json!(["no object"]));
    assert_eq!(failed.status, 200, "an array is an argument as well: {failed:?}");
}

#[test]
fn an_image_without_rights_runs_beside_a_shim() {
    // Nothing of the runtime's container is the shim's: not its files, not its processes, not its output.
    let stock = Container::start(&image("stock"), Options::default());
    let action = Action::new("blackbox", NODE);
    let options = Options::of(action).command(&["/kwsk/bin/shim", "attach"]).beside(&stock);
    let shim = Container::ready(&image("shim"), options);
    assert_eq!(result(&shim.report(&json!({"name": "you"})))["greeting"], "Hello, you!");
    assert_eq!(shim.post(&json!({"name": "us"})).body, json!({"greeting": "Hello, us!"}));
}

#[test]
fn memory_has_a_limit() {
    // The first touches page by page, so that the shim sees it coming; the second leaves that to the kernel.
    let gradual = "const kept = []; function main(a) { if (!a.mb) return {}; \
        for (let n = 0; n < a.mb; n++) kept.push(Buffer.alloc(1 << 20, 1)); \
        return new Promise(r => setTimeout(() => r({kept: kept.length}), 1000)) }";
    let at_once =
        "function main(a) { if (!a.mb) return {}; return {kept: Buffer.alloc(a.mb << 20, 1).length} }";
    for (name, kind) in [(image("nodejs"), "nodejs:20"), (appended(), "blackbox")] {
        for code in [gradual, at_once] {
            let action = Action::new(kind, code).limit("memory", 128);
            let container = Container::ready(&name, Options::of(action));
            assert_eq!(result(&container.report(&json!({}))), &json!({}), "{kind}");
            let report = container.report(&json!({"mb": 512}));
            assert_eq!(error(&report), "The action exhausted its memory and was aborted.", "{report}");
            let next = container.report(&json!({}));
            assert_eq!(result(&next), &json!({}), "the next one has a new runtime");
            assert!(next.get("initMs").is_some(), "{next}");
        }
    }
}

#[test]
fn time_has_a_limit() {
    let text = "The action exceeded its time limits of 500 milliseconds.";
    let code = "function main(a) { if (a.hang) while (true); return {pid: process.pid} }";
    for (image, kind) in [(image("nodejs"), "nodejs:20"), (appended(), "blackbox")] {
        let action = Action::new(kind, code).limit("timeout", 500);
        let container = Container::ready(&image, Options::of(action));
        let first = result(&container.report(&json!({})))["pid"].clone();
        let report = container.report(&json!({"hang": true}));
        assert_eq!((error(&report), &report["timedOut"]), (text, &json!(true)), "{report}");
        let second = container.report(&json!({}));
        assert_ne!(result(&second)["pid"], first, "{second}");
    }
}

#[test]
fn what_escapes_is_ended_with_its_runtime() {
    let code =
        "#!/bin/sh\ncase \"$1\" in *leave*) setsid sleep 4321 & ;; *hang*) sleep 1234 ;; esac\necho '{}'\n";
    let action = Action::new("blackbox", code).limit("timeout", 1000);
    let container = Container::ready(&image("native"), Options::of(action));
    assert_eq!(result(&container.report(&json!({"leave": 1}))), &json!({}));
    let sleeps =
        || container.processes().into_iter().filter(|line| line.starts_with("sleep ")).collect::<Vec<_>>();
    let report = container.report(&json!({"hang": 1}));
    assert_eq!(error(&report), "The action exceeded its time limits of 1000 milliseconds.");
    wait("the end of what it started", || sleeps().is_empty().then_some(()));
    wait("one process in the container", || (container.processes().len() == 1).then_some(()));
}

#[test]
fn a_root_that_cannot_be_written() {
    for (image, kind, code) in [
        (image("nodejs"), "nodejs:20", NODE),
        (image("python"), "python:3.11", PYTHON),
        (appended(), "blackbox", NODE),
    ] {
        let options = Options::of(Action::new(kind, code)).read_only();
        let container = Container::ready(&image, options);
        let report = container.report(&json!({"name": "you"}));
        assert_eq!(result(&report)["greeting"], "Hello, you!", "{kind}: {report}");
    }
    let options = Options::of(Action::new("blackbox", NATIVE)).read_only().temporary();
    let container = Container::ready(&image("native"), options);
    assert_eq!(result(&container.report(&json!({})))["greeting"], "Hello, shell!");
}

#[test]
fn no_user_and_no_capabilities() {
    let code = "#!/bin/bash\nwhile read -r key value; do [ \"$key\" = CapEff: ] && caps=$value; done < /proc/self/status\n\
        echo \"{\\\"uid\\\":\\\"$(id -u)\\\",\\\"caps\\\":\\\"$caps\\\"}\"\n";
    let options = Options::of(Action::new("blackbox", code)).no_capabilities();
    let container = Container::ready(&image("native"), options);
    let report = container.report(&json!({}));
    assert_eq!(result(&report), &json!({"uid": "65532", "caps": "0000000000000000"}), "{report}");

    let code = "const fs = require('fs'); function main() { return {uid: process.getuid(), caps: /CapEff:\\s*(\\w+)/.exec(fs.readFileSync('/proc/self/status'))[1]} }";
    for (image, kind) in [(image("nodejs"), "nodejs:20"), (appended(), "blackbox")] {
        let container = Container::ready(&image, Options::of(Action::new(kind, code)).no_capabilities());
        let report = container.report(&json!({}));
        assert_eq!(result(&report), &json!({"uid": 65532, "caps": "0000000000000000"}), "{report}");
    }
}

#[test]
fn the_port_of_the_platform_is_the_shims_alone() {
    let code = "function main() { return {port: process.env.PORT ?? null, k: Object.keys(process.env).filter(k => /^(K_|KWSK_)/.test(k)), own: process.env.OWN ?? null} }";
    let options = Options::of(Action::new("blackbox", code));
    let options = options.env("PORT=8090").env("K_SERVICE=act").env("K_REVISION=act-00001").env("OWN=yes");
    let container = Container::ready(&appended(), options);
    let report = container.report(&json!({}));
    assert_eq!(result(&report), &json!({"port": null, "k": [], "own": "yes"}), "{report}");
}

#[test]
fn it_ends_when_it_is_told_to_but_finishes_what_runs() {
    let code = "function main(a) { if (a.slow) console.log('begun'); return new Promise(r => setTimeout(() => r({done: true}), a.slow ? 700 : 0)) }";
    for (image, kind) in [(image("nodejs"), "nodejs:20"), (appended(), "blackbox")] {
        let mut container = Container::ready(&image, Options::of(Action::new(kind, code)));
        container.report(&json!({}));
        let answer = std::thread::scope(|scope| {
            let slow = scope.spawn(|| container.report(&json!({"slow": true})));
            wait("a run in flight", || {
                let metrics = container.call(Method::GET, "/kwsk/metrics", HeaderMap::new(), Vec::new());
                let text = metrics.body.as_str().unwrap().to_owned();
                text.lines().any(|line| line.contains("in_flight") && line.ends_with(" 1")).then_some(())
            });
            container.signal(Signal::TERM);
            slow.join().unwrap()
        });
        assert_eq!(result(&answer), &json!({"done": true}));
        assert!(container.wait().success());
    }
}

#[test]
fn what_is_wrong_with_the_mount_is_said_by_the_activation() {
    let other = Action::new("nodejs:20", NODE).with_other_code("function main() {}");
    let broken = Action::new("nodejs:20", NODE).member("limits", json!("none"));
    for (action, words) in [(other, "SHA-256"), (broken, "runtime")] {
        let container = Container::ready(&image("nodejs"), Options::of(action));
        for _ in 0..2 {
            let report = container.report(&json!({}));
            assert!(error(&report).contains(words), "{report}");
        }
    }
}

#[test]
fn events_are_answered_with_events() {
    let container = Container::ready(&image("nodejs"), Options::of(Action::new("nodejs:20", NODE)));
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "e1"),
        ("ce-source", "/somewhere"),
        ("ce-type", "test"),
        ("content-type", "application/json"),
        ("prefer", "reply"),
    ];
    let call = || {
        let body = json!({"name": "you"}).to_string().into();
        container.call(Method::POST, "/kwsk/rule/guest/r", headers.as_headers(), body)
    };
    let (first, again) = (call(), call());
    assert_eq!((first.status, &first.headers["ce-type"]), (200, &"dev.kwsk.activation".parse().unwrap()));
    assert_eq!(result(&first.body)["greeting"], "Hello, you!");
    assert_eq!(first.headers["ce-id"], again.headers["ce-id"]);
    assert_eq!(logs(&first.body), ["stdout: hello log"]);
    assert_eq!(
        (&first.body["logs"], &again.body["repeated"]),
        (&again.body["logs"], &json!(true)),
        "it ran once"
    );
}
