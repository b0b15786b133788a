//! The `synod` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    synod_node::cli::main()
}
