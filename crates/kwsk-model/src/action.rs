//! Actions: what they run ([`Exec`]), what a PUT may leave out ([`ActionPut`]), and their exact JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::body::{BodyError, member, version};
use crate::limits::{Limits, LimitsPut};
use crate::name::{EntityName, EntityPath, FullyQualifiedEntityName, NameError, Namespace};
use crate::params::{Annotations, Parameters};
use crate::runtimes::RuntimesManifest;
use crate::version::SemVer;

/// Where an action's code is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Code {
    /// The text itself, as the client sent it: source, or base64.
    Inline(String),
    /// In a code store.
    Stored(StoredCode),
}

/// A reference to code in a code store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCode {
    /// SHA-256 of the text as sent, 64 lower-case hex characters.
    pub sha256: String,
    /// Bytes of the text as sent.
    pub bytes: u64,
}

impl Code {
    /// Bytes of the text as sent.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Inline(text) => text.len() as u64,
            Self::Stored(stored) => stored.bytes,
        }
    }
}

/// What an action runs. Upstream: `Exec.scala`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exec {
    /// Code for a managed runtime.
    Code {
        /// A kind of the runtimes manifest, resolved (`nodejs:20`, never `nodejs:default`).
        kind: String,
        /// The code.
        code: Code,
        /// The entry point.
        main: Option<String>,
        /// The code is base64.
        binary: bool,
    },
    /// An image that serves `/init` and `/run` itself.
    Blackbox {
        /// The image reference.
        image: String,
        /// Code handed to the image, when not blank.
        code: Option<Code>,
        /// The entry point.
        main: Option<String>,
        /// The code is base64.
        binary: bool,
    },
    /// Actions run one after the other.
    Sequence {
        /// Fully qualified, namespaces resolved; bindings stay as given.
        components: Vec<FullyQualifiedEntityName>,
    },
}

