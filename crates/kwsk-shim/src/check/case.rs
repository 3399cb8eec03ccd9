//! The list of cases.

use std::fmt;
use std::pin::Pin;

use super::bench::{Bench, Mode};
use super::finding::Stop;
use super::{protocol, through};

/// One rule of the contract, and how it is tried.
pub struct Case {
    /// `init-twice`, `exec/logs`, …
    pub name: &'static str,
    /// What breaking the rule means.
    pub level: Level,
    /// The rule in words.
    pub rule: &'static str,
    pub(super) run: for<'a> fn(&'a mut Bench) -> Trial<'a>,
}

/// A case that is under way.
type Trial<'a> = Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>>;

/// What breaking a rule means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Actions do not get what OpenWhisk promises them.
    Must,
    /// OpenWhisk's own runtimes are better.
    Should,
}

impl Level {
    /// `must` or `should`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::Should => "should",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.level)
    }
}

/// All cases, in the order they are run.
#[must_use]
pub fn cases() -> &'static [Case] {
    CASES
}

macro_rules! cases {
    (
        $($name:literal $level:ident $function:ident $rule:literal)+;
        $($what:literal $by:ident $how:literal)+;
        $($output:literal $from:ident $needs:literal)+
    ) => {
        &[
            $(Case { name: $name, level: Level::$level, rule: $rule, run: |b| Box::pin(protocol::$function(b)) },)+
            $(Case {
                name: concat!("exec/", $what), level: Level::Must, rule: $how,
                run: |b| Box::pin(through::$by(b, Mode::Exec)),
            },)+
            $(Case {
                name: concat!("exec/", $output), level: Level::Must, rule: $needs,
                run: |b| Box::pin(through::$from(b)),
            },)+
            $(Case {
                name: concat!("attach/", $what), level: Level::Must, rule: $how,
                run: |b| Box::pin(through::$by(b, Mode::Attach)),
            },)+
        ]
    };
}

static CASES: &[Case] = cases! {
    "accepts" Must accepts
        "the runtime accepts connections on its port soon after it was started"
    "run-before-init" Should run_before_init
        "without code a /run is refused: not 200, and a JSON object with `error`"
    "init" Must init
        "/init with a good action answers 200"
    "run-object" Must run_object
        "/run answers 200 and the action's result; `value` is the arguments"
    "run-array" Should run_array
        "arguments and results may be arrays"
    "unicode" Must unicode
        "arguments and results are UTF-8"
    "large-arguments" Must large_arguments
        "arguments may have 1 MB"
    "unknown-path" Should unknown_path
        "paths other than /init and /run do not answer 200"
    "malformed-body" Should malformed_body
        "a body that is not JSON is answered, not with 200, and the runtime goes on"
    "init-twice" Should init_twice
        "a second /init answers 403 and \"Cannot initialize the action more than once.\""
    "sentinels" Must sentinels_once
        "after each run's output the sentinel is printed on both streams, once"
    "init-without-code" Should init_without_code
        "/init without code is refused: not 200, and a JSON object with `error`"
    "init-broken-code" Should init_broken_code
        "/init with code that is no program is refused: not 200, and a JSON object with `error`"
    "entry-point" Must entry_point
        "`main` of /init names the function that is called"
    "init-env" Must init_env
        "`env` of /init is in the action's environment"
    "run-env" Must run_env
        "each field of /run but `value` is in the environment of that run as __OW_ and its name in capitals"
    "logs" Must logs
        "what an action prints is on the runtime's stdout and stderr, UTF-8 intact"
    "large-result" Must large_result
        "results may have 1 MB"
    "state" Must state
        "the process keeps the action's state from run to run"
    "error" Must error
        "a result with an `error` field is a result: 200 and unchanged"
    "exception" Must exception
        "an exception becomes a JSON object with `error`"
    "exception-status" Should exception_status
        "an exception does not answer 200"
    "nothing" Should nothing
        "no result at all becomes 200 and {}"
    "null" Should null
        "a null result stays null or is refused; it does not become an object"
    "scalar" Should scalar
        "a result that is neither object nor array is refused: not 200, and a JSON object with `error`"
    "concurrent" Must concurrent
        "with __OW_ALLOW_CONCURRENT as many runs as declared are in the action at a time"
    ;
    "result" result
        "an activation succeeds with the action's result, and the next one finds the runtime initialised"
    "error" error
        "a result with an `error` field is an application error, and the runtime is used again"
    "exception" exception
        "an exception is an error of the action with its text"
    "broken-code" broken_code
        "code that is no program is a developer error"
    "null" null
        "a null result is a developer error"
    "scalar" scalar
        "a result that is neither object nor array is a developer error"
    "large-result" large_result
        "a result beyond the limit is an application error that shows its beginning"
    "time-limit" time_limit
        "an activation that exceeds its time limit is a developer error"
    "exit" exit
        "an action that ends its process is a developer error, and the next activation is not affected"
    "concurrent" concurrent
        "with concurrency declared, that many activations run at a time and each gets its own result"
    ;
    "logs" logs
        "an activation's logs are what it printed, no more and no less"
    "log-limit" log_limit
        "logs beyond their limit are cut and say so"
};
