//! Writes a process down: its mappings, its own pages, and what the kernel keeps for it.

use super::child::Child;
use super::files::FilesInMemory;
use super::maps::{self, Line, PAGE};
use super::refusal::{self, refuse};
use super::{Subject, ended, explain, files, kernel, read, version_of};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::spawn::seal_plan;
use crate::process::memory;
use crate::sandbox::files::Layers;
use crate::sys::tracing::{self, Seen, arch};
use crate::sys::{StatusText, open_below};
use crate::wire::template::{
    Backing, Description, FileVersion, KernelMapping, MAX_MAPPINGS, MAX_PAGES, Mapping, NamedFile, Run,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What of the process a client gets.
pub(in crate::sandbox) struct Captured {
    pub(in crate::sandbox) description: OwnedFd,
    pub(in crate::sandbox) pages: OwnedFd,
    /// Whether it has changed files of its scratch, and where it has files in a tmpfs: its copies get those.
    pub(in crate::sandbox) scratch: bool,
    pub(in crate::sandbox) tmpfs: Vec<PathBuf>,
}

/// Stops the process, which started with these `ids`, and writes it down, unless `check_others` refuses its container;
/// `None` if it should have been stopped by a signal and is not. A process that is refused goes on as it was. One that was
/// held for too long is for the caller to kill. `layers` are those of its container.
pub(in crate::sandbox) fn capture(
    subject: Subject<'_>,
    ids: [u32; 2],
    stopped: bool,
    layers: &Layers,
    check_others: impl FnOnce() -> Result<()>,
) -> Result<Option<Captured>> {
    let (stat, _) = refusal::stat(subject)?;
    let is_ready = !stopped || stat.state == 'T';
    // What a debugger has stopped may never be ready: it is refused now.
    if is_ready || stat.state == 't' {
        let status = read(subject, "status", MAX_STATUS)?;
        refusal::check_status(StatusText(&String::from_utf8_lossy(&status)), ids)?;
    }
    if !is_ready {
        return Ok(None);
    }
    tracing::seize(subject.pid)
        .os(|| "ptrace(PTRACE_SEIZE)")
        .map_err(|error| error.during(refusal::TEMPLATE))?;
    let captured =
        Child::new(subject.pid, refusal::TEMPLATE).and_then(|mut child| match child.await_stop()? {
            Seen::Stopped(_) => {
                check_others().and_then(|()| capture_stopped(subject, ids, layers, &mut child))
            }
            Seen::Ended => Err(ended(refusal::TEMPLATE)),
        });
    captured.map(Some).map_err(|error| {
        let error = explain(subject.pid, error, refusal::TEMPLATE);
        let _ = tracing::detach(subject.pid);
        error
    })
}

/// `status` has a line for the groups, which may be 65,536.
const MAX_STATUS: u64 = 1 << 20;

fn capture_stopped(
    subject: Subject<'_>,
    ids: [u32; 2],
    layers: &Layers,
    child: &mut Child,
) -> Result<Captured> {
    let pid = subject.pid;
    // Again: it may have run until now.
    let status = read(subject, "status", MAX_STATUS)?;
    let status = String::from_utf8_lossy(&status);
    refusal::check_status(StatusText(&status), ids)?;
    let open = files::list_descriptors(subject)?;
    refusal::check_timers(subject)?;
    let in_memory = FilesInMemory::of(subject, layers)?;
    let too_many = || refuse("the process has too many mappings", "let it map less");
    let text = read(subject, "smaps", MAX_SMAPS)?;
    let complete = (text.len() as u64) < MAX_SMAPS;
    let lines = maps::parse(&text).filter(|_| complete).ok_or_else(too_many)?;
    let mut description = Description {
        kernel: kernel(),
        pid: subject.inside,
        name: read(subject, "comm", 64)?.trim_ascii_end().to_vec(),
        cwd: Vec::new(),
        umask: StatusText(&status)
            .line("Umask")
            .and_then(|mask| u32::from_str_radix(mask, 8).ok())
            .unwrap_or(0o22),
        mappings: Vec::new(),
        files: Vec::new(),
        descriptors: Vec::new(),
        kernel_mappings: Vec::new(),
        hole: find_hole(&lines)?,
        registers: Vec::new(),
        register_sets: Vec::new(),
        blocked: tracing::signal_mask(pid).os(|| "ptrace(PTRACE_GETSIGMASK)")?,
        actions: Vec::new(),
        signal_stack: [0; 3],
        tid_address: 0,
        robust_list: tracing::robust_list(pid).os(|| "get_robust_list()")?,
        rseq: tracing::rseq(pid).os(|| "ptrace(PTRACE_GET_RSEQ_CONFIGURATION)")?,
        layout: layout(subject, &lines)?,
        auxiliary_vector: read(subject, "auxv", PAGE)?,
    };
    for line in &lines {
        add_mapping(&mut description, line)?;
    }
    for set in arch::FURTHER_SETS {
        let bytes = tracing::register_set(pid, *set).os(|| "ptrace(PTRACE_GETREGSET)")?;
        description.register_sets.push((*set, bytes));
    }
    let pages = read_pages(subject, child, &mut description.mappings)?;
    child.find_instruction(&lines)?;
    ask_process(subject, child, &mut description, |asked| ask(subject, child, asked, open, &in_memory))?;
    let description = seal_plan(&description)?;
    let FilesInMemory { scratch, tmpfs, .. } = in_memory;
    Ok(Captured { description, pages, scratch, tmpfs })
}

/// A mapping has about 1 KiB, or 4 KiB more with the longest path.
const MAX_SMAPS: u64 = 32 << 20;

fn add_mapping(description: &mut Description, line: &Line) -> Result<()> {
    let name = String::from_utf8_lossy(&line.name);
    let not_again = |what: &str| {
        let problem = format!("the process has a mapping that cannot be made again: {what}");
        refuse(problem, "unmap it before the stop")
    };
    let backing = match &*line.name {
        b"[vsyscall]" => return Ok(()),
        b"[vdso]" | b"[vvar]" | b"[vvar_vclock]" => {
            let (name, start, end) = (name.into_owned(), line.start, line.end);
            description.kernel_mappings.push(KernelMapping { name, start, end });
            return Ok(());
        }
        b"[stack]" => Backing::Stack,
        b"" | b"[heap]" if !line.shared => Backing::Anonymous,
        name if name.starts_with(b"[anon:") && !line.shared => Backing::Anonymous,
        path if path.starts_with(b"/") && !path.ends_with(b" (deleted)") => {
            if line.shared && line.protection & libc::PROT_WRITE as u32 != 0 {
                let hint = "unmap it before the stop, or map it MAP_PRIVATE";
                return Err(refuse(format!("the process has a shared writable mapping of {name:?}"), hint));
            }
            let known = description.files.iter().position(|file| file.path == path);
            let file = known.unwrap_or(description.files.len());
            if known.is_none() {
                // The version follows when the process can be asked.
                let (path, version) = (path.to_vec(), FileVersion::default());
                description.files.push(NamedFile { path, version, is_copied: false });
            }
            Backing::File { file, offset: line.offset, shared: line.shared }
        }
        _ if line.shared => {
            return Err(refuse(
                format!("the process has a shared mapping: {name:?}"),
                "unmap it before the stop",
            ));
        }
        name if name.starts_with(MEMFD_PATH) => {
            let hint = "take the template of a process that executed its program itself";
            return Err(refuse("the process is a clone", hint));
        }
        _ => return Err(not_again(&name)),
    };
    if let Some(special) = line.special {
        return Err(not_again(special));
    }
    let &Line { start, end, protection, is_wiped, .. } = line;
    description.mappings.push(Mapping { start, end, protection, is_wiped, backing, runs: Vec::new() });
    Ok(())
}

/// What a description says of these mappings, for tests with mappings that no process has.
#[cfg(any(test, fuzzing))]
pub(crate) fn describe(lines: &[Line]) -> Result<Description> {
    let mut description = Description { hole: find_hole(lines)?, ..Description::default() };
    lines.iter().try_for_each(|line| add_mapping(&mut description, line)).map(|()| description)
}

/// A gap of addresses of this size, near no other mapping.
fn find_hole(lines: &[Line]) -> Result<u64> {
    /// For the table, the environment, and parked mappings, which are each far smaller.
    const ROOM: u64 = 1 << 30;
    /// Above this, the kernel places stacks and libraries.
    const TOP: u64 = 0x7000_0000_0000;
    let mut at = 0x1_0000_0000;
    for line in lines {
        if at + 2 * ROOM <= line.start || at >= TOP {
            break;
        }
        at = at.max(line.end.checked_next_multiple_of(ROOM).unwrap_or(TOP));
    }
    if at < TOP { Ok(at) } else { Err(refuse("the process has no address space left", "let it map less")) }
}

/// Where code, data, heap and stack are: the fields of proc_pid_stat(5), and the end of the heap.
fn layout(subject: Subject<'_>, lines: &[Line]) -> Result<[u64; 7]> {
    let (_, fields) = refusal::stat(subject)?;
    // The first one is field 3.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
    let heap = lines.iter().rfind(|line| line.name == b"[heap]").map_or(field(47), |heap| heap.end);
    Ok([field(26), field(27), field(45), field(46), field(47), heap.max(field(47)), field(28)])
}

/// The memfd with the pages, and what the kernel calls it in the maps of a clone.
const MEMFD: &str = "cofferdam-template";
const MEMFD_PATH: &[u8] = b"/memfd:cofferdam-template";

/// Copies the pages that are the process's own into sealed memory, and notes where they are.
fn read_pages(subject: Subject<'_>, child: &Child, mappings: &mut [Mapping]) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = memory::executable_memfd(MEMFD);
    let made = made.or_else(|_| rustix::fs::memfd_create(MEMFD, flags).os(|| "memfd_create()"));
    let memory = File::from(made?);
    memory.write_all_at(&arch::run_table(), 0).os(|| "write(memfd)")?;
    let path = format!("{}/pagemap", subject.inside);
    let pagemap = File::from(open_below(subject.proc, &path, OFlags::empty()).os(|| "open(pagemap)")?);
    let (mut at, mut count) = (PAGE, 0);
    for mapping in mappings {
        if mapping.is_wiped || matches!(mapping.backing, Backing::File { shared: true, .. }) {
            continue;
        }
        let of_file = matches!(mapping.backing, Backing::File { .. });
        // A reservation may be much larger than memory: look at a part at a time.
        const PART: u64 = 1 << 15;
        let pages = (mapping.end - mapping.start) / PAGE;
        for part in (0..pages).step_by(PART as usize) {
            child.in_time()?;
            let mut entries = vec![0; (pages - part).min(PART) as usize * 8];
            pagemap.read_exact_at(&mut entries, (mapping.start / PAGE + part) * 8).os(|| "read(pagemap)")?;
            let entries: Vec<u64> = entries
                .chunks_exact(8)
                .map(|entry| u64::from_ne_bytes(entry.try_into().expect("8")))
                .collect();
            let place = |page: usize| mapping.start + (part + page as u64) * PAGE;
            for (first, last) in maps::own_pages(&entries, of_file) {
                let run = Run { start: place(first), end: place(last), at };
                count += 1;
                at += run.end - run.start;
                if count > MAX_MAPPINGS || at > MAX_PAGES {
                    return Err(refuse("the process has too much memory", "let it use less before the stop"));
                }
                for (start, end) in maps::readable_pages(&entries[first..last]) {
                    let (start, end) = (place(first + start), place(first + end));
                    copy_pages(subject, child, &memory, [start, end], run.at + (start - run.start), mapping)?;
                }
                mapping.runs.push(run);
            }
        }
    }
    memory.set_len(at).os(|| "ftruncate(memfd)")?;
    memory::seal(memory.as_fd())?;
    Ok(memory.into())
}

static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// Copies all but pages of zeros: a process can have any number of those that it only read, and they cost it no memory.
fn copy_pages(
    subject: Subject<'_>,
    child: &Child,
    to: &File,
    [start, end]: [u64; 2],
    at: u64,
    mapping: &Mapping,
) -> Result<()> {
    const BUFFER: u64 = 256 << 10;
    if mapping.protection & libc::PROT_READ as u32 == 0 {
        let problem = format!("the process has memory at {start:x} that it wrote and may not read");
        return Err(refuse(problem, "unmap it before the stop"));
    }
    let mut buffer = vec![0; (end - start).min(BUFFER) as usize];
    for from in (start..end).step_by(BUFFER as usize) {
        child.in_time()?;
        let part = &mut buffer[..(end - from).min(BUFFER) as usize];
        tracing::read_memory(subject.pid, from, part).os(|| "process_vm_readv()")?;
        let is_zero = |page: &&[u8]| **page == ZEROS[..page.len()];
        let pages: Vec<&[u8]> = part.chunks(PAGE as usize).collect();
        let mut place = 0;
        for run in pages.chunk_by(|one, next| is_zero(one) == is_zero(next)) {
            let end = place + run.iter().map(|page| page.len()).sum::<usize>();
            if !is_zero(&run[0]) {
                let at = at + (from - start) + place as u64;
                to.write_all_at(&part[place..end], at).os(|| "write(memfd)")?;
            }
            place = end;
        }
    }
    Ok(())
}

/// Has the process make the calls of `ask`, puts it back to where it was, and describes its registers.
fn ask_process(
    subject: Subject<'_>,
    child: &Child,
    description: &mut Description,
    ask: impl FnOnce(&mut Description) -> Result<()>,
) -> Result<()> {
    let pid = subject.pid;
    let mut registers = child.registers()?;
    // Signals that arrive now are for the process to handle, later.
    tracing::set_signal_mask(pid, u64::MAX).os(|| "ptrace(PTRACE_SETSIGMASK)")?;
    let asked = ask(description);
    let restored = tracing::set_registers(pid, &registers)
        .and_then(|()| tracing::set_signal_mask(pid, description.blocked))
        .os(|| "ptrace(PTRACE_SETREGSET)");
    asked.and(restored)?;
    registers.end_sleep();
    description.registers = registers.0;
    Ok(())
}

/// What only the process itself can ask the kernel for.
fn ask(
    subject: Subject<'_>,
    child: &Child,
    description: &mut Description,
    open: Vec<(u64, Vec<u8>)>,
    in_memory: &FilesInMemory<'_>,
) -> Result<()> {
    let (read_write, private) =
        ((libc::PROT_READ | libc::PROT_WRITE) as u64, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let none = u64::MAX;
    let map = [libc::SYS_mmap as u64, 0, 2 * PAGE, read_write, private as u64, none, 0];
    let buffer = child.call("mmap()", map)?;
    let call = |number: i64, arguments: [u64; 4]| {
        [number as u64, arguments[0], arguments[1], arguments[2], arguments[3], 0, 0]
    };
    for signal in (1..=64).filter(|signal| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP)) {
        child.call("rt_sigaction()", call(libc::SYS_rt_sigaction, [signal as u64, 0, buffer, 8]))?;
        let mut action = [0; 4];
        child.read(buffer, &mut action)?;
        if action[..2] != [0, 0] {
            description.actions.push((signal as u64, action));
        }
    }
    child.call("sigaltstack()", call(libc::SYS_sigaltstack, [0, buffer, 0, 0]))?;
    child.read(buffer, &mut description.signal_stack)?;
    let address = [libc::PR_GET_TID_ADDRESS as u64, buffer, 0, 0];
    child.call("prctl(PR_GET_TID_ADDRESS)", call(libc::SYS_prctl, address))?;
    let mut tid = [0];
    child.read(buffer, &mut tid)?;
    [description.tid_address] = tid;
    for timer in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        child.call("getitimer()", call(libc::SYS_getitimer, [timer as u64, buffer, 0, 0]))?;
        let mut value = [0; 4];
        child.read(buffer, &mut value)?;
        if value[2..] != [0, 0] {
            return Err(refuse(
                "the process has an alarm or an interval timer",
                "stop it before the stop: alarm(0)",
            ));
        }
    }
    const LONGEST: u64 = PAGE - 8;
    let length = child.call("getcwd()", call(libc::SYS_getcwd, [buffer, LONGEST, 0, 0]))?;
    let mut words = vec![0; (length.min(LONGEST) as usize).div_ceil(8)];
    child.read(buffer, &mut words)?;
    let mut cwd: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    cwd.truncate(cwd.iter().position(|byte| *byte == 0).unwrap_or_default());
    if !cwd.starts_with(b"/") {
        return Err(refuse(
            "the working directory is outside the root",
            "change to another one before the stop",
        ));
    }
    description.cwd = cwd;
    ask_for_files(subject, child, buffer, description, in_memory)?;
    description.descriptors = files::describe_descriptors(subject, child, buffer, open, in_memory)?;
    child.call("munmap()", call(libc::SYS_munmap, [buffer, 2 * PAGE, 0, 0]))?;
    Ok(())
}

