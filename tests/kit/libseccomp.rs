//! libseccomp, asked what it would make of a profile. It is opened when a test runs, never linked: a machine without it
//! builds everything and skips the comparison.

#![expect(unsafe_code, reason = "a C library is called through the pointers that the dynamic linker returns")]
#![expect(clippy::missing_transmute_annotations, reason = "the field a pointer goes to has its type")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;

/// The functions of `libseccomp.so.2` that are used here, under the names of their manual pages.
#[derive(Clone, Copy)]
pub(super) struct Library {
    seccomp_init: unsafe extern "C" fn(u32) -> *mut c_void,
    seccomp_release: unsafe extern "C" fn(*mut c_void),
    seccomp_arch_native: unsafe extern "C" fn() -> u32,
    seccomp_arch_add: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    seccomp_arch_remove: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    seccomp_syscall_resolve_name: unsafe extern "C" fn(*const c_char) -> c_int,
    seccomp_syscall_resolve_name_arch: unsafe extern "C" fn(u32, *const c_char) -> c_int,
    seccomp_syscall_resolve_num_arch: unsafe extern "C" fn(u32, c_int) -> *mut c_char,
    seccomp_rule_add_array: unsafe extern "C" fn(*mut c_void, u32, c_int, c_uint, *const Comparison) -> c_int,
    seccomp_export_bpf: unsafe extern "C" fn(*const c_void, c_int) -> c_int,
}

/// `struct scmp_arg_cmp`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Comparison {
    pub(super) arg: c_uint,
    /// `enum scmp_compare`: from `SCMP_CMP_NE`, 1, to `SCMP_CMP_MASKED_EQ`, 7.
    pub(super) op: c_int,
    pub(super) datum_a: u64,
    pub(super) datum_b: u64,
}

impl Library {
    /// The library, if this machine has it.
    pub(super) fn open() -> Option<Self> {
        // SAFETY: the name is a C string; the library's constructors only set up its own memory. It is never closed,
        // so what is found in it stays.
        let library = unsafe { libc::dlopen(c"libseccomp.so.2".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return None;
        }
        macro_rules! function {
            ($name:ident) => {{
                let symbol = find(library, CString::new(stringify!($name)).ok()?.as_c_str())?;
                // SAFETY: the field has the type that seccomp.h declares for the function of this name.
                unsafe { std::mem::transmute(symbol) }
            }};
        }
        Some(Self {
            seccomp_init: function!(seccomp_init),
            seccomp_release: function!(seccomp_release),
            seccomp_arch_native: function!(seccomp_arch_native),
            seccomp_arch_add: function!(seccomp_arch_add),
            seccomp_arch_remove: function!(seccomp_arch_remove),
            seccomp_syscall_resolve_name: function!(seccomp_syscall_resolve_name),
            seccomp_syscall_resolve_name_arch: function!(seccomp_syscall_resolve_name_arch),
            seccomp_syscall_resolve_num_arch: function!(seccomp_syscall_resolve_num_arch),
            seccomp_rule_add_array: function!(seccomp_rule_add_array),
            seccomp_export_bpf: function!(seccomp_export_bpf),
        })
    }

    /// The number of `name` in the library's own ABI, or a negative stand-in for a call that only others have; `None` if
    /// the library does not know the name.
    pub(super) fn number(&self, name: &str) -> Option<c_int> {
        let name = CString::new(name).ok()?;
        // SAFETY: a C string, which the library only reads.
        let number = unsafe { (self.seccomp_syscall_resolve_name)(name.as_ptr()) };
        (number != UNKNOWN).then_some(number)
    }

    /// The number of `name` in an ABI (`SCMP_ARCH_*`), if it has one there.
    pub(super) fn number_in(&self, arch: u32, name: &str) -> Option<u32> {
        let name = CString::new(name).ok()?;
        // SAFETY: a C string, which the library only reads.
        let number = unsafe { (self.seccomp_syscall_resolve_name_arch)(arch, name.as_ptr()) };
        u32::try_from(number).ok()
    }

    /// The name that a number has in an ABI (`SCMP_ARCH_*`), if it has one there.
    pub(super) fn name_in(&self, arch: u32, number: u32) -> Option<String> {
        // SAFETY: takes numbers.
        let name = unsafe { (self.seccomp_syscall_resolve_num_arch)(arch, number.cast_signed()) };
        if name.is_null() {
            return None;
        }
        // SAFETY: the library returned a C string, which is ours until it is freed below.
        let copy = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        // SAFETY: "it is the responsibility of the caller to free the returned string" - seccomp_syscall_resolve_name(3)
        unsafe { libc::free(name.cast()) };
        Some(copy)
    }

    /// An empty filter for one ABI (`SCMP_ARCH_*`) that answers `default`.
    pub(super) fn filter(&self, default: u32, arch: u32) -> Filter<'_> {
        // SAFETY: takes a number.
        let context = unsafe { (self.seccomp_init)(default) };
        assert!(!context.is_null(), "seccomp_init({default:#x})");
        let filter = Filter { library: self, context };
        // SAFETY: takes nothing.
        let native = unsafe { (self.seccomp_arch_native)() };
        if arch != native {
            // SAFETY: `context` is what seccomp_init returned, and is not released before `filter` is dropped.
            let added = unsafe { (self.seccomp_arch_add)(context, arch) };
            assert_eq!(added, 0, "seccomp_arch_add({arch:#x})");
            // SAFETY: as above.
            let removed = unsafe { (self.seccomp_arch_remove)(context, native) };
            assert_eq!(removed, 0, "seccomp_arch_remove({native:#x})");
        }
        filter
    }
}

/// `__NR_SCMP_ERROR`.
const UNKNOWN: c_int = -1;

fn find(library: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a handle from dlopen that is never closed, and a C string.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!symbol.is_null()).then_some(symbol)
}

/// A `scmp_filter_ctx`.
pub(super) struct Filter<'a> {
    library: &'a Library,
    context: *mut c_void,
}

impl Filter<'_> {
    /// seccomp_rule_add(3): 0 or a negative errno.
    pub(super) fn add(&mut self, action: u32, number: c_int, comparisons: &[Comparison]) -> c_int {
        let count = c_uint::try_from(comparisons.len()).expect("a call has six arguments");
        // SAFETY: the context is alive while `self` is; the array has `count` elements, which the library copies.
        unsafe {
            (self.library.seccomp_rule_add_array)(self.context, action, number, count, comparisons.as_ptr())
        }
    }

    /// The program, each instruction as the bytes of a `struct sock_filter`.
    pub(super) fn export(&self) -> Vec<[u8; 8]> {
        let mut file = tempfile::tempfile().expect("a temporary file");
        // SAFETY: the context is alive while `self` is, and the file across the call.
        let exported = unsafe { (self.library.seccomp_export_bpf)(self.context, file.as_raw_fd()) };
        assert_eq!(exported, 0, "seccomp_export_bpf");
        let mut bytes = Vec::new();
        file.rewind().expect("a file can be read again");
        file.read_to_end(&mut bytes).expect("what was written to a file can be read");
        let (instructions, rest) = bytes.as_chunks();
        assert!(rest.is_empty(), "{} bytes are no program", bytes.len());
        instructions.to_vec()
    }
}

impl Drop for Filter<'_> {
    fn drop(&mut self) {
        // SAFETY: the context is released here and nowhere else.
        unsafe { (self.library.seccomp_release)(self.context) };
    }
}
