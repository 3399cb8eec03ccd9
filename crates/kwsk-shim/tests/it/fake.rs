//! A runtime in this very executable: a well-mannered one, or one with the manner it is told.
//!
//! Its actions are words (`echo`, `logs`, …) that mean what the samples of that name do. A *mutant* breaks one rule of the
//! contract, see [`crate::contract`]; a *hostile* one breaks HTTP itself, see [`crate::hostile`].

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::hostile;

const MANNER: &str = "KWSK_TEST_MANNER";
const PORT: &str = "KWSK_TEST_PORT";
const MARK: &str = "KWSK_TEST_MARK";
const SENTINEL: &str = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n";
/// The test harness prints on stdout too; the runtime's own streams are these.
const START: &str = "exec 5>&1 6>&2 >/dev/null 2>&1; KWSK_TEST_PORT=$1 KWSK_TEST_MANNER=$2 KWSK_TEST_MARK=$3 \
                     exec \"$0\" --exact fake::a_runtime --nocapture";

/// The command line that starts one. What happens to it is written into `mark`, a line each.
pub(crate) fn command(manner: &str, mark: &Path) -> Vec<String> {
    let executable = std::env::current_exe().unwrap().to_string_lossy().into_owned();
    let trap = if manner == "ignores-term" { "trap '' TERM; " } else { "" };
    let mark = mark.to_string_lossy().into_owned();
    ["sh".into(), "-c".into(), format!("{trap}{START}"), executable, "{port}".into(), manner.into(), mark]
        .into()
}

/// How many lines of `mark` begin with `what`.
pub(crate) fn marks(mark: &Path, what: &str) -> usize {
    let text = std::fs::read_to_string(mark).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(what)).count()
}

/// Not a test of its own: the runtime. It runs only with a manner in its environment.
#[test]
fn a_runtime() {
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let (Some(port), Some(manner)) = (variables.get(PORT), variables.get(MANNER)) else { return };
    let stream =
        |number| Mutex::new(OpenOptions::new().append(true).open(format!("/dev/fd/{number}")).unwrap());
    let fake = Fake {
        manner: manner.clone(),
        mark: variables.get(MARK).map(PathBuf::from).unwrap_or_default(),
        state: Mutex::new(State { env: variables.clone(), ..State::default() }),
        changed: Condvar::new(),
        stdout: stream(5),
        stderr: stream(6),
        alone: Mutex::new(()),
    };
    fake.serve(port.parse().unwrap());
}

pub(crate) struct Fake {
    pub(crate) manner: String,
    mark: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    stdout: Mutex<File>,
    stderr: Mutex<File>,
    alone: Mutex<()>,
}

#[derive(Default)]
struct State {
    env: BTreeMap<String, String>,
    action: Option<String>,
    runs: u64,
    inside: u64,
    most_inside: u64,
    waiting: u64,
    rounds: u64,
}

/// A request: the path and the body.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

type Answer = (u16, Value);

fn refusal(status: u16, text: &str) -> Answer {
    (status, json!({ "error": text }))
}

impl Fake {
    fn serve(self, port: u16) {
        if self.is("deaf") {
            hang();
        }
        let fake = Arc::new(self);
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        for stream in listener.incoming() {
            let fake = Arc::clone(&fake);
            std::thread::spawn(move || fake.connection(&stream.unwrap()));
        }
    }

    pub(crate) fn is(&self, manner: &str) -> bool {
        self.manner == manner
    }

    /// How many runs this process was asked for.
    pub(crate) fn runs(&self) -> u64 {
        self.state.lock().unwrap().runs
    }

