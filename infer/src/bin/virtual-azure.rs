//! The program `virtual-azure`.

use std::process::ExitCode;

fn main() -> ExitCode {
    infer::virtual_azure::program::main()
}
