//! What a runtime answered → [`ActivationResponse`], with upstream's texts (`ErrorResponse.scala`).

use kwsk_model::activation::{ActivationResponse, Outcome};
use kwsk_model::json::RawJson;

/// Which of the two calls was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `/init`.
    Init,
    /// `/run`.
    Run,
}

/// How a runtime's call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeAnswer<'a> {
    /// With a status and the whole body.
    Answered {
        /// Only 200 is success.
        status: u16,
        /// The whole body.
        body: &'a str,
    },
    /// It exited without an answer.
    Died,
    /// It did not answer in time.
    TimedOut {
        /// The time limit.
        limit_ms: u64,
    },
    /// It was killed for its memory.
    OutOfMemory,
    /// Its answer was longer than allowed.
    TooLarge {
        /// Raw bytes of the answer.
        length: u64,
        /// Bytes allowed.
        limit: u64,
        /// The first bytes of it, cut at a character's boundary.
        prefix: &'a str,
    },
    /// It could not be created.
    NotStarted,
    /// It has no such program.
    NoExecutable {
        /// What was to be started.
        program: &'a str,
    },
    /// Its image could not be had.
    ImageNotPulled {
        /// The image.
        image: &'a str,
    },
}

const OUT_OF_MEMORY: &str = "The action exhausted its memory and was aborted.";

/// The response of an activation whose `stage` ended with `answer`. A successful init gives `{}`.
#[must_use]
pub fn response(stage: Stage, answer: RuntimeAnswer<'_>) -> ActivationResponse {
    let developer = |text: String| ActivationResponse::developer_error(text);
    match (stage, answer) {
        (Stage::Init, RuntimeAnswer::Answered { status, body }) => init_answered(status, body),
        (Stage::Run, RuntimeAnswer::Answered { status, body }) => run_answered(status, body),
        (Stage::Init, RuntimeAnswer::Died) => {
            developer("The action did not initialize and exited unexpectedly.".into())
        }
        (Stage::Run, RuntimeAnswer::Died) => {
            developer("The action did not produce a valid response and exited unexpectedly.".into())
        }
        (Stage::Init, RuntimeAnswer::TimedOut { limit_ms }) => developer(format!(
            "The action exceeded its time limits of {limit_ms} milliseconds during initialization."
        )),
        (Stage::Run, RuntimeAnswer::TimedOut { limit_ms }) => {
            developer(format!("The action exceeded its time limits of {limit_ms} milliseconds."))
        }
        (_, RuntimeAnswer::OutOfMemory) => developer(OUT_OF_MEMORY.into()),
        (stage, RuntimeAnswer::TooLarge { length, limit, prefix }) => {
            let outcome = match stage {
                Stage::Init => Outcome::DeveloperError,
                Stage::Run => Outcome::ApplicationError,
            };
            let text = format!(
                "The action produced a response that exceeded the allowed length: {length} > {limit} bytes. \
                 The truncated response was: {prefix}"
            );
            ActivationResponse { size: Some(length), ..ActivationResponse::error(outcome, text) }
        }
        (_, RuntimeAnswer::NotStarted) => {
            ActivationResponse::whisk_error("Failed to provision resources to run the action.")
        }
        (_, RuntimeAnswer::NoExecutable { program }) => {
            developer(format!("exec: \"{program}\": executable file not found in $PATH"))
        }
        (_, RuntimeAnswer::ImageNotPulled { image }) => {
            developer(format!("Failed to pull container image '{image}'."))
        }
    }
}

/// Whether the runtime may take another activation: not after a developer or platform error, and not when the logs
/// of this one are incomplete (truncated ones are).
#[must_use]
pub fn is_reusable(response: &ActivationResponse, logs_complete: bool) -> bool {
    logs_complete && matches!(response.outcome, Outcome::Success | Outcome::ApplicationError)
}

fn init_answered(status: u16, body: &str) -> ActivationResponse {
    if status == 200 {
        return ActivationResponse::success(RawJson::empty_object(), None);
    }
    error_field(body).unwrap_or_else(|| {
        ActivationResponse::developer_error(with_body("The action failed during initialization", body))
    })
}

fn run_answered(status: u16, body: &str) -> ActivationResponse {
    let size = Some(body.chars().count() as u64);
    if status != 200 {
        if let Some(response) = error_field(body) {
            return ActivationResponse { size, ..response };
        }
    } else if let Some(result) = container(body) {
        let failed = result.has_field("error");
        let outcome = if failed { Outcome::ApplicationError } else { Outcome::Success };
        return ActivationResponse { outcome, result: Some(result), size };
    }
    let text = with_body("The action did not produce a valid JSON or JSON Array response", body);
    ActivationResponse { size, ..ActivationResponse::developer_error(text) }
}

/// The body, if it is an object or an array.
fn container(body: &str) -> Option<RawJson> {
    let begins = body.trim_start().starts_with(['{', '[']);
    begins.then(|| RawJson::parse(body.to_owned()).ok()).flatten()
}

fn with_body(text: &str, body: &str) -> String {
    if body.is_empty() { format!("{text}.") } else { format!("{text}: {body}") }
}

