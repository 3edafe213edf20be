//! Writes errors in the format of runc, because engines parse it.

use super::{LogFormat, Options};
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;
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
        let open =
            |path: &PathBuf| open(path).map_err(|error| format!("open log {}: {error}", path.display()));
        let file = options.log.as_ref().map(open).transpose()?;
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
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
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

    /// From now on, logs the events of this and of more severe levels in which the crate reports its decisions.
    pub(crate) fn follow_decisions(&self, least: Level) {
        let file = self.file.as_ref().and_then(|file| file.try_clone().ok());
        let log = Self { file, format: self.format };
        let _ = tracing::subscriber::set_global_default(Decisions { log: Mutex::new(log), least });
    }
}

/// Opens a log for appending. Follows no link, because the directory may belong to another user than this program's.
/// Does not wait for the reader of a FIFO: without one this is an error, and what a full FIFO does not take is lost.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
    let text = path.to_str().unwrap_or_default();
    let is_ours = ["/dev/stdout", "/dev/stderr"].contains(&text)
        || ["/dev/fd/", "/proc/self/fd/"].iter().any(|directory| text.starts_with(directory));
    let follow = if is_ours { OFlags::empty() } else { OFlags::NOFOLLOW };
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    Ok(rustix::fs::open(path, flags | follow | OFlags::CLOEXEC, mode)?.into())
}

/// Receives the events of the crate and of this program, but not those of their dependencies.
struct Decisions {
    log: Mutex<Log>,
    least: Level,
}

impl Subscriber for Decisions {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.least
            && ["cofferdam", "oci"].iter().any(|ours| metadata.target().starts_with(ours))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        // In the words of runc's log.
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        if let Ok(log) = self.log.lock() {
            log.write(level, &format!("{}{}", words.message, words.fields));
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
