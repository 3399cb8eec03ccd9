//! The bodies of `/init` and `/run` (openwhisk runtime contract), shared by the shim and by fakes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json::RawJson;

/// The line a runtime prints on stdout and stderr after each run (upstream `LogMessage` sentinel).
pub const LOG_SENTINEL: &str = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX";

/// The fields a runtime exports as `__OW_<UPPERCASE>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunContext {
    /// The invoker's namespace.
    pub namespace: String,
    /// `/ns/[pkg/]name`, the owner's.
    pub action_name: String,
    /// SemVer.
    pub action_version: String,
    /// 32 hex.
    pub activation_id: String,
    /// The transaction this run belongs to.
    pub transaction_id: String,
    /// Milliseconds since the epoch, as a decimal string.
    pub deadline: String,
    /// `uuid:key`, only when the action is to have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
}

impl RunContext {
    /// The `__OW_*` variables, in a fixed order.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        let mut all = vec![
            ("__OW_NAMESPACE", self.namespace.as_str()),
            ("__OW_ACTION_NAME", self.action_name.as_str()),
            ("__OW_ACTION_VERSION", self.action_version.as_str()),
            ("__OW_ACTIVATION_ID", self.activation_id.as_str()),
            ("__OW_TRANSACTION_ID", self.transaction_id.as_str()),
            ("__OW_DEADLINE", self.deadline.as_str()),
        ];
        all.extend(self.api_key.as_deref().map(|key| ("__OW_API_KEY", key)));
        all
    }
}

/// `{"value": …}` of `/init`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InitValue {
    /// The action's own name.
    pub name: String,
    /// Entry point, default `main`.
    pub main: String,
    /// Source, or base64 when `binary`; absent for blackbox images without code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// `code` is base64.
    pub binary: bool,
    /// `__OW_*` of the first activation and the init parameters, all text.
    pub env: Map<String, Value>,
}

/// The body of `POST /init`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InitBody {
    /// The only field.
    pub value: InitValue,
}

/// The body of `POST /run`, and one line of the ActionLoop protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunBody {
    /// The arguments: an object or an array.
    pub value: RawJson,
    /// Everything else.
    #[serde(flatten)]
    pub context: RunContext,
}

impl<'de> Deserialize<'de> for RunBody {
    /// By hand, because a flattened struct cannot hold raw JSON.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut fields = indexmap::IndexMap::<String, RawJson>::deserialize(deserializer)?;
        let value = fields.shift_remove("value").ok_or_else(|| D::Error::missing_field("value"))?;
        let rest = serde_json::to_string(&fields).map_err(D::Error::custom)?;
        let context = serde_json::from_str(&rest).map_err(D::Error::custom)?;
        Ok(Self { value, context })
    }
}

/// How `/init` carries a parameter in the environment: text as is, `null` empty, everything else as compact JSON.
#[must_use]
pub fn env_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn run_body_round_trip() {
        let text = r#"{"value":{"b":1,"a":[2.50]},"namespace":"ns","action_name":"/ns/a","action_version":"0.0.1","activation_id":"i","transaction_id":"t","deadline":"17"}"#;
        let body: RunBody = serde_json::from_str(text).unwrap();
        assert_eq!(body.context.deadline, "17");
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
    }

    #[test]
    fn env_texts() {
        for (value, text) in [
            (json!("a b"), "a b"),
            (json!(null), ""),
            (json!(true), "true"),
            (json!(1.5), "1.5"),
            (json!({"a": [1, 2]}), r#"{"a":[1,2]}"#),
        ] {
            assert_eq!(env_text(&value), text);
        }
    }
}
