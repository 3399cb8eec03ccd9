//! How runtimes are spoken to: each protocol turns an init and a run into an [`Answer`].

pub(crate) mod actionloop;
pub(crate) mod http;
pub(crate) mod multiplex;
pub(crate) mod native;

use kwsk_model::activation::ActivationResponse;
use kwsk_model::proxy::env_text;
use kwsk_translate::outcome::{self, RuntimeAnswer, Stage};
use serde_json::{Map, Value, json};

use crate::spec::{ActionSpec, Run};
use crate::stream::Line;

/// What an answer that is longer than allowed may have before its body.
const HEADER_MAX: u64 = 64;

/// How a call of a runtime ended; owns what [`RuntimeAnswer`] borrows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Body {
        status: u16,
        body: String,
    },
    TooLarge {
        length: u64,
        limit: u64,
        prefix: String,
    },
    Died,
    TimedOut,
    OutOfMemory,
    NotStarted,
    NoExecutable(String),
    /// The runtime could not be reached: it got nothing.
    Unsent,
    /// What the platform provides for the action cannot be used, and what to do about it.
    Unusable(String),
}

impl Answer {
    /// `{"error": message}` with a status.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::Body { status, body: json!({ "error": message }).to_string() }
    }

    /// The body of an answer, or what is to be said about its length.
    pub(crate) fn of_line(status: u16, head: &[u8], length: u64, limit: u64) -> Self {
        if length <= limit {
            return Self::Body { status, body: String::from_utf8_lossy(head).into_owned() };
        }
        let kept = head.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        let prefix = match std::str::from_utf8(&head[..kept]) {
            Ok(text) => text.to_owned(),
            Err(error) => String::from_utf8_lossy(&head[..error.valid_up_to()]).into_owned(),
        };
        Self::TooLarge { length, limit, prefix }
    }

    pub(crate) fn response(&self, stage: Stage, limit_ms: u64) -> ActivationResponse {
        let answer = match self {
            Self::Unusable(why) => return ActivationResponse::whisk_error(why.as_str()),
            Self::Body { status, body } => RuntimeAnswer::Answered { status: *status, body },
            Self::TooLarge { length, limit, prefix } => {
                RuntimeAnswer::TooLarge { length: *length, limit: *limit, prefix }
            }
            Self::Died | Self::Unsent => RuntimeAnswer::Died,
            Self::TimedOut => RuntimeAnswer::TimedOut { limit_ms },
            Self::OutOfMemory => RuntimeAnswer::OutOfMemory,
            Self::NotStarted => RuntimeAnswer::NotStarted,
            Self::NoExecutable(program) => RuntimeAnswer::NoExecutable { program },
        };
        outcome::response(stage, answer)
    }

    /// True for a good `/init` answer.
    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Self::Body { status: 200, .. })
    }

    /// True when an HTTP runtime says that it is shutting down; upstream then runs the activation elsewhere.
    pub(crate) fn is_shutting_down(&self) -> bool {
        matches!(self, Self::Body { status: 503, .. })
    }

    /// True when a runtime refuses `/init` because it had one.
    pub(crate) fn is_initialised_already(&self) -> bool {
        matches!(self, Self::Body { status: 403, body } if body.contains("more than once"))
    }
}

/// One request line of the ActionLoop protocol, which is also the body of `/run`. The arguments stay text; a raw newline in JSON is only ever white space
/// between tokens, and would end the line.
pub(crate) fn request_line(run: &Run, tag: Option<u64>) -> Vec<u8> {
    let context = serde_json::to_string(&run.context).unwrap_or_default();
    let arguments = run.arguments.get();
    let mut line = Vec::with_capacity(arguments.len() + context.len() + 40);
    line.extend_from_slice(br#"{"value":"#);
    line.extend_from_slice(arguments.as_bytes());
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    if let Some(tag) = tag {
        line.extend_from_slice(format!(",\"tag\":{tag}").as_bytes());
    }
    line.push(b',');
    line.extend_from_slice(context.get(1..).unwrap_or("}").as_bytes());
    line.push(b'\n');
    line
}

/// The environment of `/init`: the first activation's `__OW_*` and the init parameters, all text.
pub(crate) fn init_env(spec: &ActionSpec, run: &Run) -> Map<String, Value> {
    let own = run.context.variables().into_iter().map(|(key, value)| (key.to_owned(), value.into()));
    let given = spec.init_env.iter().map(|(key, value)| (key.clone(), env_text(value).into()));
    own.chain(given).collect()
}

/// The same for a process that is started with it. What no environment can hold is left out.
pub(crate) fn process_env(spec: &ActionSpec, run: &Run) -> Vec<(String, String)> {
    let usable = |(key, value): &(String, String)| {
        !key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0')
    };
    let text = |(key, value)| (key, env_text(&value));
    init_env(spec, run).into_iter().map(text).filter(usable).collect()
}

/// A line of kwsk's own launchers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The answer to the run with this tag, or to the only one.
    Answer { tag: Option<u64>, answer: Answer },
    /// A piece of a run's output.
    Log { tag: u64, stderr: bool, text: String },
}

