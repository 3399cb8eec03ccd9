//! What the server prints when it is ready.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;

use crate::app::{GUEST_KEY, Standalone};
use crate::config::Config;
use crate::report;

/// Prints to stdout: the log is on stderr.
pub fn print(text: &str) {
    report::print(&mut io::stdout().lock(), text);
}

/// URL, key, runtimes, sandbox, and three commands that work when pasted.
#[must_use]
pub fn text(config: &Config, listen: SocketAddr, standalone: &Standalone) -> String {
    let url = config.api_host(listen);
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        if writeln!(text, "{label:<9} {value}").is_err() {
            unreachable!();
        }
    };
    line("kwsk", &format!("{} listens on {url}", env!("CARGO_PKG_VERSION")));
    line("data", &config.data.display().to_string());
    line("key", GUEST_KEY);
    let (found, missing) = runtimes(standalone);
    line("runtimes", &found);
    if !missing.is_empty() {
        line("not here", &missing);
    }
    line("sandbox", &listed(&standalone.features()));
    if !listen.ip().is_loopback() {
        line("WARNING", "the key above is public: whoever reaches this address runs code on this machine");
    }
    text.push_str(&commands(&url, sample(standalone)));
    text
}

/// Kinds by the program that runs them, and why the others are missing.
fn runtimes(standalone: &Standalone) -> (String, String) {
    let (mut found, mut missing) = (Grouped::default(), Grouped::default());
    for finding in standalone.runtimes() {
        match &finding.available {
            Ok(program) => found.add(program, &finding.kind),
            Err(why) => missing.add(why, &finding.kind),
        }
    }
    let none = "none: install Node.js or Python";
    let found = if found.0.is_empty() { none.to_owned() } else { found.text() };
    (found, missing.text())
}

/// Kinds that have something in common.
#[derive(Default)]
struct Grouped(Vec<(String, Vec<String>)>);

impl Grouped {
    fn add(&mut self, common: &str, kind: &str) {
        match self.0.iter_mut().find(|(of, _)| of == common) {
            Some((_, kinds)) => kinds.push(kind.to_owned()),
            None => self.0.push((common.to_owned(), vec![kind.to_owned()])),
        }
    }

    fn text(&self) -> String {
        let group = |(common, kinds): &(String, Vec<String>)| format!("{} ({common})", kinds.join(", "));
        self.0.iter().map(group).collect::<Vec<_>>().join("; ")
    }
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// An action in a language this machine has.
fn sample(standalone: &Standalone) -> &'static str {
    let has = |family: &str| {
        standalone.runtimes().iter().any(|found| found.kind.starts_with(family) && found.available.is_ok())
    };
    if has("python:") && !has("nodejs:") { PYTHON } else { NODE }
}

const NODE: &str = r#"{"exec":{"kind":"nodejs:default","code":"function main(args) { return { greeting: `Hello, ${args.name}!` } }"}}"#;
const PYTHON: &str = r#"{"exec":{"kind":"python:default","code":"def main(args):\n  return dict(greeting=\"Hello, \" + args[\"name\"])"}}"#;

/// Quoted so that they survive any shell.
fn commands(url: &str, sample: &str) -> String {
    let actions = format!("{url}/api/v1/namespaces/_/actions");
    let json = "-H 'Content-Type: application/json'";
    format!(
        r#"
Try, in another terminal:

  curl -u {GUEST_KEY} -X PUT '{actions}/hello?overwrite=true' {json} -d '{sample}'
  curl -u {GUEST_KEY} -X POST '{actions}/hello?blocking=true&result=true' {json} -d '{{"name":"world"}}'
  curl -u {GUEST_KEY} '{actions}'

"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_grouped() {
        let mut groups = Grouped::default();
        groups.add("node", "nodejs:20");
        groups.add("python3", "python:3.11");
        groups.add("node", "nodejs:22");
        assert_eq!(groups.text(), "nodejs:20, nodejs:22 (node); python:3.11 (python3)");
    }

    #[test]
    fn the_body_of_the_first_command_is_json() {
        for (sample, kind) in [(NODE, "nodejs:default"), (PYTHON, "python:default")] {
            let text = commands("http://127.0.0.1:3233", sample);
            let body = text.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["exec"]["kind"], kind);
        }
    }
}
