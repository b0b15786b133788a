//! The program `synod-checker`, which checks recorded histories for linearizability.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use synod_checker::{History, Options, SearchLimit, Value, Verdict};

/// Checks recorded histories for linearizability.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print one line per file: linearizable, illegal or unknown.
    ///
    /// A file that is not a valid history counts as unknown; stderr shows the line and the reason. The
    /// exit code is 1 if any file is illegal, else 2 if any file is unknown, else 0.
    Check(Check),
}

#[derive(Args)]
struct Check {
    /// Histories: one event per line, {"p": process, "t": "invoke", "f": "read", "k": key, "v": null}.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Initial value of every key: nil, or any JSON value. Text needs no quotes unless it is JSON itself.
    #[arg(long, value_name = "VALUE", default_value = "nil", value_parser = init)]
    #[arg(allow_hyphen_values = true)]
    init: Value,
    /// Meaning of a read of nil: exact (the key did not exist), or any (the value was not recorded).
    #[arg(long, value_enum, default_value = "exact")]
    nil_read: NilRead,
    /// Meaning of a failed compare-and-set: observed (it read a value other than the expected one), or never
    /// (it may not have been executed).
    #[arg(long, value_enum, default_value = "observed")]
    failed_cas: FailedCas,
    /// Print to stderr why a history is illegal.
    #[arg(long)]
    explain: bool,
    /// Write an HTML page with the timeline of each illegal history to this directory.
    ///
    /// A page is named after its file, with "_" for path separators. If two files share a name, as
    /// a/x and a_x do, the later one gets a number from 2 on (a_x-2.html). Names do not depend on
    /// verdicts.
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
    /// Time limit for each file, in seconds. A file that takes longer is unknown.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// Maximum number of search states for each key, or set of keys that transactions connect.
    ///
    /// A file that needs more is unknown. A search state (a configuration) takes about 200 bytes. Files are
    /// checked in parallel, one per processor, each with this limit. Default: 4 million if one or two
    /// files are checked at once; otherwise 8 million, about 1.6 GB, divided by the number of files that
    /// are checked at once.
    #[arg(long, value_name = "N")]
    max_configurations: Option<usize>,
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
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let run = Run {
        options: check.options(),
        pages: pages(&check.files),
        is_cancelled: AtomicBool::new(false),
        check: &check,
    };
    let mut worst = FileVerdict::Linearizable;
    run.check_files(|file, report| {
        report.notes.iter().for_each(|note| print_error(note));
        match writeln!(io::stdout(), "{}: {}", file.display(), report.verdict.name()) {
            Ok(()) => worst = worst.max(report.verdict),
            Err(error) => {
                // A closed pipe is not an error: a reader such as `head` may exit before the end of the output.
                if error.kind() != io::ErrorKind::BrokenPipe {
                    print_error(&format!("cannot write to stdout: {error}"));
                }
                // A verdict that was not printed counts as unknown.
                worst = worst.max(FileVerdict::Unknown);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if worst == FileVerdict::Illegal && !check.explain && check.html.is_none() {
        print_error("use --explain or --html DIR to see why a history is illegal");
    }
    Ok(ExitCode::from(match worst {
        FileVerdict::Linearizable => 0,
        FileVerdict::Unknown => 2,
        FileVerdict::Illegal => 1,
    }))
}

/// Writes a line to stderr. Ignores errors, because there is no place to report them.
fn print_error(note: &str) {
    let _ = writeln!(io::stderr(), "{note}");
}

/// The output for one file.
struct Report {
    verdict: FileVerdict,
    /// Lines for stderr.
    notes: Vec<String>,
}

/// The verdict of a file, by ascending severity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FileVerdict {
    Linearizable,
    Unknown,
    Illegal,
}

impl FileVerdict {
    fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Unknown => "unknown",
            Self::Illegal => "illegal",
        }
    }
}

/// Settings and state that all files share.
struct Run<'a> {
    check: &'a Check,
    options: Options,
    /// The name of the HTML page of each file.
    pages: Vec<String>,
    /// True if no further verdict is needed.
    is_cancelled: AtomicBool,
}

