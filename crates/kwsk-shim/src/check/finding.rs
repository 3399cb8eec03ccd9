//! What came of a case.

use std::time::Duration;

use serde_json::{Value, json};

use super::case::Level;

/// How a runtime broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The request, or what was run.
    pub sent: String,
    /// What the contract has come of it.
    pub expected: String,
    /// What came.
    pub got: String,
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The rule is kept.
    Ok,
    /// It is not.
    Fail(Finding),
    /// It was not tried, and why.
    Skip(String),
}

/// One case that is over.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The case.
    pub name: &'static str,
    /// What breaking its rule means.
    pub level: Level,
    /// The rule in words.
    pub rule: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// All cases.
#[derive(Debug, Clone)]
pub struct Summary {
    /// In the order they were run.
    pub cases: Vec<Checked>,
}

/// Why a case ends early.
#[derive(Debug)]
pub(super) enum Stop {
    Fail(Box<Finding>),
    Skip(String),
}

impl Stop {
    pub(super) fn fail(sent: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Fail(Box::new(Finding { sent: sent.into(), expected: expected.into(), got: got.into() }))
    }

    pub(super) fn skip(reason: impl Into<String>) -> Self {
        Self::Skip(reason.into())
    }
}

impl Summary {
    /// How many rules are kept, broken (of this level), and were not tried.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize, usize) {
        let count = |wanted: &dyn Fn(&Checked) -> bool| self.cases.iter().filter(|c| wanted(c)).count();
        (
            count(&|c| c.verdict == Verdict::Ok),
            count(&|c| c.level == Level::Must && c.is_failure()),
            count(&|c| c.level == Level::Should && c.is_failure()),
            count(&|c| matches!(c.verdict, Verdict::Skip(_))),
        )
    }

    /// True when no `must` is broken, and in `strict` no `should` either.
    #[must_use]
    pub fn is_kept(&self, strict: bool) -> bool {
        !self.cases.iter().any(|case| case.is_failure() && (strict || case.level == Level::Must))
    }

    /// The machine-readable document.
    #[must_use]
    pub fn to_json(&self, strict: bool) -> Value {
        let (kept, must, should, skipped) = self.counts();
        json!({
            "ok": self.is_kept(strict),
            "counts": {"ok": kept, "must": must, "should": should, "skipped": skipped},
            "cases": self.cases.iter().map(Checked::to_json).collect::<Vec<_>>(),
        })
    }

    /// The last line.
    #[must_use]
    pub fn to_line(&self, strict: bool) -> String {
        let (kept, must, should, skipped) = self.counts();
        let verdict = if self.is_kept(strict) { "the contract is kept" } else { "the contract is broken" };
        format!("{verdict}: {kept} ok, {must} must and {should} should failed, {skipped} skipped")
    }
}

impl Checked {
    /// True when the rule is broken.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self.verdict, Verdict::Fail(_))
    }

    /// One line, and what there is to know about a failure on more.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { name, rule, level, .. } = self;
        match &self.verdict {
            Verdict::Ok => format!("ok    {name}\n"),
            Verdict::Skip(reason) => format!("skip  {name}: {reason}\n"),
            Verdict::Fail(Finding { sent, expected, got }) => format!(
                "FAIL  {name} ({level})\n      sent      {sent}\n      expected  {expected}\n      got       {got}\n      contract  {rule}\n"
            ),
        }
    }

    fn to_json(&self) -> Value {
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        let mut value = json!({
            "name": self.name, "level": self.level.name(), "contract": self.rule, "milliseconds": millis,
        });
        match &self.verdict {
            Verdict::Ok => value["verdict"] = json!("ok"),
            Verdict::Skip(reason) => {
                value["verdict"] = json!("skip");
                value["reason"] = json!(reason);
            }
            Verdict::Fail(Finding { sent, expected, got }) => {
                value["verdict"] = json!("fail");
                value["sent"] = json!(sent);
                value["expected"] = json!(expected);
                value["got"] = json!(got);
            }
        }
        value
    }
}
