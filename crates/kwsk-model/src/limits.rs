//! Limits: units, bounds, defaults and the texts OpenWhisk answers when one is exceeded (`limits/*.scala`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Bytes of one mebibyte; OpenWhisk says MB and means this.
pub const MB: u64 = 1024 * 1024;
/// Largest `exec` in bytes: code as sent, plus `main`, plus `image` (`whisk.action.exec-size-limit`).
pub const MAX_EXEC_BYTES: u64 = 48 * MB;
/// Largest payload of an invocation or a fire, in bytes (`whisk.activation.payload.max`).
pub const MAX_PAYLOAD_BYTES: u64 = MB;
/// Largest result in bytes; more is cut (`whisk.activation.payload.truncation`).
pub const MAX_RESULT_BYTES: u64 = MB;
/// Largest parameter list, and largest annotation list, in bytes of compact JSON.
pub const MAX_PARAMETERS_BYTES: u64 = MB;
/// Largest request body the server reads at all, in bytes (`akka.http.server.parsing.max-content-length`).
pub const MAX_BODY_BYTES: u64 = 50 * MB;
/// Longest wait of a blocking invocation, in milliseconds.
pub const MAX_BLOCKING_WAIT_MS: u64 = 60_000;
/// Most actions in a sequence.
pub const MAX_SEQUENCE_LENGTH: u32 = 50;
/// Items of a list page when the caller names no limit.
pub const LIST_DEFAULT: u32 = 30;
/// Most items of a list page.
pub const LIST_MAX: u32 = 200;

/// What an action may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Milliseconds, 100–300 000, default 60 000; init and run each.
    pub timeout: u64,
    /// MB, 128–512, default 256.
    pub memory: u64,
    /// MB of log text, 0–10, default 10.
    pub logs: u64,
    /// Activations at a time in one instance, 1–1 unless the platform allows more.
    pub concurrency: u64,
    /// Most instances; shown only when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: 60_000, memory: 256, logs: 10, concurrency: 1, instances: None }
    }
}

/// The limits of a PUT: each may be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LimitsPut {
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<u64>,
    /// Count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
}

/// A limit that is not a whole number. `Display` is the reason after `The request content was malformed:\n`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitMalformed {
    /// Not a number.
    #[error("{0} limit malformed")]
    Type(&'static str),
    /// A fraction.
    #[error("requirement failed: {0} limit must be whole number")]
    Fraction(&'static str),
    /// Not an object.
    #[error("limits must be an object")]
    NotAnObject,
}

impl LimitsPut {
    /// Reads the `limits` object of a PUT body; unknown fields are ignored.
    ///
    /// # Errors
    /// [`LimitMalformed`] names the first wrong one.
    pub fn from_json(value: &Value) -> Result<Self, LimitMalformed> {
        let map = match value {
            Value::Object(map) => map,
            Value::Null => return Ok(Self::default()),
            _ => return Err(LimitMalformed::NotAnObject),
        };
        Ok(Self {
            timeout: whole(map, "timeout", "time", "time")?,
            memory: whole(map, "memory", "memory", "memory")?,
            logs: whole(map, "logs", "log", "log")?,
            concurrency: whole(map, "concurrency", "concurrency", "intra concurrency")?,
            instances: whole(map, "instances", "instances", "instances")?,
        })
    }

    /// `over` these, field by field.
    #[must_use]
    pub fn over(&self, base: &Limits) -> Limits {
        Limits {
            timeout: self.timeout.unwrap_or(base.timeout),
            memory: self.memory.unwrap_or(base.memory),
            logs: self.logs.unwrap_or(base.logs),
            concurrency: self.concurrency.unwrap_or(base.concurrency),
            instances: self.instances.or(base.instances),
        }
    }
}

fn whole(
    map: &Map<String, Value>,
    key: &str,
    word: &'static str,
    fraction_word: &'static str,
) -> Result<Option<u64>, LimitMalformed> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(n)) => match (n.as_u64(), n.as_f64()) {
            (Some(n), _) => Ok(Some(n)),
            (None, Some(f)) if f.fract() != 0.0 => Err(LimitMalformed::Fraction(fraction_word)),
            // Negative numbers are below every bound; 0 says so in the right words except for logs.
            (None, _) => Err(LimitMalformed::Type(word)),
        },
        Some(_) => Err(LimitMalformed::Type(word)),
    }
}

/// A limit outside its bounds. `Display` is what OpenWhisk answers, with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Below `min`.
    #[error("{what} {value}{unit} below allowed threshold of {bound}{unit}")]
    Below {
        /// The limit in upstream's words.
        what: &'static str,
        /// The unit with a leading space, or nothing.
        unit: &'static str,
        /// What was asked for.
        value: u64,
        /// The bound.
        bound: u64,
    },
    /// Above `max`.
    #[error("{what} {value}{unit} exceeds allowed threshold of {bound}{unit}")]
    Above {
        /// The limit in upstream's words.
        what: &'static str,
        /// The unit with a leading space, or nothing.
        unit: &'static str,
        /// What was asked for.
        value: u64,
        /// The bound.
        bound: u64,
    },
    /// Fewer instances than one.
    #[error("Action container concurrency must be greater than or equal to {0}.")]
    TooFewInstances(u64),
    /// More instances than the namespace may run at a time.
    #[error("Max action instance concurrency must not exceed your namespace concurrency of {0}.")]
    TooManyInstances(u64),
}

