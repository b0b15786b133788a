//! `synod-checker`: checks recorded histories for linearizability.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use synod_checker::{Bound, History, Options, Value, Verdict};

/// Checks recorded histories for linearizability.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print one line a file: linearizable, illegal or unknown.
    ///
    /// The exit code is 1 if any file is illegal; else 2 if any is unknown, or is no history, which
    /// the error output tells with the line; else 0. A file that is no history counts as unknown.
    Check(Check),
}

#[derive(Args)]
struct Check {
    /// Histories: one event a line, {"p": process, "t": "invoke", "f": "read", "k": key, "v": null}.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What every key holds at first: nil, a number, or a text, with or without quotes.
    #[arg(long, value_name = "VALUE", default_value = "nil", value_parser = init)]
    #[arg(allow_hyphen_values = true)]
    init: Value,
    /// What it means to read nil: the key was not there, or nothing.
    #[arg(long, value_enum, default_value = "exact")]
    nil_read: NilRead,
    /// What a failed compare-and-set means: it saw another value, or it never happened.
    #[arg(long, value_enum, default_value = "observed")]
    failed_cas: FailedCas,
    /// Say on the error output why a history is illegal.
    #[arg(long)]
    explain: bool,
    /// Draw each illegal history as a page of HTML in this folder.
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
    /// Give a file up as unknown after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// Give a key up as unknown after so many configurations, some 200 bytes of memory each.
    #[arg(long, value_name = "N", default_value_t = Options::default().max_configurations)]
    max_configurations: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum NilRead {
    Exact,
    Any,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailedCas {
    Observed,
    Never,
}

fn main() -> Result<ExitCode> {
    let Cli { command: Command::Check(check) } = Cli::parse();
    if let Some(folder) = &check.html {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let mut worst = Finding::Linearizable;
    check_all(&check, |file, report| {
        report.notes.iter().for_each(|note| complain(note));
        match writeln!(io::stdout(), "{}: {}", file.display(), report.finding.name()) {
            Ok(()) => worst = worst.max(report.finding),
            Err(error) => {
                // Whoever has read enough, as `head` has, need not be told that.
                if error.kind() != io::ErrorKind::BrokenPipe {
                    complain(&format!("the output: {error}"));
                }
                // What nobody was told is not known.
                worst = worst.max(Finding::Unknown);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    Ok(ExitCode::from(match worst {
        Finding::Linearizable => 0,
        Finding::Unknown => 2,
        Finding::Illegal => 1,
    }))
}

/// Writes to the error output. If that cannot be written to, there is nowhere to say so.
fn complain(note: &str) {
    let _ = writeln!(io::stderr(), "{note}");
}

/// What is printed about a file.
struct Report {
    finding: Finding,
    /// For the error output.
    notes: Vec<String>,
}

/// The worst comes last: an illegal history is one whatever could not be found out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    Linearizable,
    Unknown,
    Illegal,
}

impl Finding {
    fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Unknown => "unknown",
            Self::Illegal => "illegal",
        }
    }
}

/// Checks all files, as many at once as there are processors, and shows them in their order, until
/// that breaks off.
fn check_all(check: &Check, mut show: impl FnMut(&Path, Report) -> ControlFlow<()>) {
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (reports, arriving) = mpsc::channel();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(check.files.len()) {
            let (next, is_over, reports) = (&next, &is_over, reports.clone());
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = check.files.get(index) else { break };
                    // Nobody listens any more only if the program is ending.
                    let _ = reports.send((index, check_file(file, check, is_over)));
                }
            });
        }
        drop(reports);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (index, report) in arriving {
            early.insert(index, report);
            while let Some(report) = early.remove(&due) {
                if show(&check.files[due], report).is_break() {
                    is_over.store(true, Ordering::Relaxed);
                    return;
                }
                due += 1;
            }
        }
    });
}

/// Checks a file, and gives it up if all `is_over`.
fn check_file(file: &Path, check: &Check, is_over: &AtomicBool) -> Report {
    let unknown = |note: String| Report { finding: Finding::Unknown, notes: vec![note] };
    let name = file.display();
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => return unknown(format!("{name}: {error}")),
    };
    let history = match synod_checker::from_json_lines(&bytes) {
        Ok(history) => history,
        Err(error) => return unknown(format!("{name}:{}: {}", error.line, error.reason)),
    };
    let options = check.options();
    let deadline = Instant::now() + Duration::from_secs(check.timeout);
    let mut stop = || Instant::now() >= deadline || is_over.load(Ordering::Relaxed);
    let linearizable = synod_checker::is_linearizable(&history, &options, &mut stop);
    match linearizable {
        Ok(true) => Report { finding: Finding::Linearizable, notes: Vec::new() },
        Ok(false) => {
            Report { finding: Finding::Illegal, notes: explain(file, &history, check, is_over) }
        }
        Err(Bound::Stopped) => unknown(format!("{name}: gave up after {} s", check.timeout)),
        Err(Bound::Configurations) => {
            unknown(format!("{name}: gave up after {} configurations", check.max_configurations))
        }
    }
}

/// Explains an illegal history as far as that is asked for.
fn explain(file: &Path, history: &History, check: &Check, is_over: &AtomicBool) -> Vec<String> {
    if !check.explain && check.html.is_none() {
        return Vec::new();
    }
    let options = check.options();
    let deadline = Instant::now() + Duration::from_secs(check.timeout);
    let mut stop = || Instant::now() >= deadline || is_over.load(Ordering::Relaxed);
    let verdict = synod_checker::check_until(history, &options, &mut stop);
    let Verdict::Illegal(why) = verdict else {
        return vec![format!("{}: no time was left to explain it", file.display())];
    };
    let mut notes = Vec::new();
    if check.explain {
        notes.push(format!("{}: {}", file.display(), why.text(history, &options)));
    }
    if let Some(folder) = &check.html {
        let title = file.display().to_string();
        let name = title.trim_start_matches(['.', '/']).replace(['/', '\\'], "_");
        let page = folder.join(format!("{name}.html"));
        if let Err(error) = std::fs::write(&page, why.html(&title, history, &options)) {
            notes.push(format!("{}: {error}", page.display()));
        }
    }
    notes
}

impl Check {
    fn options(&self) -> Options {
        Options {
            init: self.init.clone(),
            nil_read: match self.nil_read {
                NilRead::Exact => synod_checker::NilRead::Exact,
                NilRead::Any => synod_checker::NilRead::Any,
            },
            failed_cas: match self.failed_cas {
                FailedCas::Observed => synod_checker::FailedCas::Observed,
                FailedCas::Never => synod_checker::FailedCas::Never,
            },
            max_configurations: self.max_configurations,
        }
    }
}

/// An initial value as it is given on the command line.
fn init(text: &str) -> Result<Value, String> {
    if text == "nil" {
        return Ok(Value::Nil);
    }
    Ok(Value::from_json(text).unwrap_or_else(|| Value::from(text)))
}
