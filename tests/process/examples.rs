//! The commands of the READMEs, run as they stand there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::clients::succeeded;
use crate::server::Server;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The shell block of a README under `heading`.
fn commands(readme: &Path, heading: &str) -> String {
    let text = std::fs::read_to_string(readme).unwrap();
    let section = text.split(heading).nth(1).unwrap_or_else(|| panic!("no '{heading}' in the README"));
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("no commands under '{heading}'")).to_owned()
}

/// Runs a script in `directory` as a shell would, stopping at the first failure.
async fn bash(directory: &Path, script: String) -> Output {
    let directory = directory.to_owned();
    let run = move || {
        Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", &script])
            .current_dir(directory)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    succeeded(&output);
    output
}

/// The last JSON value that a script printed; curl ends its output without a line feed.
fn last_json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let values =
        serde_json::Deserializer::from_str(text.trim_start_matches(|c| c != '{')).into_iter::<Value>();
    values.filter_map(Result::ok).last().unwrap_or_else(|| panic!("no JSON in: {text}"))
}

/// A copy of `examples/` in which builds may leave files behind.
fn copy_of_examples() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(root().join("examples/.")).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_do_what_their_readme_says() {
    let (data, examples) = (tempfile::tempdir().unwrap(), copy_of_examples());
    let server = Server::start(data.path()).await;
    let readme = examples.path().join("README.md");
    let setup = commands(&readme, "# Examples")
        .replace("cd examples\n", "")
        .replace("http://127.0.0.1:3233", &server.url);
    for (heading, wanted) in [
        ("## word-count", json!({"words": 6})),
        (
            "## checksum",
            json!({"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}),
        ),
        ("## greeting", json!({"greeting": "Bonjour, world !"})),
        ("## fibonacci", json!({"fibonacci": 55})),
        ("## neighbours", json!({})),
    ] {
        let script = format!("{setup}\n{}", commands(&readme, heading));
        let answer = last_json(&bash(examples.path(), script).await);
        assert!(contains(&answer, &wanted), "{heading}: {answer}");
    }
    let (_, neighbours) = server.post("actions/neighbours?blocking=true&result=true", json!({})).await;
    assert!(neighbours.to_string().contains("word-count"), "{neighbours}");

    let script = format!("export KWSK_URL={}\n{}", server.url, commands(&readme, "## two-rules"));
    let record = last_json(&bash(examples.path(), script).await);
    let lines: Vec<Value> = record["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| serde_json::from_str(l.as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{record}");
    for line in &lines {
        let path = format!("activations/{}", line["activationId"].as_str().unwrap());
        server.eventually("the run of a rule's action", async |s| s.get(&path).await.0 == 200).await;
        assert_eq!(server.get(&path).await.1["response"]["success"], true, "{line}");
    }
}

/// True when every field of `part` is in `whole`, by value.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|w| contains(w, value)))
        }
        _ => whole == part,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readmes_first_commands_create_and_invoke() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let script = commands(&root().join("README.md"), "Then, in another terminal")
        .replace("http://127.0.0.1:3233", &server.url);
    let answer = last_json(&bash(data.path(), script).await);
    assert_eq!(answer, json!({"greeting": "Hello, world!"}));
}
