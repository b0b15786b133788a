//! The command line.

mod cert;
mod client;
mod print;
mod sim;
mod start;
mod status;
mod txn;

pub(crate) use cert::{new_cluster_id, write_authority, write_issued};

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// A replicated key-value store that speaks etcd's protocol. Begin with `synod dev`: it runs a
/// cluster of three nodes on this machine.
#[derive(Debug, Parser)]
#[command(name = "synod", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// What each does is told where its arguments are: a doc comment here would hide that.
#[derive(Debug, Subcommand)]
enum Command {
    Dev(crate::dev::Dev),
    Start(Box<start::Start>),
    #[command(subcommand)]
    Cert(cert::Cert),
    Put(client::Put),
    Get(client::Get),
    Del(client::Del),
    Txn(txn::Txn),
    Status(status::ShowStatus),
    Sim(sim::Sim),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Dev(dev) => run(dev.run()),
        Command::Start(start) => start.check_environment().and_then(|()| run(start.run())),
        Command::Cert(cert) => cert.run().map(|()| ExitCode::SUCCESS),
        Command::Put(put) => run(put.run()),
        Command::Get(get) => run(get.run()),
        Command::Del(del) => run(del.run()),
        Command::Txn(txn) => run(txn.run()),
        Command::Status(status) => run(status.run()),
        Command::Sim(sim) => sim.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("synod: {}", one_line(&error));
        ExitCode::FAILURE
    })
}

/// Runs a command on a runtime of its own.
fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    // What is left runs on a thread that nothing can interrupt; the process ends all the same.
    runtime.shutdown_background();
    result
}

/// An error and its causes, in one line. Some errors say themselves what caused them: that is not
/// said again.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line.replace('\n', " ")
}

/// The environment variables that any command reads.
fn known_variables() -> Vec<String> {
    let mut commands = vec![Cli::command()];
    let mut known = Vec::new();
    while let Some(command) = commands.pop() {
        let variables = command.get_arguments().filter_map(|argument| argument.get_env());
        known.extend(variables.map(|name| name.to_string_lossy().into_owned()));
        commands.extend(command.get_subcommands().cloned());
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Layer;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_a_variable_named_like_it() {
        let known = known_variables();
        let layer = <Layer as clap::Args>::augment_args(clap::Command::new("layer"));
        for argument in layer.get_arguments() {
            let flag = argument.get_long().expect("settings are flags");
            let variable = format!("SYNOD_{}", flag.to_uppercase().replace('-', "_"));
            assert!(known.contains(&variable), "{flag} is not in the environment as {variable}");
        }
    }

    #[test]
    fn an_error_with_causes_is_one_line() {
        let error = anyhow::anyhow!("disk\nfull").context("cannot write");
        assert_eq!(one_line(&error), "cannot write: disk full");
        let error = error.context("cannot write: disk\nfull, or so it seems");
        assert_eq!(one_line(&error), "cannot write: disk full, or so it seems");
    }
}