    /// Writes down what happens.
    pub(crate) fn note(&self, text: &str) {
        let mut mark = OpenOptions::new().append(true).create(true).open(&self.mark).unwrap();
        mark.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    fn connection(&self, stream: &TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(asked) = read(&mut reader) {
            self.note(asked.path.trim_start_matches('/'));
            if hostile::answer(self, &asked, stream) == hostile::Then::Close {
                break;
            }
        }
        // Fails when the other end is closed already.
        stream.shutdown(std::net::Shutdown::Both).ok();
        self.note("closed");
    }

    /// What a well-mannered one does, but for its mutation.
    pub(crate) fn result(&self, asked: &Asked) -> Answer {
        let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else {
            if self.is("dies-of-nonsense") {
                std::process::exit(1);
            }
            return refusal(400, "Bad request.");
        };
        if self.is("any-path") && asked.path == "/elsewhere" {
            return (200, json!({}));
        }
        if self.is("small-arguments") && asked.body.len() > 500_000 {
            return refusal(413, "too much");
        }
        match asked.path.as_str() {
            "/init" => self.init(&body["value"]),
            "/run" => self.run(&body),
            _ => refusal(404, "not found"),
        }
    }

    fn init(&self, value: &Value) -> Answer {
        let mut state = self.state.lock().unwrap();
        if self.is("init-201") {
            return (201, json!({"ok": true}));
        }
        if state.action.is_some() && !self.is("init-again") {
            return refusal(403, "Cannot initialize the action more than once.");
        }
        let code = value["code"].as_str().unwrap_or_default().trim();
        if code.is_empty() && !self.is("empty-code") {
            return refusal(403, "Missing main/no code to execute.");
        }
        if code == "broken" && !self.manner.starts_with("lenient") {
            return if self.is("terse") { (502, json!("no")) } else { refusal(502, "this is no program") };
        }
        if !self.is("no-init-env") {
            let env = value["env"].as_object().into_iter().flatten();
            state.env.extend(env.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())));
        }
        let other = value["main"] == "other" && code == "entry" && !self.is("always-main");
        state.action = Some(if other { "other".into() } else { code.to_owned() });
        (200, json!({"ok": true}))
    }

    fn run(&self, body: &Value) -> Answer {
        let _alone = self.is("one-at-a-time").then(|| self.alone.lock().unwrap());
        let Some(action) = self.enter(body) else {
            return if self.is("runs-at-once") {
                (200, json!({}))
            } else {
                refusal(403, "System not initialized.")
            };
        };
        let tired = self.is("tired") && action == "echo" && self.state.lock().unwrap().runs > 2;
        let answer = if tired { refusal(500, "tired") } else { self.act(&action, &body["value"]) };
        let (status, result) = answer;
        self.state.lock().unwrap().inside -= 1;
        if status != 200 {
            return (status, result);
        }
        match result {
            Value::Object(fields) if self.is("error-502") && fields.contains_key("error") => {
                (502, json!(fields))
            }
            Value::Array(_) if self.is("no-arrays") => refusal(502, "not a dictionary"),
            Value::Object(_) | Value::Array(_) => (200, self.mangled(result)),
            Value::Null if self.is("null-object") => (200, json!({})),
            Value::Null => (200, json!(null)),
            other if self.is("wraps-scalars") => (200, json!({ "value": other })),
            _ => refusal(502, "The action did not return a dictionary."),
        }
    }

    /// The action, and everything counted that a run changes.
    fn enter(&self, body: &Value) -> Option<String> {
        let mut state = self.state.lock().unwrap();
        let action = state.action.clone()?;
        state.runs += 1;
        state.inside += 1;
        state.most_inside = state.most_inside.max(state.inside);
        let forgotten = self.is("no-run-env") || self.is("stale-run-env") && state.runs > 1;
        if !forgotten {
            for (key, value) in body.as_object().into_iter().flatten().filter(|(key, _)| *key != "value") {
                let value = value.as_str().unwrap_or_default().to_owned();
                state.env.insert(format!("__OW_{}", key.to_uppercase()), value);
            }
        }
        Some(action)
    }

    /// What the action returns; a status other than 200 is an exception's.
    fn act(&self, action: &str, arguments: &Value) -> Answer {
        let text = arguments["text"].as_str().unwrap_or_default();
        let result = match action {
            "echo" | "" => arguments.clone(),
            "other" => json!({"other": true}),
            "env" => json!(self.state.lock().unwrap().env),
            "logs" => {
                self.print(text);
                json!({ "text": text })
            }
            "large" => {
                let size = arguments["size"].as_u64().unwrap_or(0) as usize;
                if size > 1000 && self.is("small-results") {
                    return refusal(500, "too much");
                }
                json!({"text": "a".repeat(size)})
            }
            "state" if self.is("forgets") => json!({"count": 1}),
            "state" => json!({"count": self.state.lock().unwrap().runs}),
            "inside" => {
                std::thread::sleep(Duration::from_millis(2));
                json!({"inside": self.state.lock().unwrap().most_inside})
            }
            "error" => json!({"error": "refused"}),
            "throws" if self.is("swallows") => json!({}),
            "throws" if self.is("polite") => json!({"error": "An error has occurred: thrown"}),
            "throws" => return refusal(502, "An error has occurred: thrown"),
            "nothing" if self.is("nothing-null") => json!(null),
            "nothing" => json!({}),
            "null" => json!(null),
            "scalar" => json!("text"),
            "hang" if self.is("impatient") => json!({}),
            "hang" => hang(),
            "exit" if arguments["exit"] == true && !self.is("undying") => std::process::exit(1),
            "exit" => json!({}),
            "together" => self.together(arguments["together"].as_u64().unwrap_or(1)),
            "broken" if self.is("lenient-at-all") => json!({}),
            _ => return refusal(502, "there is no such action"),
        };
        (200, result)
    }

    fn print(&self, text: &str) {
        let text = match self.manner.as_str() {
            "ascii-logs" => text.replace(|c: char| !c.is_ascii(), "?"),
            "abridged-logs" => text.replace("aaaa", "a"),
            _ => text.to_owned(),
        };
        self.out(&format!("{text}\n"));
        self.err(&if self.is("silent-stderr") { String::new() } else { format!("{text}\n") });
    }

    pub(crate) fn out(&self, text: &str) {
        self.stdout.lock().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn err(&self, text: &str) {
        self.stderr.lock().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Marks the end of a run's output.
    pub(crate) fn sentinels(&self) {
        let times = match self.manner.as_str() {
            "no-sentinels" => 0,
            "two-sentinels" => 2,
            _ => 1,
        };
        for _ in 0..times {
            self.out(SENTINEL);
            if !self.is("stdout-sentinels") {
                self.err(SENTINEL);
            }
        }
    }

    /// Answers once `count` runs are in here.
    fn together(&self, count: u64) -> Value {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        let round = state.rounds;
        if state.waiting >= count {
            state.waiting = 0;
            state.rounds += 1;
            self.changed.notify_all();
        }
        let _state = self.changed.wait_while(state, |state| state.rounds == round).unwrap();
        json!({ "together": count })
    }

    fn mangled(&self, mut result: Value) -> Value {
        match self.manner.as_str() {
            "loses-nulls" => {
                if let Some(list) = result.pointer_mut("/nested/list").and_then(Value::as_array_mut) {
                    list.retain(|item| !item.is_null());
                }
                result
            }
            "ascii-results" => json!(
                serde_json::from_str::<Value>(&result.to_string().replace(|c: char| !c.is_ascii(), "?"))
                    .unwrap()
            ),
            _ => result,
        }
    }
}

pub(crate) fn hang() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// The next request, unless the connection is over.
fn read(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { path: first.split(' ').nth(1)?.to_owned(), body })
}
