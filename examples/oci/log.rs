//! Writes errors in the format of runc, because engines parse it.

use super::{LogFormat, Options};
use serde_json::json;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The log of this program.
pub(crate) struct Log {
    /// `None` for standard error.
    file: Option<File>,
    format: LogFormat,
}

impl Log {
    pub(crate) fn to_stderr(format: LogFormat) -> Self {
        Self { file: None, format }
    }

    pub(crate) fn open(options: &Options) -> Result<Self, String> {
        let open = |path| File::options().append(true).create(true).open(path);
        let file = options.log.as_ref().map(|path| open(path).map_err(|error| (path, error))).transpose();
        let file = file.map_err(|(path, error)| format!("open log {}: {error}", path.display()))?;
        Ok(Self { file, format: options.log_format })
    }

    /// Logs the error. If the log is a file, prints the message on standard error too.
    pub(crate) fn error(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            eprintln!("{message}");
        }
    }

    fn write(&self, level: &str, message: &str) {
        let time = rfc3339(SystemTime::now());
        let line = match self.format {
            LogFormat::Json => json!({ "level": level, "msg": message, "time": time }).to_string(),
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        // One write per line, so that lines of several processes do not mix. Ignore errors: a full log must not fail
        // the verb.
        let line = format!("{line}\n");
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }

    /// Logs the events in which the crate reports its decisions, from now on.
    pub(crate) fn follow_decisions(&self) {
        let file = self.file.as_ref().and_then(|file| file.try_clone().ok());
        let log = Self { file, format: self.format };
        let _ = tracing::subscriber::set_global_default(Decisions(Mutex::new(log)));
    }
}

/// Receives the events of the crate, but not those of its dependencies.
struct Decisions(Mutex<Log>);

impl Subscriber for Decisions {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("cofferdam")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        if let Ok(log) = self.0.lock() {
            log.write(&level, &format!("{}{}", words.message, words.fields));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The text of an event: the message, then the fields.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Formats a time as in RFC 3339, in UTC, with milliseconds unless they are zero.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, of_day) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // Count years from March, so that the leap day is the last (H. Hinnant, "chrono-compatible low-level date
    // algorithms").
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let fraction = match since.subsec_millis() {
        0 => String::new(),
        ms => format!(".{ms:03}"),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}
