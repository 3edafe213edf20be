//! What a sandbox writes down of a template: everything of a process but the pages, which are in a memfd of their own.
//! It travels in sealed memory.

use serde::{Deserialize, Serialize};

/// The most mappings, and the most runs of pages, of a template.
pub(crate) const MAX_MAPPINGS: usize = 8192;
/// The most file systems in memory with files.
pub(crate) const MAX_ARCHIVES: usize = 32;
/// The most descriptors.
pub(crate) const MAX_DESCRIPTORS: usize = 256;
/// The most bytes of pages.
pub(crate) const MAX_PAGES: u64 = 8 << 30;

/// The names under which the description and the pages travel.
pub(crate) const DESCRIPTION: &str = "template";
pub(crate) const PAGES: &str = "template-pages";

/// A process that was stopped, for copies of it on this kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// Release and version of the kernel.
    pub(crate) kernel: String,
    /// Its pid in its own pid namespace. The C library keeps it in memory, so a copy has the same one.
    pub(crate) pid: i32,
    /// The name of the process (comm).
    pub(crate) name: Vec<u8>,
    pub(crate) cwd: Vec<u8>,
    pub(crate) umask: u32,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) files: Vec<NamedFile>,
    /// What it has open besides the standard streams, by ascending numbers.
    pub(crate) descriptors: Vec<Descriptor>,
    /// What the kernel maps for the process: the vDSO and its data.
    pub(crate) kernel_mappings: Vec<KernelMapping>,
    /// An address with much unused space after it.
    pub(crate) hole: u64,
    pub(crate) registers: Vec<u64>,
    /// The further register sets, by the number of ptrace(2).
    pub(crate) register_sets: Vec<(i32, Vec<u8>)>,
    /// The signals that it blocks.
    pub(crate) blocked: u64,
    /// The actions that are not the default: signal, and the words of the kernel's `struct sigaction`.
    pub(crate) actions: Vec<(u64, [u64; 4])>,
    /// The words of its `stack_t` (sigaltstack(2)).
    pub(crate) signal_stack: [u64; 3],
    /// What set_tid_address(2) was given.
    pub(crate) tid_address: u64,
    /// Head and length (set_robust_list(2)).
    pub(crate) robust_list: [u64; 2],
    /// Address, size and signature (rseq(2)).
    pub(crate) rseq: Option<[u64; 3]>,
    /// The first seven addresses of `struct prctl_mm_map`: code, data, heap, stack.
    pub(crate) layout: [u64; 7],
    pub(crate) auxiliary_vector: Vec<u8>,
}

/// A range of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// PROT_READ, PROT_WRITE, PROT_EXEC.
    pub(crate) protection: u32,
    /// A copy finds zeros there, as a child of fork(2) does (`MADV_WIPEONFORK`): it may be the state of a random generator.
    pub(crate) is_wiped: bool,
    pub(crate) backing: Backing,
    /// Its pages that are neither the file's nor untouched.
    pub(crate) runs: Vec<Run>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Backing {
    Anonymous,
    /// Anonymous, and grows downwards.
    Stack,
    /// The file with this number, from this offset on.
    File {
        file: usize,
        offset: u64,
        shared: bool,
    },
}

/// Pages that follow each other, in the mapping and in the memfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Where they are in the memfd.
    pub(crate) at: u64,
}

/// A file that is mapped or open. The root of a copy has to have the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedFile {
    pub(crate) path: Vec<u8>,
    pub(crate) version: FileVersion,
    /// Whether it is among the files that a copy gets from its template: those have another inode and time.
    pub(crate) is_copied: bool,
}

/// A regular file that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Descriptor {
    pub(crate) number: u64,
    /// `FD_CLOEXEC`.
    pub(crate) close_on_exec: bool,
    pub(crate) opened: Opened,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Opened {
    /// By open(2), with these flags. It is at this position.
    File { file: NamedFile, flags: u32, position: u64 },
    /// By dup(2), of this descriptor before it.
    Duplicate { of: u64 },
}

/// What differs between two versions of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileVersion {
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) modified: (u64, u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KernelMapping {
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
}
