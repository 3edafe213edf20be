//! The program for [`cofferdam::helpers::Helper`]: gofer, sandbox and the crate's other processes, and nothing else.

use cofferdam::helpers::{Helper, HelperAllocator};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: HelperAllocator = HelperAllocator::new();

fn main() -> ExitCode {
    // Where the constructor gets the arguments, a helper has ended before it comes here.
    Helper::main()
}
