//! `synod start`: one node.

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
/// Every setting can stand in the settings file, in the environment, or here; a flag wins over
/// the environment, the environment over the file, the file over the default.
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// The settings file (TOML).
    #[arg(long, env = "SYNOD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// End when standard input does: a supervisor holds its other end, and even one that is
    /// killed lets go of it.
    #[arg(long, hide = true)]
    exit_with_parent: bool,

    #[command(flatten)]
    settings: Layer,
}

impl Start {
    /// Refuses variables that look like a setting and are none.
    pub(super) fn check_environment(&self) -> anyhow::Result<()> {
        let known = known_variables();
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("SYNOD_") && !known.iter().any(|known| *known == name) {
                bail!("the environment variable {name} is no setting: `synod start --help`");
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
        .with_context(|| format!("the setting `log` cannot be used: {:?}", settings.log))?;
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

/// Completes when the node is asked to end: by a signal, or by its supervisor's end.
fn stop_requested(with_parent: bool) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let parent = with_parent.then(parent_gone).transpose()?;
    Ok(async move {
        let parent_gone = async {
            match parent {
                // An error means that the thread is gone: then nobody watches the parent.
                Some(gone) => drop(gone.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = parent_gone => tracing::info!("the supervisor is gone"),
        }
    })
}

/// Watches standard input from a thread of its own: such a read cannot be interrupted.
fn parent_gone() -> anyhow::Result<oneshot::Receiver<()>> {
    let (gone, watch) = oneshot::channel();
    let read = move || {
        let mut buffer = [0; 64];
        while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
        // Nobody waits any more if the node ends anyway.
        let _ = gone.send(());
    };
    std::thread::Builder::new().name("synod-parent".into()).spawn(read)?;
    Ok(watch)
}
