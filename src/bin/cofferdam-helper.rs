//! The program for [`cofferdam::helpers::Helper`]: gofer, sandbox and the crate's other processes, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Where the constructor gets the arguments, a helper has ended before it comes here.
    cofferdam::helpers::Helper::main()
}