impl Frame {
    /// `=<status>[@<tag>] <body>`, `1@<tag> <JSON string>` or `2@<tag> <JSON string>`.
    pub(crate) fn parse(line: &Line, limit: u64) -> Option<Self> {
        let space = line.head.iter().take(HEADER_MAX as usize).position(|b| *b == b' ')?;
        let header = std::str::from_utf8(&line.head[..space]).ok()?;
        let body = &line.head[space + 1..];
        let (what, tag) = match header.split_once('@') {
            Some((what, tag)) => (what, Some(tag.parse().ok()?)),
            None => (header, None),
        };
        if let Some(status) = what.strip_prefix('=') {
            let length = line.length.saturating_sub(space as u64 + 1);
            let answer = Answer::of_line(status.parse().ok()?, body, length, limit);
            return Some(Self::Answer { tag, answer });
        }
        let text = serde_json::from_slice(body).ok()?;
        Some(Self::Log { tag: tag?, stderr: what == "2", text })
    }
}

/// Bytes of a line that have to be kept to report a result of `limit` bytes.
pub(crate) fn line_cap(limit: u64) -> u64 {
    limit.saturating_add(HEADER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kwsk_model::json::RawJson;

    #[test]
    fn request_lines_are_one_line() {
        let spec = ActionSpec::new("a", "k", None);
        let arguments = RawJson::parse("{\n \"a\":\r\n \"b\\n\"}".into()).unwrap();
        let run = Run { context: spec.identity.clone(), arguments };
        for tag in [None, Some(7)] {
            let line = String::from_utf8(request_line(&run, tag)).unwrap();
            assert_eq!(line.matches('\n').count(), 1);
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["value"], json!({"a":"b\n"}));
            assert_eq!(value["action_name"], "/_/a");
            assert_eq!(value["tag"].as_u64(), tag);
        }
    }

    #[test]
    fn frames() {
        let parse = |text: &str, length| Frame::parse(&Line { head: text.into(), length }, 8);
        let body = |status, body: &str| Answer::Body { status, body: body.into() };
        assert_eq!(parse("=200 {}", 7), Some(Frame::Answer { tag: None, answer: body(200, "{}") }));
        assert_eq!(parse("=502@3 {}", 9), Some(Frame::Answer { tag: Some(3), answer: body(502, "{}") }));
        let large = Answer::TooLarge { length: 9, limit: 8, prefix: "[123456".into() };
        assert_eq!(parse("=200 [123456ä]", 14), Some(Frame::Answer { tag: None, answer: large }));
        let log = Frame::Log { tag: 3, stderr: true, text: "a\n".into() };
        assert_eq!(parse(r#"2@3 "a\n""#, 9), Some(log));
        for nonsense in ["", "{}", "=x {}", "1 \"a\"", "1@1 {}", "=200@x {}"] {
            assert_eq!(parse(nonsense, 5), None, "{nonsense}");
        }
    }

    #[test]
    fn environments() {
        let mut spec = ActionSpec::new("a", "k", None);
        spec.init_env = json!({"A":{"b":1}, "N":null, "x=y":1, "Z":"a\0"}).as_object().unwrap().clone();
        let run = Run { context: spec.identity.clone(), arguments: RawJson::empty_object() };
        let env = process_env(&spec, &run);
        assert!(
            env.contains(&("A".into(), r#"{"b":1}"#.into())) && env.contains(&("N".into(), String::new()))
        );
        assert!(env.iter().all(|(key, _)| key != "x=y" && key != "Z"));
        assert!(env.contains(&("__OW_ACTION_NAME".into(), "/_/a".into())));
    }
}
