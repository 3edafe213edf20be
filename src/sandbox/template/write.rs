//! Makes a process that has just executed its program a copy of a template.
//!
//! ```text
//!   hole: | arguments, environment | code | data of the calls | table of the calls |      | parked vDSO |
//!           stays: /proc/PID/environ   unmapped at the end
//! ```

use super::child::Child;
use super::maps::{self, Line, PAGE};
use super::{STAT_WORDS, Subject, explain, kernel, read, refusal, version_of};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::spawn::read_plan;
use crate::sys::open_below;
use crate::sys::tracing::{self, Registers};
use crate::wire::template::{Backing, Description, Descriptor, Mapping, NamedFile, Opened};
use rustix::fd::OwnedFd;
use rustix::fs::{Dir, OFlags};
use std::collections::BTreeSet;

/// What errors begin with.
const START: &str = "start from template";

/// Writes the template that `description` holds into the process, which stops before the first instruction of its program,
/// and lets it go.
pub(in crate::sandbox) fn write(subject: Subject<'_>, description: OwnedFd) -> Result<()> {
    write_held(subject, description).map_err(|error| explain(subject.pid, error, START))
}

fn write_held(subject: Subject<'_>, description: OwnedFd) -> Result<()> {
    let template: Description = read_plan(description)?;
    let pid = subject.pid;
    let mut child = Child::new(pid, START)?;
    // Before it is known to be stopped nothing is asked of it.
    child.await_trap(false)?;
    let lines = maps::parse(&read(subject, "maps", MAX_MAPS)?)
        .ok_or_else(|| refused("its program has too many mappings"))?;
    tracing::kill_with_tracer(pid).os(|| "ptrace(PTRACE_SETOPTIONS)")?;
    check(subject, &template, &lines)?;
    let strings = Strings::of(subject)?;
    let pages = pages_number(subject)?;
    child.find_instruction(&lines)?;

    let room = (strings.bytes.len() as u64).next_multiple_of(PAGE);
    let code = template.hole + room;
    let mut calls = Calls { at: code + PAGE, data: Vec::new(), table: Vec::new(), opened: Vec::new() };
    calls.replace_mappings(&template, &lines, pages);
    calls.restore(&template, &strings, pages);
    calls.open_descriptors(&template);
    let (data, table) = calls.lay_out();
    let size = (data.len() as u64).next_multiple_of(PAGE);

    let fixed = (libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE) as u64;
    let anonymous = fixed | libc::MAP_ANONYMOUS as u64;
    let whole = room + PAGE + size;
    child.call("mmap()", [libc::SYS_mmap as u64, template.hole, whole, READ | WRITE, anonymous, NONE, 0])?;
    let over = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
    child.call("mmap(code)", [libc::SYS_mmap as u64, code, PAGE, READ | EXECUTE, over, pages, 0])?;
    tracing::write_memory(pid, template.hole, &strings.bytes).os(|| "process_vm_writev()")?;
    tracing::write_memory(pid, code + PAGE, &data).os(|| "process_vm_writev()")?;
    let mut registers = child.registers()?;
    registers.go_to(code);
    *registers.table() = table;
    tracing::set_registers(pid, &registers).os(|| "ptrace(PTRACE_SETREGSET)")?;
    tracing::resume(pid, false).os(|| "ptrace(PTRACE_CONT)")?;
    child.await_trap(false)?;
    calls.succeeded(&child, table)?;
    child.find_instruction(&maps::parse(&read(subject, "maps", MAX_MAPS)?).unwrap_or_default())?;
    child.call("munmap()", [libc::SYS_munmap as u64, code, PAGE + size, 0, 0, 0, 0])?;

    for (set, bytes) in &template.register_sets {
        tracing::set_register_set(pid, *set, bytes).os(|| "ptrace(PTRACE_SETREGSET)")?;
    }
    let registers = Registers(template.registers);
    tracing::set_registers(pid, &registers)
        .and_then(|()| tracing::set_signal_mask(pid, template.blocked))
        .and_then(|()| tracing::detach(pid))
        .os(|| "ptrace(PTRACE_DETACH)")
}

const MAX_MAPS: u64 = 1 << 20;
const READ: u64 = libc::PROT_READ as u64;
const WRITE: u64 = libc::PROT_WRITE as u64;
const EXECUTE: u64 = libc::PROT_EXEC as u64;
/// Descriptor -1.
const NONE: u64 = u64::MAX;
/// The bytes of one call in the table.
const CALL: u64 = 64;

