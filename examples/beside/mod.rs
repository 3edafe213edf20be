//! Has the processes beside a workload execute `cofferdam-helper`, if that is installed beside this program or built into
//! it.

use cofferdam::Error;
use cofferdam::helpers::Helper;

/// Installs the file `cofferdam-helper` in the directory of this program, if there is one, else the program that the
/// feature `embedded-helper` built in.
///
/// # Errors
/// That of [`Helper::at`]: the file is there, and is not the helper of this version of the crate.
pub(crate) fn install_helper() -> Result<(), Error> {
    let own = std::env::current_exe().unwrap_or_default();
    let helper = own.with_file_name("cofferdam-helper");
    match helper.is_file() {
        true => Helper::at(helper)?.install(),
        #[cfg(feature = "embedded-helper")]
        false => Helper::built_in()?.install(),
        #[cfg(not(feature = "embedded-helper"))]
        false => Ok(()),
    }
}
