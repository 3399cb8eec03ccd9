//! What the binary has to say beside its answers: a line on stderr per event. A container keeps these logs.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Prints events up to a level; knows no spans, which nothing in a shim opens.
struct Lines(LevelFilter);

/// Prints what is at least as grave as `level`, from now on.
pub(crate) fn start(level: LevelFilter) {
    // Only a second start can fail, and the first one stays.
    tracing::subscriber::set_global_default(Lines(level)).ok();
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line =
            Line { text: format!("kwsk-shim: {}: ", event.metadata().level()), fields: String::new() };
        event.record(&mut line);
        let Line { mut text, fields } = line;
        text.push_str(&fields);
        // A line is a line, whatever was in it.
        let text = text.replace('\n', " ");
        // Nobody can be told that stderr is closed.
        writeln!(std::io::stderr().lock(), "{text}").ok();
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message, then the fields.
struct Line {
    text: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        match field.name() {
            "message" => write!(self.text, "{value:?}").ok(),
            name => write!(self.fields, " {name}={value:?}").ok(),
        };
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut causes = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            write!(causes, ": {error}").ok();
            cause = error.source();
        }
        write!(self.fields, " {}={causes:?}", field.name()).ok();
    }
}
