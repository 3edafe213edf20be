//! How a helper is recognised: a file by an ELF note, which says that it can be a helper and of which version, so that it
//! need not be executed to find out (elf(5), "Notes (Nhdr)"); and a process by its arguments.

use std::hint::black_box;

/// The owner of the note.
pub(crate) const NOTE_NAME: &[u8] = b"cofferdam\0\0\0";
/// Its type; there is no other.
pub(crate) const NOTE_KIND: u32 = 1;
/// The size of its description, which is the version, filled up with zeroes.
pub(crate) const NOTE_BYTES: usize = 32;

/// An `Elf64_Nhdr`, the name and the description. Both sizes are multiples of four, so nothing follows them.
#[repr(C)]
struct Note {
    name_size: u32,
    description_size: u32,
    kind: u32,
    name: [u8; NOTE_NAME.len()],
    description: [u8; NOTE_BYTES],
}

// SAFETY: the linker collects the sections `.note.*` in the program header PT_NOTE. Their format is that of `Note`.
#[unsafe(link_section = ".note.cofferdam")]
#[used]
static NOTE: Note = Note {
    name_size: NOTE_NAME.len() as u32,
    description_size: NOTE_BYTES as u32,
    kind: NOTE_KIND,
    name: {
        let mut name = [0; NOTE_NAME.len()];
        name.copy_from_slice(NOTE_NAME);
        name
    },
    description: {
        let (mut padded, version) = ([0; NOTE_BYTES], env!("CARGO_PKG_VERSION").as_bytes());
        padded.split_at_mut(version.len()).0.copy_from_slice(version);
        padded
    },
};

/// Refers to the note, so that the linker keeps it in every program that has the caller.
pub(crate) fn keep_note() {
    black_box(&NOTE);
}

/// The arguments of this process, for a constructor, where libc does not pass them on. `None` if the environment has been
/// moved already.
#[cfg(target_env = "musl")]
pub(crate) fn arguments_at_start() -> Option<Vec<std::ffi::OsString>> {
    use std::ffi::{CStr, OsStr, c_char};
    use std::os::unix::ffi::OsStrExt;
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: libc has set it, and no other thread exists yet that could change it.
    let environment = unsafe { environ };
    // SAFETY: getauxval(3) takes an integer.
    let top = unsafe { libc::getauxval(libc::AT_EXECFN) } as usize;
    // The kernel puts the environment on the stack, below the name of the program. It is still there unless another
    // constructor has changed a variable.
    if !(environment.addr() > (&raw const environment).addr() && environment.addr() < top) {
        return None;
    }
    let mut pointers = Vec::new();
    // Below it, from the bottom up: the number of arguments, a pointer to each, a null pointer.
    loop {
        // SAFETY: this goes down through the pointers to the arguments and ends at their number, which no pointer is equal
        // to: it is less than any address of a string.
        let word = unsafe { *environment.sub(pointers.len() + 2) };
        if word.addr() == pointers.len() {
            break;
        }
        pointers.push(word);
    }
    let argument = |pointer: *const c_char| {
        // SAFETY: the kernel made this a pointer to a C string, which stays on the stack of the process.
        let argument = unsafe { CStr::from_ptr(pointer) };
        OsStr::from_bytes(argument.to_bytes()).to_owned()
    };
    Some(pointers.into_iter().rev().map(argument).collect())
}
