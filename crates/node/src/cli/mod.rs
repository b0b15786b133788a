//! The command line.

mod cert;
mod client;
mod print;
mod sim;
mod start;
mod status;
mod txn;

pub(crate) use cert::{new_cluster_id, write_authority, write_issued};

use clap::error::ErrorKind;
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

/// Shown to whoever gives no command at all.
const HELP: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && error.kind() != HELP => {
            eprintln!("synod: {}", misused(&error));
            return ExitCode::from(2);
        }
        // Help, or the version: what was asked for.
        Err(error) => error.exit(),
    };
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

/// What is wrong with the command line, in one line.
fn misused(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let said = said.filter(|line| !line.starts_with("For more information"));
    let said: Vec<_> = said.map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = said.join(" ");
    format!("{}; `synod --help` tells more", said.strip_prefix("error: ").unwrap_or(&said))
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
    fn what_is_wrong_with_a_command_line_is_one_line() {
        let told = |arguments: &[&str]| {
            let error = Cli::try_parse_from([&["synod"], arguments].concat()).unwrap_err();
            let told = misused(&error);
            assert!(!told.contains('\n') && !told.contains("Usage"), "{told:?}");
            told
        };
        let unknown = told(&["dev", "--shoe-size", "44"]);
        assert!(unknown.starts_with("unexpected argument '--shoe-size' found"), "{unknown}");
        let missing = told(&["put", "key"]);
        assert!(missing.contains("were not provided: <VALUE>"), "{missing}");
        let store = told(&["dev", "--store", "paper"]);
        assert!(store.contains("'paper'") && store.contains("rocksdb, memory"), "{store}");
    }

    #[test]
    fn an_error_with_causes_is_one_line() {
        let error = anyhow::anyhow!("disk\nfull").context("cannot write");
        assert_eq!(one_line(&error), "cannot write: disk full");
        let error = error.context("cannot write: disk\nfull, or so it seems");
        assert_eq!(one_line(&error), "cannot write: disk full, or so it seems");
    }
}