/// Asks for the versions of the files that are mapped, with a page at `buffer` for the path and one for the answer.
fn ask_for_files(
    subject: Subject<'_>,
    child: &Child,
    buffer: u64,
    description: &mut Description,
    in_memory: &FilesInMemory<'_>,
) -> Result<()> {
    let root = rustix::fs::fstat(subject.root).os(|| "fstat(root)")?;
    if child.stat(buffer, None, b"/")?[..2] != [root.st_dev, root.st_ino] {
        let hint = "change the root in the clone, or not at all";
        return Err(refuse("the process has another root than its container", hint));
    }
    for file in &mut description.files {
        let stat = child.stat(buffer, None, &file.path).map_err(|error| match error.kind() {
            ErrorKind::Os(libc::ENOENT | libc::ENOTDIR) => {
                let name = String::from_utf8_lossy(&file.path);
                let problem = format!("{name:?}, which is mapped, is not in the root");
                refuse(problem, "map only files of the root")
            }
            _ => error,
        })?;
        file.version = version_of(&stat);
        file.is_copied = in_memory.contain(&file.path);
    }
    Ok(())
}

/// For clients of a container whose filter notifies.
pub(in crate::sandbox) fn refuse_listener() -> Error {
    refuse("the container's seccomp filter notifies an agent", "use a filter that decides by itself")
}