fn refused(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::Stale, START, problem.into())
}

/// Whether this kernel is the template's, and what the process is given by it is where it has to be.
fn check(subject: Subject<'_>, template: &Description, lines: &[Line]) -> Result<()> {
    if template.kernel != kernel() {
        return Err(refused("the template is another kernel's"));
    }
    if subject.inside != template.pid {
        let problem =
            format!("its process has pid {}, and the template's had {}", subject.inside, template.pid);
        return Err(refused(problem).hint("give both the same init(), and a pid namespace of their own"));
    }
    let sizes = |name: &[u8]| lines.iter().find(|line| line.name == name).map(|line| line.end - line.start);
    let own = lines.iter().filter(|line| is_kernels(line)).count();
    let same = template.kernel_mappings.iter();
    let mut same = same.map(|mapping| sizes(mapping.name.as_bytes()) == Some(mapping.end - mapping.start));
    if own != template.kernel_mappings.len() || !same.all(|same| same) {
        return Err(refused("the kernel maps another vDSO than for the template"));
    }
    let taken = |line: &Line| line.start < template.hole + (1 << 30) && template.hole < line.end;
    if lines.iter().any(taken) {
        return Err(refused("the program is where the template is free"));
    }
    Ok(())
}

fn is_kernels(line: &Line) -> bool {
    matches!(&*line.name, b"[vdso]" | b"[vvar]" | b"[vvar_vclock]")
}

/// The number under which the process has the pages open. It has nothing else open but its standard streams.
fn pages_number(subject: Subject<'_>) -> Result<u64> {
    let step = || "getdents64(proc/fd)";
    let path = format!("{}/fd", subject.inside);
    let directory = open_below(subject.proc, &path, OFlags::DIRECTORY).os(step)?;
    let mut numbers = Vec::new();
    for entry in Dir::read_from(&directory).os(step)? {
        let entry = entry.os(step)?;
        numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<u64>().ok()));
    }
    match numbers.iter().filter(|number| **number > 2).collect::<Vec<_>>()[..] {
        [number] => Ok(*number),
        _ => Err(refused("a clone has no descriptors but its standard streams")),
    }
}

/// The arguments and the environment that execve(2) gave the process.
struct Strings {
    bytes: Vec<u8>,
    arguments: u64,
}

impl Strings {
    fn of(subject: Subject<'_>) -> Result<Self> {
        const MOST: u64 = 8 << 20;
        let (_, fields) = refusal::stat(subject)?;
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
        let (start, middle, end) = (field(48), field(49), field(51));
        let in_order = start <= middle && middle == field(50) && middle <= end && end - start <= MOST;
        if start == 0 || !in_order {
            return Err(refused("proc does not say where the arguments are"));
        }
        let mut bytes = vec![0; (end - start) as usize];
        tracing::read_memory(subject.pid, start, &mut bytes).os(|| "process_vm_readv(environment)")?;
        Ok(Self { bytes, arguments: middle - start })
    }
}

/// The calls that the process makes, and what their arguments point to.
struct Calls {
    /// Where the data will be.
    at: u64,
    data: Vec<u8>,
    table: Vec<(&'static str, [u64; 7])>,
    opened: Vec<OpenedFile>,
}

/// A file of the template, which the process opens.
struct OpenedFile {
    file: NamedFile,
    /// The number of the call that opens it.
    call: usize,
    /// Where its `struct stat` will be.
    stat: u64,
}

impl Calls {
    fn push(&mut self, name: &'static str, number: i64, arguments: &[u64]) {
        let mut call = [0; 7];
        call[0] = number as u64;
        call[1..=arguments.len()].copy_from_slice(arguments);
        self.table.push((name, call));
    }

    /// Where these bytes will be.
    fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.at + self.data.len() as u64;
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        at
    }

    fn words(&mut self, words: &[u64]) -> u64 {
        self.bytes(&words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>())
    }

    fn string(&mut self, string: &[u8]) -> u64 {
        self.bytes(&[string, b"\0"].concat())
    }