impl Run<'_> {
    /// Checks all files in parallel, and passes the results to `show` in the order of the files until it breaks.
    fn check_files(&self, mut show: impl FnMut(&Path, Report) -> ControlFlow<()>) {
        let next = AtomicUsize::new(0);
        let (reports, received) = mpsc::channel();
        let files = &self.check.files;
        std::thread::scope(|scope| {
            for _ in 0..self.check.workers() {
                let (next, reports) = (&next, reports.clone());
                scope.spawn(move || {
                    while !self.is_cancelled.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(file), Some(page)) = (files.get(index), self.pages.get(index))
                        else {
                            break;
                        };
                        // The receiver is gone only if the program is ending.
                        let _ = reports.send((index, self.check_file(file, page)));
                    }
                });
            }
            drop(reports);
            let mut out_of_order = BTreeMap::new();
            let mut due = 0;
            for (index, report) in received {
                out_of_order.insert(index, report);
                while let Some(report) = out_of_order.remove(&due) {
                    if show(&files[due], report).is_break() {
                        self.is_cancelled.store(true, Ordering::Relaxed);
                        return;
                    }
                    due += 1;
                }
            }
        });
    }

    /// Checks one file.
    fn check_file(&self, file: &Path, page: &str) -> Report {
        let unknown = |note: String| Report { verdict: FileVerdict::Unknown, notes: vec![note] };
        let name = file.display();
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) => return unknown(format!("{name}: {error}")),
        };
        let history = match synod_checker::from_json_lines(&bytes) {
            Ok(history) => history,
            Err(error) => return unknown(format!("{name}:{}: {}", error.line, error.reason)),
        };
        let (options, mut stop) = (&self.options, self.stop_condition());
        match synod_checker::is_linearizable(&history, options, &mut stop) {
            Ok(true) => Report { verdict: FileVerdict::Linearizable, notes: Vec::new() },
            Ok(false) => {
                Report { verdict: FileVerdict::Illegal, notes: self.explain(file, page, &history) }
            }
            Err(SearchLimit::Stopped) => unknown(format!(
                "{name}: timed out after {} s: raise --timeout",
                self.check.timeout
            )),
            Err(SearchLimit::Configurations) => unknown(format!(
                "{name}: stopped after {} configurations: raise --max-configurations",
                options.max_configurations
            )),
        }
    }

    /// Returns a function that stops a search after the time limit of a file, or when the run is cancelled.
    fn stop_condition(&self) -> impl FnMut() -> bool {
        // A deadline that the clock cannot represent is no limit.
        let deadline = Instant::now().checked_add(Duration::from_secs(self.check.timeout));
        move || {
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            is_late || self.is_cancelled.load(Ordering::Relaxed)
        }
    }

    /// Explains an illegal history, if requested. Returns the lines for stderr.
    fn explain(&self, file: &Path, page: &str, history: &History) -> Vec<String> {
        let Self { check, options, .. } = self;
        if !check.explain && check.html.is_none() {
            return Vec::new();
        }
        let verdict = synod_checker::check_until(history, options, &mut self.stop_condition());
        let Verdict::Illegal(why) = verdict else {
            let (name, seconds) = (file.display(), check.timeout);
            return vec![format!(
                "{name}: explanation timed out after {seconds} s: raise --timeout"
            )];
        };
        let mut notes = Vec::new();
        if check.explain {
            notes.push(format!("{}: {}", file.display(), why.text(history, options)));
        }
        if let Some(folder) = &check.html {
            let (title, page) = (file.display().to_string(), folder.join(page));
            if let Err(error) = std::fs::write(&page, why.html(&title, history, options)) {
                notes.push(format!("cannot write {}: {error}", page.display()));
            }
        }
        notes
    }
}

/// Returns a unique page name for each file: a number distinguishes equal names. Names depend only on the files
/// and their order, not on the verdicts.
fn pages(files: &[PathBuf]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut page = |file: &PathBuf| {
        let path = file.display().to_string();
        let name = path.trim_start_matches(['.', '/']).replace(['/', '\\'], "_");
        let numbered = (2..).map(|number| format!("{name}-{number}.html"));
        let mut names = std::iter::once(format!("{name}.html")).chain(numbered);
        // There is always a free number.
        names.find(|name| taken.insert(name.clone())).unwrap_or_default()
    };
    files.iter().map(&mut page).collect()
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
            max_configurations: self.max_configurations.unwrap_or_else(|| {
                let each = Options::default().max_configurations;
                each.min(2 * each / self.workers())
            }),
        }
    }

    /// Returns the number of files that are checked in parallel.
    fn workers(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        processors.min(self.files.len()).max(1)
    }
}

/// Parses the value of `--init`.
fn init(text: &str) -> Result<Value, String> {
    if text == "nil" {
        return Ok(Value::Nil);
    }
    Ok(Value::from_json(text).unwrap_or_else(|| Value::from(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_checked_in_parallel_share_the_default_configuration_limit() {
        let bound = |arguments: &[&str]| {
            let arguments = ["synod-checker", "check"].iter().chain(arguments);
            let Command::Check(check) = Cli::parse_from(arguments).command;
            (check.options().max_configurations, check.workers())
        };
        let whole = Options::default().max_configurations;
        assert_eq!(bound(&["a"]), (whole, 1));
        let (each, workers) = bound(&["x"; 1000]);
        assert!(each <= whole && each * workers <= 2 * whole, "{each} for {workers}");
        assert_eq!(bound(&["a", "b", "--max-configurations", "7"]).0, 7, "an explicit limit");
    }
}
