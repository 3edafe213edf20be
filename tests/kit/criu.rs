//! The CRIU that the tests write and restore images with.

use cofferdam::checkpoint::Criu;
use std::path::PathBuf;

/// The variable with the path of a CRIU that knows this kernel; `tests/criu/fetch` fetches one.
const VARIABLE: &str = "COFFERDAM_TEST_CRIU";

/// Its path, or why there is none.
pub fn path() -> Result<PathBuf, String> {
    let path = std::env::var_os(VARIABLE).map(PathBuf::from).filter(|path| path.exists());
    path.ok_or_else(|| {
        format!("{VARIABLE} names no CRIU; `tests/criu/fetch FOLDER` fetches one and prints its path")
    })
}

/// The program, for a test that writes an image; or why this caller cannot.
pub fn for_a_dump() -> Result<Criu, String> {
    let path = path()?;
    if !super::is_root() {
        return Err("only root of the host may read a seccomp filter, which an image has".into());
    }
    Ok(Criu::at(path).unwrap())
}

/// The program for a test that writes an image. Ends the test where there is none.
macro_rules! criu_or_skip {
    () => {
        match $crate::kit::criu::for_a_dump() {
            Ok(criu) => criu,
            Err(reason) => $crate::kit::skip!("{reason}"),
        }
    };
}
pub(crate) use criu_or_skip;
