//! The command line.

mod cert;
mod client;
mod print;
mod sim;
mod start;
mod status;
mod txn;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// A replicated key-value store with etcd's API. Start with `synod dev`, which runs a cluster of three
/// nodes on this machine.
#[derive(Debug, Parser)]
#[command(name = "synod", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Global flags, valid before and after the command.
    #[command(flatten)]
    to: client::Endpoints,
}

// No doc comments here: they would hide those of the commands' types, which are the help texts.
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

impl Command {
    /// Returns whether the command sends requests to a cluster.
    fn is_client(&self) -> bool {
        match self {
            Self::Put(_) | Self::Get(_) | Self::Del(_) | Self::Txn(_) | Self::Status(_) => true,
            Self::Dev(_) | Self::Start(_) | Self::Cert(_) | Self::Sim(_) => false,
        }
    }
}

/// Error of a command line without a command: the help is printed.
const HELP: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Runs the command of the process' command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && error.kind() != HELP => {
            eprintln!("synod: {}", usage_error(&error));
            return ExitCode::from(2);
        }
        // Prints help or version.
        Err(error) => error.exit(),
    };
    let result = match cli.command {
        Command::Dev(dev) => run(dev.run()),
        Command::Start(start) => start.check_environment().and_then(|()| run(start.run())),
        Command::Cert(cert) => cert.run().map(|()| ExitCode::SUCCESS),
        Command::Put(put) => run(put.run(cli.to)),
        Command::Get(get) => run(get.run(cli.to)),
        Command::Del(del) => run(del.run(cli.to)),
        Command::Txn(txn) => run(txn.run(cli.to)),
        Command::Status(status) => run(status.run(cli.to)),
        Command::Sim(sim) => sim.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("synod: {}", one_line(&error));
        ExitCode::FAILURE
    })
}

/// Parses the command line. Rejects the flags of client commands on other commands.
fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(line)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let has_no_effect = |flag: &&str| {
        matches.value_source(flag) == Some(ValueSource::CommandLine) && !cli.command.is_client()
    };
    match ["endpoints", "timeout"].into_iter().find(has_no_effect) {
        Some(flag) => {
            let name = matches.subcommand_name().unwrap_or_default();
            let what = format!("--{flag} has no effect on `{name}`");
            Err(command.error(ErrorKind::ArgumentConflict, what))
        }
        None => Ok(cli),
    }
}

/// Runs a command on its own runtime.
fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    // Do not wait for blocking threads, such as the reader of standard input: they cannot be stopped.
    runtime.shutdown_background();
    result
}

/// Returns an error of the command line as one line.
fn usage_error(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let lines = lines.filter(|line| !line.starts_with("For more information"));
    let lines: Vec<_> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = lines.join(" ");
    format!("{}; see `synod --help`", line.strip_prefix("error: ").unwrap_or(&line))
}

/// Returns an error and its causes as one line. A cause that the line contains already is left out.
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

/// Returns the environment variables that the commands read.
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

    fn parsed(arguments: &[&str]) -> Result<Cli, clap::Error> {
        parse(std::iter::once("synod").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn client_flags_are_valid_before_and_after_the_command() {
        let flags = ["--endpoints", "a:1,b:2", "--timeout", "3"];
        for command in [&["get", "k"][..], &["put", "k", "v"], &["del", "k"], &["txn"], &["status"]]
        {
            for line in [[&flags, command].concat(), [command, &flags].concat()] {
                let to = parsed(&line).unwrap().to;
                assert_eq!((&to.endpoints[..], to.timeout), (&["a:1".into(), "b:2".into()][..], 3));
            }
        }
        let both = [&flags[..2], &["status", "--endpoints", "c:3"]].concat();
        assert_eq!(parsed(&both).unwrap().to.endpoints, ["c:3"], "the later one counts");
        for line in [["--timeout", "3", "dev"], ["dev", "--timeout", "3"]] {
            let error = usage_error(&parsed(&line).unwrap_err());
            assert!(error.starts_with("--timeout has no effect on `dev`"), "{error}");
        }
    }

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_an_environment_variable_of_its_name() {
        let known = known_variables();
        let layer = <Layer as clap::Args>::augment_args(clap::Command::new("layer"));
        for argument in layer.get_arguments() {
            let flag = argument.get_long().expect("settings are flags");
            let variable = format!("SYNOD_{}", flag.to_uppercase().replace('-', "_"));
            assert!(known.contains(&variable), "{flag} is not in the environment as {variable}");
        }
    }

    #[test]
    fn usage_error_is_one_line() {
        let usage_error = |arguments: &[&str]| {
            let error = usage_error(&parsed(arguments).unwrap_err());
            assert!(!error.contains('\n') && !error.contains("Usage"), "{error:?}");
            error
        };
        let unknown = usage_error(&["dev", "--shoe-size", "44"]);
        assert!(unknown.starts_with("unexpected argument '--shoe-size' found"), "{unknown}");
        let missing = usage_error(&["put", "key"]);
        assert!(missing.contains("were not provided: <VALUE>"), "{missing}");
        let store = usage_error(&["dev", "--store", "paper"]);
        assert!(store.contains("'paper'") && store.contains("rocksdb, memory"), "{store}");
    }

    #[test]
    fn error_with_causes_is_one_line() {
        let error = anyhow::anyhow!("disk\nfull").context("cannot write");
        assert_eq!(one_line(&error), "cannot write: disk full");
        let error = error.context("cannot write: disk\nfull, 0 bytes left");
        assert_eq!(one_line(&error), "cannot write: disk full, 0 bytes left");
    }
}
