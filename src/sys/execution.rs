//! execve(2), and the last calls before it.

use super::last_errno;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;

/// execve(2) with its arguments laid out, and what precedes it. It makes these system calls and no other: after a seccomp
/// filter was loaded, not even memory can be allocated, because the filter may refuse brk(2).
pub(crate) struct Execution<'a> {
    program: &'a CStr,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// To be unmapped, where the peak is forgotten.
    pages: Vec<ConstantPages>,
    peak: Option<BorrowedFd<'a>>,
    filter: Option<(libc::sock_fprog, u32)>,
    /// What the pointers point to.
    pointees: PhantomData<(&'a [CString], &'a [libc::sock_filter])>,
}

/// The call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastCall {
    Seccomp,
    Execve,
}

impl<'a> Execution<'a> {
    pub(crate) fn new(program: &'a CStr, argv: &'a [CString], envp: &'a [CString]) -> Self {
        let pointers = |strings: &[CString]| {
            strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
        };
        Self {
            program,
            argv: pointers(argv),
            envp: pointers(envp),
            pages: Vec::new(),
            peak: None,
            filter: None,
            pointees: PhantomData,
        }
    }

    /// First forgets how much memory this process has had resident, whose `clear_refs` file this is: execve(2) hands the
    /// peak on, and most of it is code. If it fails, the peak stays.
    pub(crate) fn forget_peak(self, clear_refs: BorrowedFd<'a>) -> Self {
        Self { pages: constant_pages(true), peak: Some(clear_refs), ..self }
    }

    /// Loads this filter before execve(2), as [`load_seccomp`](super::load_seccomp). Not one with a listener.
    pub(crate) fn load_filter(self, filter: &'a [libc::sock_filter], flags: u32) -> Result<Self, Errno> {
        let len = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
        let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
        Ok(Self { filter: Some((program, flags)), ..self })
    }

    /// Makes the calls. Returns only if the filter's or execve(2) failed.
    ///
    /// In one function, so that of this program's code little more than this is mapped again.
    #[inline(never)]
    pub(crate) fn execute(&self) -> (LastCall, Errno) {
        for pages in &self.pages {
            pages.unmap();
        }
        if let Some(peak) = self.peak {
            // SAFETY: the buffer is one byte long.
            unsafe { libc::write(peak.as_raw_fd(), RESET_PEAK.as_ptr().cast(), 1) };
        }
        if let Some((filter, flags)) = &self.filter {
            let filter: *const libc::sock_fprog = filter;
            // SAFETY: `filter` points to its instructions, which live as long as this value; the kernel copies and
            // verifies them.
            let result =
                unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, *flags, filter) };
            if result < 0 {
                return (LastCall::Seccomp, last_errno());
            }
        }
        // SAFETY: both arrays end with a null pointer, and the C strings live as long as this value.
        unsafe { libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        (LastCall::Execve, last_errno())
    }
}

/// Unmaps the pages of the program's code and constants that this process has used. They stay in the page cache, and
/// are mapped again on the next access. For a process that is about to wait for long.
pub(crate) fn forget_code() {
    // The libraries are shared with the whole system anyway.
    constant_pages(false).iter().for_each(ConstantPages::unmap);
}

/// Forgets the peak of resident memory, as far as what is left allows: see [`Execution::forget_peak`].
pub(crate) fn forget_peak(clear_refs: BorrowedFd<'_>) {
    constant_pages(true).iter().for_each(ConstantPages::unmap);
    let _ = rustix::io::write(clear_refs, RESET_PEAK);
}

/// "Reset the peak resident set size": proc_pid_clear_refs(5).
const RESET_PEAK: &[u8; 1] = b"5";

/// Pages whose content is that of a file.
struct ConstantPages {
    from: u64,
    to: u64,
}

impl ConstantPages {
    fn unmap(&self) {
        // SAFETY: `constant_pages` made this of whole pages of a segment without PF_W, so their content is that of the
        // file, and the next access reads it from there again.
        unsafe { libc::madvise(self.from as *mut _, (self.to - self.from) as usize, libc::MADV_DONTNEED) };
    }
}

/// The code and the constants of the program, and of its libraries if `all`.
fn constant_pages(all: bool) -> Vec<ConstantPages> {
    let page = rustix::param::page_size() as u64;
    let mut pages = Vec::new();
    visit_segments(all, &mut |base, segment| {
        // Never a writable segment: it holds relocations and variables, and the kernel cannot read those from the
        // file.
        if segment.p_flags & libc::PF_W != 0 {
            return;
        }
        let from = (base + segment.p_vaddr).next_multiple_of(page);
        let to = (base + segment.p_vaddr + segment.p_memsz) / page * page;
        if from < to {
            pages.push(ConstantPages { from, to });
        }
    });
    pages
}

/// Whether `address` is in this process's main executable, not in a library.
pub(crate) fn is_in_main_executable(address: *const c_void) -> bool {
    let mut found = false;
    visit_segments(false, &mut |base, segment| {
        let from = base.wrapping_add(segment.p_vaddr);
        found |= (from..from.wrapping_add(segment.p_memsz)).contains(&(address as u64));
    });
    found
}

/// Something to do with a loaded segment, and with the address to which the addresses of its object are relative.
type VisitSegment<'a> = &'a mut dyn FnMut(u64, &libc::Elf64_Phdr);

/// Shows `visit` what of the program is in memory, and of its libraries if `all`.
fn visit_segments(all: bool, visit: VisitSegment<'_>) {
    struct Visit<'a> {
        all: bool,
        visit: VisitSegment<'a>,
    }
    extern "C" fn of_object(info: *mut libc::dl_phdr_info, _: usize, visit: *mut c_void) -> i32 {
        // SAFETY: dl_iterate_phdr(3) passes a pointer to a struct that is valid for the call.
        let info = unsafe { &*info };
        // SAFETY: dl_iterate_phdr(3) passes on the pointer it got below, to a value that nothing else uses meanwhile.
        let visit = unsafe { &mut *visit.cast::<Visit<'_>>() };
        // SAFETY: dlpi_phdr points to dlpi_phnum headers, which stay mapped as long as the object does.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
            (visit.visit)(info.dlpi_addr, header);
        }
        // Stop after the first object, the program, or go on.
        i32::from(!visit.all)
    }
    let mut visit = Visit { all, visit };
    // SAFETY: the callback has the signature that dl_iterate_phdr(3) asks for and keeps no pointer beyond the call.
    unsafe { libc::dl_iterate_phdr(Some(of_object), (&raw mut visit).cast()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_this_program_is_in_the_executable_and_one_of_libc_is_not() {
        assert!(is_in_main_executable(constant_pages as *const c_void));
        let is_dynamic = cfg!(not(target_feature = "crt-static"));
        assert_eq!(is_in_main_executable(libc::malloc as *const c_void), !is_dynamic);
    }
}