    /// Whether the process has made all calls of the table, and found the template's files.
    fn succeeded(&self, child: &Child, table: u64) -> Result<()> {
        let about = |opened: &OpenedFile, problem: &str| {
            refused(format!("{:?} {problem}", String::from_utf8_lossy(&opened.file.path)))
        };
        // Others in its container could have written to its memory, so this may be any number.
        let done = child.registers()?.table().wrapping_sub(table) / CALL;
        if let Some((name, call)) = usize::try_from(done).ok().and_then(|done| self.table.get(done)) {
            let mut result = [0];
            child.read(table + done * CALL + 56, &mut result)?;
            let opened = self.opened.iter().find(|opened| opened.call as u64 == done);
            return Err(match (child.succeeded(name, result[0]), opened) {
                (Err(error), Some(file)) => match error.kind() {
                    ErrorKind::Os(libc::ENOENT | libc::ENOTDIR) => {
                        about(file, "is missing, and the template had it")
                    }
                    _ => about(file, &format!("cannot be opened: {error}")),
                },
                (Err(error), None) => error,
                (Ok(_), _) => refused(format!("{name} with {:x?} did not return", &call[1..])),
            });
        }
        for opened in &self.opened {
            let mut stat = [0; STAT_WORDS];
            child.read(opened.stat, &mut stat)?;
            let (now, before) = (version_of(&stat), opened.file.version);
            let is_same = if opened.file.is_copied { now.size == before.size } else { now == before };
            if !is_same {
                return Err(about(opened, "is another version than the one that the template had"));
            }
        }
        Ok(())
    }

    /// The data with the table at its end, and where the table is.
    fn lay_out(&mut self) -> (Vec<u8>, u64) {
        let mut data = std::mem::take(&mut self.data);
        data.resize(data.len().next_multiple_of(CALL as usize), 0);
        let table = self.at + data.len() as u64;
        for (_, call) in &self.table {
            data.extend(call.iter().chain(&[0]).flat_map(|word| word.to_ne_bytes()));
        }
        data.extend([0xff; CALL as usize]);
        (data, table)
    }

    fn map(&mut self, [start, end]: [u64; 2], protection: u32, flags: i32, file: [u64; 2]) {
        let flags = (flags | libc::MAP_FIXED) as u64;
        let arguments = [start, end - start, protection.into(), flags, file[0], file[1]];
        self.push("mmap()", libc::SYS_mmap, &arguments);
    }

    fn remap(&mut self, from: u64, size: u64, to: u64) {
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        self.push("mremap()", libc::SYS_mremap, &[from, size, size, flags, to]);
    }

    /// Takes away the program, and maps what the template had mapped.
    fn replace_mappings(&mut self, template: &Description, lines: &[Line], pages: u64) {
        let parked = template.hole + (1 << 29);
        let lowest = lines.iter().find(|line| is_kernels(line)).map_or(0, |line| line.start);
        let own = || lines.iter().filter(|line| is_kernels(line));
        for line in own() {
            self.remap(line.start, line.end - line.start, parked + (line.start - lowest));
        }
        for line in lines.iter().filter(|line| !is_kernels(line) && line.name != b"[vsyscall]") {
            self.push("munmap()", libc::SYS_munmap, &[line.start, line.end - line.start]);
        }
        for line in own() {
            let place = template.kernel_mappings.iter().find(|mapping| mapping.name.as_bytes() == line.name);
            let place = place.map_or(line.start, |mapping| mapping.start);
            self.remap(parked + (line.start - lowest), line.end - line.start, place);
        }
        // The lowest number that is free.
        let opened = if pages == 3 { 4 } else { 3 };
        for (number, mapped) in template.files.iter().enumerate() {
            self.open(mapped, libc::O_CLOEXEC as u64, opened);
            for mapping in &template.mappings {
                if let Backing::File { file, offset, shared } = mapping.backing
                    && file == number
                {
                    let flags = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
                    self.map([mapping.start, mapping.end], mapping.protection, flags, [opened, offset]);
                }
            }
            self.push("close()", libc::SYS_close, &[opened]);
        }
        let mut before = 0;
        for mapping in &template.mappings {
            self.map_memory(mapping, before, pages);
            before = mapping.end;
        }
    }

    /// Opens the file, which gets this number, the lowest that is free.
    fn open(&mut self, file: &NamedFile, flags: u64, number: u64) {
        let (path, stat) = (self.string(&file.path), self.words(&[0; STAT_WORDS]));
        self.opened.push(OpenedFile { file: file.clone(), call: self.table.len(), stat });
        self.push("openat()", libc::SYS_openat, &[libc::AT_FDCWD as u64, path, flags]);
        let (itself, how) = (path + file.path.len() as u64, libc::AT_EMPTY_PATH as u64);
        self.push("fstat()", libc::SYS_newfstatat, &[number, itself, stat, how]);
    }

