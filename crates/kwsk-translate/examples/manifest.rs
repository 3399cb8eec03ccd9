//! Prints the Knative Service of an OpenWhisk action as YAML, or the action of a Knative Service as JSON.
//!
//! ```text
//! cargo run -p kwsk-translate --example manifest -- action.json
//! wsk action get hello | tail -n +2 | cargo run -p kwsk-translate --example manifest -- -
//! ```

use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kwsk_model::action::{Action, ActionPut, Exec};
use kwsk_model::limits::{Bounds, LimitBounds};
use kwsk_model::name::{EntityName, EntityPath, FullyQualifiedEntityName};
use kwsk_translate::document::{Document, Resource};
use kwsk_translate::platform::Platform;
use kwsk_translate::{action, sequence, validate};
use serde_json::{Map, Value};

const HELP: &str = "\
Usage: manifest FILE

FILE (- is standard input) is one of
  an OpenWhisk action, as GET shows it            prints its Knative document as YAML
  the body of a PUT with `namespace` and `name`   the same, as if the action were created
  a Knative Service, YAML or JSON                 prints the OpenWhisk action as JSON
Code is never printed: documents name it by its SHA-256.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (text, code) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["-h" | "--help"] => (HELP.to_owned(), ExitCode::SUCCESS),
        [file] if *file == "-" || !file.starts_with('-') => {
            match read(file).and_then(|text| convert(&text)) {
                Ok(text) => (text, ExitCode::SUCCESS),
                Err(error) => return complain(&format!("{file}: {error:#}\n")),
            }
        }
        _ => return complain(HELP),
    };
    // A reader that went away, as `head` does, is no failure.
    drop(std::io::stdout().write_all(text.as_bytes()));
    code
}

fn complain(text: &str) -> ExitCode {
    drop(std::io::stderr().write_all(text.as_bytes()));
    ExitCode::from(2)
}

fn read(file: &str) -> Result<String> {
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(file)?;
    }
    Ok(text)
}

/// What the program prints for a file of this content.
pub(crate) fn convert(text: &str) -> Result<String> {
    // YAML contains JSON.
    let value: Value = serde_norway::from_str(text).context("it is neither JSON nor YAML")?;
    let Value::Object(map) = &value else {
        bail!("it is not an object");
    };
    let platform = platform();
    if map.contains_key("apiVersion") {
        let document = Document::from_json(value)?;
        let action = action::from_kservice(&platform, &document)?;
        return Ok(serde_json::to_string_pretty(&action.to_json(true))? + "\n");
    }
    let action = action_of(&platform, map)?;
    Ok(serde_norway::to_string(&document_of(&platform, &action).to_json())?)
}

/// The document of an action, be it a sequence or not.
pub(crate) fn document_of(platform: &Platform, it: &Action) -> Document {
    match it.exec {
        Exec::Sequence { .. } => sequence::to_document(it).to_document(),
        Exec::Code { .. } | Exec::Blackbox { .. } => action::to_kservice(platform, it).to_document(),
    }
}

/// An action as GET shows it, or as a PUT would create it.
pub(crate) fn action_of(platform: &Platform, map: &Map<String, Value>) -> Result<Action> {
    if map.contains_key("updated") {
        return Action::from_json(&Value::Object(map.clone())).context("it is no action");
    }
    let text = |key: &str| map.get(key).and_then(Value::as_str).with_context(|| format!("it has no '{key}'"));
    let path: EntityPath = text("namespace")?.parse()?;
    let name = FullyQualifiedEntityName { name: EntityName::new(text("name")?)?, path };
    let put = ActionPut::from_json(map, &platform.manifest, name.namespace())?;
    Ok(validate::action(platform, &platform.limits.action, &name, None, put, false, 0, None)?)
}

/// kwsk's defaults with the widest limits an operator may set: the document is to be seen, not to be refused.
pub(crate) fn platform() -> Platform {
    let mut platform = Platform::local();
    platform.limits.action =
        LimitBounds { concurrency: Bounds { min: 1, max: 1000 }, instances: 1000, ..LimitBounds::default() };
    platform
}
