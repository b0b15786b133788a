//! `synod start`: runs one node.

use super::known_variables;
use crate::node;
use crate::settings::{Layer, LogFormat, NodeSettings};
use anyhow::{Context, bail};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

/// Run one node of a cluster.
///
/// Each setting has a flag, an environment variable, and a key with the flag's name in the settings
/// file. Flags override environment variables, which override the settings file, which overrides the
/// defaults. Times are written like 300ms, 7s or 2m, sizes like 512KiB, 64MiB or 2GiB.
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// The settings file (TOML).
    #[arg(long, env = "SYNOD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Stop at the end of standard input. A pipe from a supervisor ends when the supervisor exits, even
    /// if it is killed.
    #[arg(long, hide = true)]
    exit_with_parent: bool,

    #[command(flatten)]
    settings: Layer,
}

impl Start {
    /// Rejects unknown environment variables that begin with `SYNOD_`: they may be misspelt settings.
    pub(super) fn check_environment(&self) -> anyhow::Result<()> {
        let known = known_variables();
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("SYNOD_") && !known.iter().any(|known| *known == name) {
                bail!("unknown setting in the environment: {name}; see `synod start --help`");
            }
        }
        Ok(())
    }

    pub(super) async fn run(self: Box<Self>) -> anyhow::Result<ExitCode> {
        let file = self.config.as_deref().map_or(Ok(Layer::default()), Layer::from_file)?;
        let settings = NodeSettings::parse(self.settings.over(file))?;
        start_logging(&settings)?;
        let stop = stop_requested(self.exit_with_parent)?;
        node::serve(settings, stop).await?;
        Ok(ExitCode::SUCCESS)
    }
}

fn start_logging(settings: &NodeSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log)
        .with_context(|| format!("the setting `log` is not valid: {:?}", settings.log))?;
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal)
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Pretty => lines.pretty().init(),
        LogFormat::Compact => lines.compact().init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

/// Returns a future that completes at SIGTERM or SIGINT, or when the supervisor exits.
fn stop_requested(with_parent: bool) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate =
        signal(SignalKind::terminate()).context("cannot install a handler for SIGTERM")?;
    let mut interrupt =
        signal(SignalKind::interrupt()).context("cannot install a handler for SIGINT")?;
    let parent = with_parent.then(parent_exited).transpose()?;
    Ok(async move {
        let parent_exited = async {
            match parent {
                // An error means that the watching thread has ended: stop as well.
                Some(exited) => drop(exited.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => tracing::info!("received SIGTERM"),
            _ = interrupt.recv() => tracing::info!("received SIGINT"),
            () = parent_exited => tracing::info!("the supervisor process has exited: stopping"),
        }
    })
}

/// Watches standard input from a separate thread: a blocking read cannot be interrupted.
fn parent_exited() -> anyhow::Result<oneshot::Receiver<()>> {
    let (exited, watch) = oneshot::channel();
    let read = move || {
        let mut buffer = [0; 64];
        while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
        // Sending fails if the node has stopped for another reason.
        let _ = exited.send(());
    };
    std::thread::Builder::new().name("synod-parent".into()).spawn(read)?;
    Ok(watch)
}
