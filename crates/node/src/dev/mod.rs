//! `synod dev`: a cluster of real processes on this machine.
//!
//! Every node is a child process, `synod start`, with certificates, settings and data of its own
//! in one folder. The children's standard input is a pipe that nobody writes to: when the
//! supervisor ends, however it ends, the pipe closes and they end as well.

mod args;
mod earlier;
mod folder;
mod report;
mod supervisor;

pub use args::Dev;

use folder::Folder;
use std::process::ExitCode;

impl Dev {
    /// Runs the cluster until it is told to end.
    ///
    /// # Errors
    /// In one line, why the folder cannot be used or a node does not start. No child is left.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let folder = Folder::open_or_make(&self)?;
        supervisor::run(&folder).await
    }
}
