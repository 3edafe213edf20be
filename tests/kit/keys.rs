//! Keys of the kernel (keyrings(7)), for tests that look for the caller's keys in a container.

#![expect(unsafe_code, reason = "no crate here has keyctl(2)")]

use std::io::Error;

const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
const KEYCTL_SEARCH: i32 = 10;
const KEY_SPEC_SESSION_KEYRING: i32 = -3;

/// Joins a new session keyring. Returns false if the kernel has no keyrings.
pub fn join_new_session() -> bool {
    // SAFETY: a null name asks for an anonymous keyring, and the kernel reads no memory.
    let serial =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    serial > 0
}

/// Adds the key `name` to this thread's session keyring.
pub fn add_to_session(name: &str) -> std::io::Result<()> {
    let name = std::ffi::CString::new(name).expect("a name");
    // SAFETY: the strings end with a zero byte, and the payload has the length that the call is given.
    let serial = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            name.as_ptr(),
            c"x".as_ptr(),
            1,
            KEY_SPEC_SESSION_KEYRING,
        )
    };
    if serial > 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Whether this thread's session keyring has the key `name`.
pub fn is_in_session(name: &str) -> bool {
    let name = std::ffi::CString::new(name).expect("a name");
    // SAFETY: both strings end with a zero byte, and 0 asks the kernel not to link the key that it finds.
    let serial = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_SEARCH,
            KEY_SPEC_SESSION_KEYRING,
            c"user".as_ptr(),
            name.as_ptr(),
            0,
        )
    };
    serial > 0
}
