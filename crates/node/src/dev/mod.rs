//! `synod dev`: a development cluster on this machine, one process per node.
//!
//! Every node is a child process, `synod start`, with certificates, settings and data in its own
//! subfolder. The standard input of each child is a pipe without data. When the supervisor exits, even
//! if it is killed, the pipe closes and the child stops.

mod args;
mod earlier;
mod folder;
mod report;
mod supervisor;

pub use args::Dev;

use folder::Folder;
use std::process::ExitCode;

impl Dev {
    /// Runs the cluster until a signal stops it.
    ///
    /// # Errors
    /// If the folder cannot be used, or a node does not start. The message is one line, and no child
    /// process is left.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let folder = Folder::open_or_create(&self)?;
        supervisor::run(&folder).await
    }
}