/// True when OpenWhisk takes `code` for base64: its trimmed length is a multiple of four and the alphabet fits.
/// The four-letter source `test` is therefore binary.
#[must_use]
pub fn is_base64(code: &str) -> bool {
    let text = code.trim().as_bytes();
    if !text.len().is_multiple_of(4) {
        return false;
    }
    let padding = text.iter().rev().take(2).take_while(|b| **b == b'=').count();
    text[..text.len() - padding].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

impl Exec {
    /// The kind as annotations and records show it: a runtime kind, `blackbox` or `sequence`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Code { kind, .. } => kind,
            Self::Blackbox { .. } => "blackbox",
            Self::Sequence { .. } => "sequence",
        }
    }

    /// The code, where there is any.
    #[must_use]
    pub fn code(&self) -> Option<&Code> {
        match self {
            Self::Code { code, .. } => Some(code),
            Self::Blackbox { code, .. } => code.as_ref(),
            Self::Sequence { .. } => None,
        }
    }

    /// The entry point the developer named.
    #[must_use]
    pub fn main(&self) -> Option<&str> {
        match self {
            Self::Code { main, .. } | Self::Blackbox { main, .. } => main.as_deref(),
            Self::Sequence { .. } => None,
        }
    }

    /// True when the code is base64.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        match self {
            Self::Code { binary, .. } | Self::Blackbox { binary, .. } => *binary,
            Self::Sequence { .. } => false,
        }
    }

    /// The same exec with its code replaced, for moving code into and out of a store.
    #[must_use]
    pub fn with_code(mut self, new: Code) -> Self {
        match &mut self {
            Self::Code { code, .. } => *code = new,
            Self::Blackbox { code, .. } => *code = Some(new),
            Self::Sequence { .. } => {}
        }
        self
    }

    /// What the exec size limit counts: code as sent, `main`, and `image`.
    #[must_use]
    pub fn size(&self) -> u64 {
        let code = self.code().map_or(0, Code::bytes);
        let main = self.main().map_or(0, str::len) as u64;
        let image = match self {
            Self::Blackbox { image, .. } => image.len() as u64,
            Self::Code { .. } | Self::Sequence { .. } => 0,
        };
        code + main + image
    }

    /// Reads the `exec` of a PUT. `own` replaces `_` in components.
    ///
    /// # Errors
    /// [`BodyError`] in OpenWhisk's words.
    pub fn from_json(value: &Value, manifest: &RuntimesManifest, own: &Namespace) -> Result<Self, BodyError> {
        let malformed = |text: String| BodyError::Malformed(text);
        let map = value.as_object().ok_or_else(|| malformed("exec must be an object".to_owned()))?;
        let kind = map
            .get("kind")
            .and_then(Value::as_str)
            .ok_or_else(|| malformed("'kind' must be a string defined in 'exec'".to_owned()))?
            .trim()
            .to_lowercase();
        match kind.as_str() {
            "sequence" => sequence(map, own),
            "blackbox" => blackbox(map),
            _ => {
                let Some(runtime) = manifest.resolve(&kind) else {
                    return Err(malformed(format!(
                        "The specified runtime '{kind}' is not supported by this platform. Valid values are: {}.",
                        manifest.valid_kinds()
                    )));
                };
                let kind = runtime.kind.clone();
                let code = map.get("code").or_else(|| {
                    let java = kind.starts_with("java:");
                    if java { map.get("jar") } else { None }
                });
                let Some(code) = code.and_then(Value::as_str) else {
                    return Err(malformed(format!(
                        "'code' must be a string or attachment object defined in 'exec' for '{kind}' actions"
                    )));
                };
                let main = entry_point(map, &kind)?;
                if runtime.require_main && main.is_none() {
                    return Err(malformed(format!(
                        "'main' must be a string defined in 'exec' for '{kind}' actions"
                    )));
                }
                let (binary, code) = (is_base64(code), Code::Inline(code.to_owned()));
                Ok(Self::Code { kind, code, main, binary })
            }
        }
    }

    /// The JSON the API shows. `code` decides what stands for the code: the text, or nothing.
    #[must_use]
    pub fn to_json(&self, with_code: bool) -> Value {
        let mut map = Map::new();
        map.insert("kind".to_owned(), json!(self.kind()));
        match self {
            Self::Sequence { components } => {
                let names: Vec<String> =
                    components.iter().map(FullyQualifiedEntityName::with_slash).collect();
                map.insert("components".to_owned(), json!(names));
            }
            Self::Code { .. } | Self::Blackbox { .. } => {
                if let Self::Blackbox { image, .. } = self {
                    map.insert("image".to_owned(), json!(image));
                }
                if let (true, Some(code)) = (with_code, self.code()) {
                    map.insert("code".to_owned(), json!(code));
                }
                if let Some(main) = self.main() {
                    map.insert("main".to_owned(), json!(main));
                }
                map.insert("binary".to_owned(), json!(self.is_binary()));
            }
        }
        Value::Object(map)
    }

    /// The inverse of `to_json(true)`, for documents kwsk wrote: no manifest is consulted.
    ///
    /// # Errors
    /// [`BodyError`] when the value was not written by [`Self::to_json`].
    pub fn from_stored(value: &Value) -> Result<Self, BodyError> {
        #[derive(Deserialize)]
        struct Stored {
            kind: String,
            image: Option<String>,
            code: Option<Code>,
            main: Option<String>,
            #[serde(default)]
            binary: bool,
            components: Option<Vec<FullyQualifiedEntityName>>,
        }
        let Stored { kind, image, code, main, binary, components } =
            Stored::deserialize(value).map_err(BodyError::malformed)?;
        let missing = |what| BodyError::Malformed(format!("'{what}' is missing in 'exec'"));
        Ok(match kind.as_str() {
            "sequence" => Self::Sequence { components: components.ok_or_else(|| missing("components"))? },
            "blackbox" => {
                Self::Blackbox { image: image.ok_or_else(|| missing("image"))?, code, main, binary }
            }
            _ => Self::Code { kind, code: code.ok_or_else(|| missing("code"))?, main, binary },
        })
    }
}

fn entry_point(map: &Map<String, Value>, kind: &str) -> Result<Option<String>, BodyError> {
    match map.get("main") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(main)) => Ok(Some(main.clone())),
        Some(_) => Err(BodyError::Malformed(format!(
            "if defined, 'main' be a string in 'exec' for '{kind}' actions"
        ))),
    }
}

fn blackbox(map: &Map<String, Value>) -> Result<Exec, BodyError> {
    let image = map.get("image").and_then(Value::as_str).ok_or_else(|| {
        BodyError::malformed("'image' must be a string defined in 'exec' for 'blackbox' actions")
    })?;
    if !is_image_reference(image) {
        return Err(BodyError::malformed("could not parse image name"));
    }
    let code = match map.get("code") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => (!text.trim().is_empty()).then(|| text.clone()),
        Some(_) => {
            return Err(BodyError::malformed(
                "'code' must be a string or attachment object defined in 'exec' for 'blackbox' actions",
            ));
        }
    };
    let main = entry_point(map, "blackbox")?;
    let binary = code.as_deref().is_some_and(is_base64);
    Ok(Exec::Blackbox { image: image.to_owned(), code: code.map(Code::Inline), main, binary })
}