    /// Opens what the template had open, when nothing else is but the standard streams.
    fn open_descriptors(&mut self, template: &Description) {
        let mut taken = BTreeSet::new();
        for Descriptor { number, close_on_exec, opened } in &template.descriptors {
            let flag = if *close_on_exec { libc::O_CLOEXEC as u64 } else { 0 };
            match opened {
                Opened::Duplicate { of } => self.push("dup3()", libc::SYS_dup3, &[*of, *number, flag]),
                Opened::File { file, flags, position } => {
                    let free = (3..).find(|free| !taken.contains(free)).expect("one number is free");
                    self.open(file, u64::from(*flags) | flag, free);
                    if *position != 0 {
                        self.push("lseek()", libc::SYS_lseek, &[free, *position, libc::SEEK_SET as u64]);
                    }
                    if free != *number {
                        self.push("dup3()", libc::SYS_dup3, &[free, *number, flag]);
                        self.push("close()", libc::SYS_close, &[free]);
                    }
                }
            }
            taken.insert(*number);
        }
    }

    fn map_memory(&mut self, mapping: &Mapping, before: u64, pages: u64) {
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        match mapping.backing {
            Backing::File { .. } => {}
            Backing::Anonymous => {
                let range = [mapping.start, mapping.end];
                self.map(range, mapping.protection, anonymous | libc::MAP_NORESERVE, [NONE, 0]);
            }
            // What grows is the part below the pages of the template.
            Backing::Stack => {
                let below = mapping.start.saturating_sub(STACK_ROOM);
                let start = if before + STACK_GUARD < below { below } else { mapping.start };
                let range = [start, mapping.end];
                self.map(range, mapping.protection, anonymous | libc::MAP_GROWSDOWN, [NONE, 0]);
            }
        }
        if mapping.is_wiped {
            let size = mapping.end - mapping.start;
            self.push("madvise()", libc::SYS_madvise, &[mapping.start, size, libc::MADV_WIPEONFORK as u64]);
        }
        for run in &mapping.runs {
            self.map([run.start, run.end], mapping.protection, libc::MAP_PRIVATE, [pages, run.at]);
        }
    }

    /// What the kernel keeps for the process.
    fn restore(&mut self, template: &Description, strings: &Strings, pages: u64) {
        self.push("close()", libc::SYS_close, &[pages]);
        let cwd = self.string(&template.cwd);
        self.push("chdir()", libc::SYS_chdir, &[cwd]);
        self.push("umask()", libc::SYS_umask, &[template.umask.into()]);
        let name = self.string(&template.name);
        self.push("prctl(PR_SET_NAME)", libc::SYS_prctl, &[libc::PR_SET_NAME as u64, name]);
        for (signal, action) in &template.actions {
            let action = self.words(action);
            self.push("rt_sigaction()", libc::SYS_rt_sigaction, &[*signal, action, 0, 8]);
        }
        let [stack, flags, size] = template.signal_stack;
        if flags & libc::SS_DISABLE as u64 == 0 {
            let stack = self.words(&[stack, 0, size]);
            self.push("sigaltstack()", libc::SYS_sigaltstack, &[stack, 0]);
        }
        self.push("set_tid_address()", libc::SYS_set_tid_address, &[template.tid_address]);
        if template.robust_list[0] != 0 {
            self.push("set_robust_list()", libc::SYS_set_robust_list, &template.robust_list);
        }
        if let Some([address, size, signature]) = template.rseq {
            self.push("rseq()", libc::SYS_rseq, &[address, size, 0, signature]);
        }
        // struct prctl_mm_map
        let vector = self.bytes(&template.auxiliary_vector);
        let (start, arguments) = (template.hole, template.hole + strings.arguments);
        let end = start + strings.bytes.len() as u64;
        let mut map = template.layout.to_vec();
        // No other executable: that would take a privilege.
        let no_file = u64::from(u32::MAX) << 32;
        map.extend([
            start,
            arguments,
            arguments,
            end,
            vector,
            template.auxiliary_vector.len() as u64 | no_file,
        ]);
        let size = size_of_val(&*map) as u64;
        let map = self.words(&map);
        const PR_SET_MM_MAP: u64 = 14;
        let arguments = [libc::PR_SET_MM as u64, PR_SET_MM_MAP, map, size];
        self.push("prctl(PR_SET_MM_MAP)", libc::SYS_prctl, &arguments);
    }
}

/// How far below the template's stack that of a clone begins, and what the kernel keeps free below it.
const STACK_ROOM: u64 = 128 << 10;
const STACK_GUARD: u64 = 1 << 20;