/// The developer error that an answer's top-level `error` field describes.
fn error_field(body: &str) -> Option<ActivationResponse> {
    let mut object: serde_json::Map<_, _> = serde_json::from_str(body).ok()?;
    object.remove("error").map(ActivationResponse::developer_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    use RuntimeAnswer::{
        Answered, Died, ImageNotPulled, NoExecutable, NotStarted, OutOfMemory, TimedOut, TooLarge,
    };

    fn outcome(stage: Stage, answer: RuntimeAnswer<'_>) -> (u8, Value) {
        let response = response(stage, answer);
        (response.outcome.code(), response.result.map_or(Value::Null, |r| r.to_value()))
    }

    #[test]
    fn init() {
        for (answer, code, error) in [
            (Answered { status: 403, body: r#"{"error":"Missing"}"# }, 2, json!("Missing")),
            (Answered { status: 502, body: r#"{"error":{"a":1},"b":2}"# }, 2, json!({"a":1})),
            (
                Answered { status: 500, body: "oops" },
                2,
                json!("The action failed during initialization: oops"),
            ),
            (
                Answered { status: 500, body: r#"["error"]"# },
                2,
                json!(r#"The action failed during initialization: ["error"]"#),
            ),
            (Answered { status: 404, body: "" }, 2, json!("The action failed during initialization.")),
            (Died, 2, json!("The action did not initialize and exited unexpectedly.")),
            (
                TimedOut { limit_ms: 100 },
                2,
                json!("The action exceeded its time limits of 100 milliseconds during initialization."),
            ),
            (OutOfMemory, 2, json!(OUT_OF_MEMORY)),
            (NotStarted, 3, json!("Failed to provision resources to run the action.")),
            (ImageNotPulled { image: "x/y" }, 2, json!("Failed to pull container image 'x/y'.")),
            (NoExecutable { program: "z" }, 2, json!("exec: \"z\": executable file not found in $PATH")),
            (
                TooLarge { length: 9, limit: 4, prefix: "abcd" },
                2,
                json!(
                    "The action produced a response that exceeded the allowed length: 9 > 4 bytes. The truncated response was: abcd"
                ),
            ),
        ] {
            assert_eq!(outcome(Stage::Init, answer), (code, json!({ "error": error })), "{answer:?}");
        }
        assert_eq!(outcome(Stage::Init, Answered { status: 200, body: "" }), (0, json!({})));
    }

    #[test]
    fn run() {
        let nonsense = "The action did not produce a valid JSON or JSON Array response";
        let ok = |body| Answered { status: 200, body };
        for (answer, code, result) in [
            (ok(r#"{"a":1}"#), 0, json!({"a":1})),
            (ok(" [1]"), 0, json!([1])),
            (ok(r#"["error"]"#), 0, json!(["error"])),
            (ok(r#"{"a":{"error":1}}"#), 0, json!({"a":{"error":1}})),
            (ok(r#"{"error":null}"#), 1, json!({"error":null})),
            (ok(r#"{"error":"x","b":1}"#), 1, json!({"error":"x","b":1})),
            (ok("null"), 2, json!({"error": format!("{nonsense}: null")})),
            (ok("1"), 2, json!({"error": format!("{nonsense}: 1")})),
            (ok("{"), 2, json!({"error": format!("{nonsense}: {{")})),
            (ok(""), 2, json!({"error": format!("{nonsense}.")})),
            (Answered { status: 502, body: r#"{"error":"x"}"# }, 2, json!({"error":"x"})),
            (
                Answered { status: 502, body: r#"{"a":1}"# },
                2,
                json!({"error": format!("{nonsense}: {{\"a\":1}}")}),
            ),
            (Answered { status: 201, body: "{}" }, 2, json!({"error": format!("{nonsense}: {{}}")})),
            (
                Died,
                2,
                json!({"error":"The action did not produce a valid response and exited unexpectedly."}),
            ),
            (
                TimedOut { limit_ms: 7 },
                2,
                json!({"error":"The action exceeded its time limits of 7 milliseconds."}),
            ),
            (OutOfMemory, 2, json!({"error": OUT_OF_MEMORY})),
            (
                TooLarge { length: 1_048_586, limit: 1_048_576, prefix: "{\"msg\":\"a" },
                1,
                json!({"error":"The action produced a response that exceeded the allowed length: 1048586 > 1048576 bytes. The truncated response was: {\"msg\":\"a"}),
            ),
        ] {
            assert_eq!(outcome(Stage::Run, answer), (code, result), "{answer:?}");
        }
    }

    #[test]
    fn sizes_are_characters() {
        assert_eq!(response(Stage::Run, Answered { status: 200, body: r#"{"a":"ä"}"# }).size, Some(9));
        assert_eq!(response(Stage::Run, Died).size, None);
    }

    #[test]
    fn reuse() {
        let of = |status, body| response(Stage::Run, Answered { status, body });
        assert!(is_reusable(&of(200, "{}"), true));
        assert!(is_reusable(&of(200, r#"{"error":1}"#), true));
        assert!(!is_reusable(&of(200, "{}"), false));
        assert!(!is_reusable(&of(502, r#"{"error":1}"#), true));
        assert!(!is_reusable(&ActivationResponse::whisk_error("x"), true));
    }
}