/// `[host[:port]/]path[:tag][@digest]`, the shape upstream's `ImageName.fromString` accepts.
fn is_image_reference(text: &str) -> bool {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(r, d)| (r, Some(d)));
    let digest_ok = digest.is_none_or(|d| {
        d.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    });
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let tag_ok = tag.is_none_or(|t| !t.is_empty() && t.len() <= 128 && t.bytes().all(word));
    let segment = |(index, s): (usize, &str)| {
        let port = |b: u8| index == 0 && b == b':';
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        edge(s.as_bytes().first()) && edge(s.as_bytes().last()) && s.bytes().all(|b| word(b) || port(b))
    };
    digest_ok && tag_ok && path.split('/').enumerate().all(segment)
}

fn sequence(map: &Map<String, Value>, own: &Namespace) -> Result<Exec, BodyError> {
    let components = match map.get("components") {
        None | Some(Value::Null) => {
            return Err(BodyError::malformed("'components' must be defined for sequence kind"));
        }
        Some(Value::Array(items)) => items,
        Some(_) => return Err(BodyError::malformed("'components' must be an array")),
    };
    let one = |value: &Value| {
        let text =
            value.as_str().ok_or_else(|| BodyError::malformed("'components' must be an array of strings"))?;
        let name: FullyQualifiedEntityName =
            text.parse().map_err(|error: NameError| BodyError::malformed(error))?;
        Ok(name.resolve(own))
    };
    let components = components.iter().map(one).collect::<Result<_, BodyError>>()?;
    Ok(Exec::Sequence { components })
}

/// An action as it is stored and shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Where it lives: `ns` or `ns/pkg`.
    pub namespace: EntityPath,
    /// Its own name.
    pub name: EntityName,
    /// Bumped by every update.
    pub version: SemVer,
    /// Stored, without meaning.
    pub publish: bool,
    /// What it runs.
    pub exec: Exec,
    /// Bound parameters.
    pub parameters: Parameters,
    /// Annotations, the server's own included.
    pub annotations: Annotations,
    /// What it may use.
    pub limits: Limits,
    /// Milliseconds since the epoch of the last successful PUT.
    pub updated: u64,
}

impl Action {
    /// The full name.
    #[must_use]
    pub fn fqn(&self) -> FullyQualifiedEntityName {
        FullyQualifiedEntityName { path: self.namespace.clone(), name: self.name.clone() }
    }

    /// The full document of GET, PUT and DELETE; `with_code` is the query parameter `code`.
    #[must_use]
    pub fn to_json(&self, with_code: bool) -> Value {
        json!({
            "namespace": self.namespace, "name": self.name, "version": self.version, "publish": self.publish,
            "exec": self.exec.to_json(with_code), "parameters": self.parameters,
            "annotations": self.annotations, "limits": self.limits, "updated": self.updated,
        })
    }

    /// The inverse of `to_json(true)`.
    ///
    /// # Errors
    /// [`BodyError`] when the value was not written by [`Self::to_json`].
    pub fn from_json(value: &Value) -> Result<Self, BodyError> {
        #[derive(Deserialize)]
        struct Fields {
            namespace: EntityPath,
            name: EntityName,
            version: SemVer,
            publish: bool,
            exec: Value,
            parameters: Parameters,
            annotations: Annotations,
            limits: Limits,
            updated: u64,
        }
        let f = Fields::deserialize(value).map_err(BodyError::malformed)?;
        Ok(Self {
            namespace: f.namespace,
            name: f.name,
            version: f.version,
            publish: f.publish,
            exec: Exec::from_stored(&f.exec)?,
            parameters: f.parameters,
            annotations: f.annotations,
            limits: f.limits,
            updated: f.updated,
        })
    }

    /// The list item: no parameters, and of `exec` only whether it is binary.
    #[must_use]
    pub fn summary(&self) -> Value {
        json!({
            "namespace": self.namespace, "name": self.name, "version": self.version, "publish": self.publish,
            "annotations": self.annotations, "limits": self.limits,
            "exec": {"binary": self.exec.is_binary()}, "updated": self.updated,
        })
    }

    /// True when `__OW_API_KEY` is to reach the code: the annotation is truthy or absent.
    #[must_use]
    pub fn provides_api_key(&self) -> bool {
        self.annotations.is_truthy("provide-api-key", true)
    }

    /// True when the annotation `final` locks the defined parameters.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.annotations.get("final") == Some(&Value::Bool(true))
    }
}

/// The body of `PUT actions/…`: everything may be left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActionPut {
    /// Obligatory on create.
    pub exec: Option<Exec>,
    /// Replaces the whole list.
    pub parameters: Option<Parameters>,
    /// Merged by key.
    pub annotations: Option<Annotations>,
    /// Annotation keys to drop.
    pub del_annotations: Vec<String>,
    /// Merged field-wise.
    pub limits: LimitsPut,
    /// Patch level plus one when left out.
    pub version: Option<SemVer>,
    /// Kept when left out.
    pub publish: Option<bool>,
}

