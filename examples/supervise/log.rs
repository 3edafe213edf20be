//! Logs that rotate: a service writes into the named pipe `NAME.pipe`, which the supervisor copies to `NAME.log`. Before the
//! log becomes too large it is renamed to `NAME.log.1`. While no supervisor runs, the pipe keeps up to 64 KiB, and a service
//! that writes more waits for the next supervisor.

#![expect(clippy::disallowed_methods, reason = "the log directory is the caller's")]

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// The log of a service, which stays below a size.
pub(super) struct Log {
    pipe: PathBuf,
    reader: File,
    path: PathBuf,
    size: u64,
}

impl Log {
    /// The log `NAME.log` in `directory`, which is made if it is missing.
    pub(super) fn open(directory: &Path, name: &str, size: u64) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let pipe = directory.join(format!("{name}.pipe"));
        match mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Without O_NONBLOCK, open(2) would wait for a service.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let reader = OpenOptions::new().read(true).custom_flags(flags).open(&pipe)?;
        fcntl_setfl(&reader, OFlags::empty())?;
        Ok(Self { pipe, reader, path: directory.join(format!("{name}.log")), size })
    }

    /// The service's end of the pipe. The service holds it for reading, too: it gets no SIGPIPE while no supervisor runs.
    pub(super) fn writer(&self) -> std::io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.pipe)
    }

    /// Copies on a thread of its own until the service has ended.
    pub(super) fn copy(self) -> JoinHandle<std::io::Result<()>> {
        std::thread::spawn(move || self.copy_lines())
    }

    fn copy_lines(&self) -> std::io::Result<()> {
        let mut reader = BufReader::new(&self.reader);
        let mut line = Vec::new();
        // The parts of a long line fit into a log, and into memory.
        while reader.by_ref().take(self.size.min(64 << 10)).read_until(b'\n', &mut line)? > 0 {
            // Read on if the disk is full: a full pipe would stop the service.
            self.append(&line).unwrap_or_else(|error| eprintln!("{}: {error}", self.path.display()));
            line.clear();
        }
        Ok(())
    }

    fn append(&self, line: &[u8]) -> std::io::Result<()> {
        let open = || OpenOptions::new().append(true).create(true).open(&self.path);
        let mut file = open()?;
        if file.metadata()?.len() + line.len() as u64 > self.size {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            file = open()?;
        }
        file.write_all(line)
    }
}