/// Inclusive bounds of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Smallest allowed.
    pub min: u64,
    /// Largest allowed.
    pub max: u64,
}

/// The bounds of a namespace: the system's, or narrower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitBounds {
    /// Milliseconds.
    pub timeout: Bounds,
    /// MB.
    pub memory: Bounds,
    /// MB.
    pub logs: Bounds,
    /// Count.
    pub concurrency: Bounds,
    /// Most instances of one action: the namespace's concurrent invocations.
    pub instances: u64,
}

impl Default for LimitBounds {
    /// OpenWhisk's `application.conf`.
    fn default() -> Self {
        Self {
            timeout: Bounds { min: 100, max: 300_000 },
            memory: Bounds { min: 128, max: 512 },
            logs: Bounds { min: 0, max: 10 },
            concurrency: Bounds { min: 1, max: 1 },
            instances: 30,
        }
    }
}

impl LimitBounds {
    /// Checks every limit.
    ///
    /// # Errors
    /// The first [`LimitError`], in the order timeout, memory, logs, concurrency, instances.
    pub fn check(&self, limits: &Limits) -> Result<(), LimitError> {
        let check = |what, unit, value, bounds: Bounds| {
            if value < bounds.min {
                let bound = bounds.min;
                Err(LimitError::Below { what, unit, value, bound })
            } else if value > bounds.max {
                let bound = bounds.max;
                Err(LimitError::Above { what, unit, value, bound })
            } else {
                Ok(())
            }
        };
        check("duration", " milliseconds", limits.timeout, self.timeout)?;
        check("memory size", " MB", limits.memory, self.memory)?;
        check("log size", " MB", limits.logs, self.logs)?;
        check("concurrency", "", limits.concurrency, self.concurrency)?;
        match limits.instances {
            Some(0) => Err(LimitError::TooFewInstances(1)),
            Some(n) if n > self.instances => Err(LimitError::TooManyInstances(self.instances)),
            _ => Ok(()),
        }
    }
}

/// Why a payload, exec, parameter or annotation list is refused with 413.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} larger than allowed: {size} > {limit} bytes.")]
pub struct TooLarge {
    /// `exec`, `parameters`, `annotations` or `Request`.
    pub what: &'static str,
    /// Bytes sent.
    pub size: u64,
    /// Bytes allowed.
    pub limit: u64,
}

impl TooLarge {
    /// # Errors
    /// [`TooLarge`] when `size` exceeds `limit`.
    pub fn check(what: &'static str, size: u64, limit: u64) -> Result<(), Self> {
        if size > limit { Err(Self { what, size, limit }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bounds() {
        let bounds = LimitBounds::default();
        let ok = Limits::default();
        assert_eq!(bounds.check(&ok), Ok(()));
        for (limits, text) in [
            (
                Limits { timeout: 99, ..ok },
                "duration 99 milliseconds below allowed threshold of 100 milliseconds",
            ),
            (
                Limits { timeout: 300_001, ..ok },
                "duration 300001 milliseconds exceeds allowed threshold of 300000 milliseconds",
            ),
            (Limits { memory: 127, ..ok }, "memory size 127 MB below allowed threshold of 128 MB"),
            (Limits { memory: 513, ..ok }, "memory size 513 MB exceeds allowed threshold of 512 MB"),
            (Limits { logs: 11, ..ok }, "log size 11 MB exceeds allowed threshold of 10 MB"),
            (Limits { concurrency: 0, ..ok }, "concurrency 0 below allowed threshold of 1"),
            (Limits { concurrency: 2, ..ok }, "concurrency 2 exceeds allowed threshold of 1"),
            (
                Limits { instances: Some(0), ..ok },
                "Action container concurrency must be greater than or equal to 1.",
            ),
            (
                Limits { instances: Some(31), ..ok },
                "Max action instance concurrency must not exceed your namespace concurrency of 30.",
            ),
        ] {
            assert_eq!(bounds.check(&limits).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn malformed() {
        for (value, text) in [
            (json!({"timeout":"1"}), "time limit malformed"),
            (json!({"memory":[]}), "memory limit malformed"),
            (json!({"logs":true}), "log limit malformed"),
            (json!({"concurrency":{}}), "concurrency limit malformed"),
            (json!({"memory":1.5}), "requirement failed: memory limit must be whole number"),
            (json!({"timeout":0.1}), "requirement failed: time limit must be whole number"),
            (json!({"concurrency":1.1}), "requirement failed: intra concurrency limit must be whole number"),
        ] {
            assert_eq!(LimitsPut::from_json(&value).unwrap_err().to_string(), text);
        }
        let put = LimitsPut::from_json(&json!({"timeout": 200, "other": "x"})).unwrap();
        assert_eq!(put.over(&Limits::default()), Limits { timeout: 200, ..Limits::default() });
    }
}