impl ActionPut {
    /// Reads a PUT body; unknown fields are ignored.
    ///
    /// # Errors
    /// [`BodyError`] in OpenWhisk's words.
    pub fn from_json(
        map: &Map<String, Value>,
        manifest: &RuntimesManifest,
        own: &Namespace,
    ) -> Result<Self, BodyError> {
        let exec = match map.get("exec") {
            None | Some(Value::Null) => None,
            Some(exec) => Some(Exec::from_json(exec, manifest, own)?),
        };
        let limits = map.get("limits").map(LimitsPut::from_json).transpose();
        Ok(Self {
            exec,
            parameters: member(map, "parameters")?,
            annotations: member(map, "annotations")?,
            del_annotations: member(map, "delAnnotations")?.unwrap_or_default(),
            limits: limits.map_err(BodyError::malformed)?.unwrap_or_default(),
            version: version(map)?,
            publish: member(map, "publish")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> RuntimesManifest {
        RuntimesManifest::parse(
            r#"{"runtimes":{"nodejs":[{"kind":"nodejs:20","image":{"name":"n"}}],
                "java":[{"kind":"java:8","requireMain":true,"image":{"name":"j"}}]}}"#,
        )
        .unwrap()
    }

    fn exec(value: &Value) -> Result<Exec, String> {
        Exec::from_json(value, &manifest(), &Namespace::new("me").unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn base64_guess() {
        for (code, binary) in [
            ("test", true),
            ("", true),
            ("UEsDBA==", true),
            ("abc", false),
            ("a=bc", false),
            ("ab===", false),
            ("abc=", true),
            ("a b=", false),
            ("====", false),
        ] {
            assert_eq!(is_base64(code), binary, "{code}");
        }
    }

    #[test]
    fn accepted_execs() {
        let node =
            exec(&json!({"kind":" NodeJS:Default ","code":"function main(){}","binary":true})).unwrap();
        assert_eq!(node.to_json(true), json!({"kind":"nodejs:20","code":"function main(){}","binary":false}));
        assert_eq!(node.to_json(false), json!({"kind":"nodejs:20","binary":false}));
        let black = exec(&json!({"kind":"blackbox","image":"openwhisk/x:1","code":" "})).unwrap();
        assert_eq!(black.to_json(true), json!({"kind":"blackbox","image":"openwhisk/x:1","binary":false}));
        let seq = exec(&json!({"kind":"sequence","components":["/_/a","/o/p/b"]})).unwrap();
        assert_eq!(seq.to_json(true), json!({"kind":"sequence","components":["/me/a","/o/p/b"]}));
        assert!(exec(&json!({"kind":"java:8","jar":"UEsDBA==","main":"M"})).unwrap().is_binary());
    }

    #[test]
    fn refused_execs() {
        for (value, text) in [
            (json!({"code":"x"}), "'kind' must be a string defined in 'exec'"),
            (json!({"kind":1}), "'kind' must be a string defined in 'exec'"),
            (
                json!({"kind":"cobol:60","code":""}),
                "The specified runtime 'cobol:60' is not supported by this platform. Valid values are: 'blackbox', 'java:8', 'nodejs:20', 'sequence'.",
            ),
            (
                json!({"kind":"nodejs:20"}),
                "'code' must be a string or attachment object defined in 'exec' for 'nodejs:20' actions",
            ),
            (
                json!({"kind":"nodejs:20","code":"x","main":1}),
                "if defined, 'main' be a string in 'exec' for 'nodejs:20' actions",
            ),
            (
                json!({"kind":"java:8","code":"x"}),
                "'main' must be a string defined in 'exec' for 'java:8' actions",
            ),
            (json!({"kind":"blackbox"}), "'image' must be a string defined in 'exec' for 'blackbox' actions"),
            (json!({"kind":"blackbox","image":"a b"}), "could not parse image name"),
            (json!({"kind":"blackbox","image":""}), "could not parse image name"),
            (json!({"kind":"sequence"}), "'components' must be defined for sequence kind"),
            (json!({"kind":"sequence","components":"a"}), "'components' must be an array"),
            (
                json!({"kind":"sequence","components":["a"]}),
                "The fully qualified name of the entity must contain at least the namespace and the name of the entity.",
            ),
        ] {
            assert_eq!(exec(&value).unwrap_err(), format!("The request content was malformed:\n{text}"));
        }
    }

    #[test]
    fn images() {
        for good in
            ["a", "a/b", "reg.io:5000/a/b:tag", "a@sha256:0123456789abcdef0123456789abcdef", "h/a:v1.2-x"]
        {
            assert!(is_image_reference(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a:", "a b", "a@x", "a//b", "a:b:c/d:e:f"] {
            assert!(!is_image_reference(bad), "{bad}");
        }
    }
}
