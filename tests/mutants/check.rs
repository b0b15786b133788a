//! Builds and runs a killer, and derives its verdict.

use super::{Killer, Worktree};
use serde_json::Value;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Timeout of a killer's run. A killer that hangs has not detected the bug.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// Timeout of a build. The first one with RocksDB compiles a quarter of a million lines.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// Result of a killer's build.
#[derive(Clone, Debug)]
pub enum Build {
    /// The programs to run, in this order.
    Programs(Vec<Program>),
    /// The killer does not compile. Contains the compiler's output.
    Failed(String),
}

/// A program that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    /// The package's folder, where cargo would run its tests.
    folder: PathBuf,
}

/// Result of a killer's run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// True if all programs exited with status 0.
    pub success: bool,
    /// The output, stdout before stderr.
    pub output: String,
    /// Processor time of the programs and their children, in user and kernel mode. Zero on systems
    /// without `/proc`.
    pub cpu: Duration,
}

/// Verdict of a killer on a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The killer failed with a violation.
    Killed {
        /// The seed at which a search found it.
        seed: Option<u64>,
        /// The violation, in the killer's words.
        what: String,
    },
    /// The killer passed.
    Survived,
    /// The killer failed without a violation, for example because of invalid arguments. This is no evidence.
    Unclear,
}

impl Killer {
    /// Compiles the killer in the copy, without running it.
    ///
    /// # Errors
    /// If cargo cannot be started, times out, or builds nothing to run.
    pub fn build(&self, worktree: &Worktree) -> io::Result<Build> {
        // Copied before the build: cargo would compile RocksDB again if one of its dependencies were newer.
        worktree.copy_rocksdb()?;
        let is_test = self.build[0] == "test";
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.arg(if is_test { "test" } else { "build" }).args(&self.build[1..]);
        command.args(is_test.then_some("--no-run"));
        command.arg("--message-format=json-render-diagnostics");
        command.current_dir(worktree.tree()).env("CARGO_TARGET_DIR", worktree.target());
        // Successive mutants differ in few lines, so incremental compilation is fast.
        command.env("CARGO_INCREMENTAL", "1");
        let (success, stdout, stderr) = finish(command, BUILD_LIMIT)?;
        if !success {
            return Ok(Build::Failed(stderr));
        }
        let programs: Vec<_> = stdout.lines().filter_map(|line| program(line, is_test)).collect();
        if programs.is_empty() {
            return Err(io::Error::other(format!("{self}: the build has no program to run")));
        }
        Ok(Build::Programs(programs))
    }

    /// Runs the programs in order, until one fails.
    ///
    /// # Errors
    /// If one cannot be started or times out.
    pub fn run(&self, programs: &[Program]) -> io::Result<Outcome> {
        let mut all = Outcome { success: true, output: String::new(), cpu: Duration::ZERO };
        for Program { path, folder } in programs {
            let before = cpu_of_children();
            let mut command = Command::new(path);
            command.args(&self.arguments).current_dir(folder).env("CARGO_MANIFEST_DIR", folder);
            let (success, stdout, stderr) = finish(command, RUN_LIMIT)?;
            all.cpu += cpu_of_children().saturating_sub(before);
            all.output += &stdout;
            all.output += &stderr;
            all.success = success;
            if !success {
                break;
            }
        }
        Ok(all)
    }
}

/// Returns the verdict of a killer's run on a mutant.
#[must_use]
pub fn judge(outcome: &Outcome) -> Verdict {
    if outcome.success {
        return Verdict::Survived;
    }
    let lines = || outcome.output.lines();
    if let Some((seed, what)) = lines().find_map(violation) {
        return Verdict::Killed { seed: Some(seed), what };
    }
    let mut from_panic = lines().skip_while(|line| !line.contains("panicked at"));
    match (from_panic.next(), from_panic.next()) {
        (Some(_), Some(what)) => Verdict::Killed { seed: None, what: what.to_owned() },
        (Some(what), None) => Verdict::Killed { seed: None, what: what.to_owned() },
        (None, _) => Verdict::Unclear,
    }
}

/// Parses a search's line such as `seed 17: two leaders at ...` into seed and violation.
fn violation(line: &str) -> Option<(u64, String)> {
    let (seed, what) = line.strip_prefix("seed ")?.split_once(": ")?;
    Some((seed.parse().ok()?, what.to_owned()))
}

/// Returns the program in a line of cargo's report. With `is_test`, skips programs that are not tests,
/// which tests of the package may start.
fn program(line: &str, is_test: bool) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != is_test {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let manifest = Path::new(message["manifest_path"].as_str()?);
    Some(Program { path, folder: manifest.parent()?.to_path_buf() })
}

/// Runs a command until it exits. Returns whether it succeeded, its stdout and its stderr.
fn finish(mut command: Command, limit: Duration) -> io::Result<(bool, String, String)> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::other(format!("{command:?}: {error}")))?;
    let streams = [read_all(child.stdout.take()), read_all(child.stderr.take())];
    let mut texts = [String::new(), String::new()];
    for (stream, text) in streams.iter().zip(&mut texts) {
        let Ok(output) = stream.recv_timeout(limit.saturating_sub(start.elapsed())) else {
            child.kill()?;
            child.wait()?;
            let what = format!("{command:?} did not exit within {limit:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        };
        *text = output;
    }
    let success = child.wait()?.success();
    let [stdout, stderr] = texts;
    Ok((success, stdout, stderr))
}

/// Reads a stream to its end on a separate thread, so that neither stream can block the child.
fn read_all(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // After a read error, the output that was read before is used.
        let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
        // Sending fails after a timeout.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Returns the processor time of all reaped children and their descendants. Linux only.
fn cpu_of_children() -> Duration {
    fs::read_to_string("/proc/self/stat").ok().and_then(|stat| parse_cpu(&stat)).unwrap_or_default()
}

/// Parses `cutime` and `cstime`, fields 16 and 17 of proc(5), in ticks of 10 ms. The second field is a
/// name in parentheses and may have any characters.
fn parse_cpu(stat: &str) -> Option<Duration> {
    let after_name = stat.get(stat.rfind(')')? + 1..)?;
    let mut times = after_name.split_whitespace().skip(13);
    let ticks = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Verdict, finish, judge, parse_cpu, program};
    use std::process::Command;
    use std::time::Duration;

    fn outcome(success: bool, output: &str) -> Outcome {
        Outcome { success, output: output.to_owned(), cpu: Duration::ZERO }
    }

    #[test]
    fn failure_is_a_kill_only_with_a_violation() {
        let found = outcome(false, "progress\nseed 17: two leaders\nreplay: ...\n{}\n");
        let what = "two leaders".to_owned();
        assert_eq!(judge(&found), Verdict::Killed { seed: Some(17), what });
        let asserted = outcome(false, "thread 'x' panicked at src/core.rs:1:1:\ntwo votes\n");
        assert_eq!(judge(&asserted), Verdict::Killed { seed: None, what: "two votes".into() });
        assert_eq!(judge(&outcome(false, "error: no such option")), Verdict::Unclear);
        assert_eq!(judge(&outcome(false, "seed 0..9: not a range")), Verdict::Unclear);
        assert_eq!(judge(&outcome(true, "seed 17: two leaders")), Verdict::Survived);
    }

    #[test]
    fn only_test_programs_run_as_tests() {
        let line = |test| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/tree/x/Cargo.toml",
                "profile":{{"test":{test}}},"executable":"/target/it"}}"#
            )
        };
        let found = program(&line(true), true).expect("a test program");
        assert_eq!(found.folder.to_str(), Some("/tree/x"));
        assert_eq!(program(&line(false), true), None, "a program that a test starts");
        assert_eq!(program(&line(true).replace("\"/target/it\"", "null"), true), None, "a library");
        assert_eq!(program("warning: no JSON", true), None);
    }

    #[test]
    fn both_streams_and_the_exit_status_are_returned() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let output = finish(command, Duration::from_secs(60)).expect("a shell runs");
        assert_eq!(output, (false, "out\n".to_owned(), "err\n".to_owned()));
        let mut endless = Command::new("sleep");
        endless.arg("600");
        let error = finish(endless, Duration::from_millis(50)).expect_err("a timeout");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }

    #[test]
    fn processor_time_is_parsed_after_any_name() {
        let stat = "7 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 11 12 150 25 20 0";
        assert_eq!(parse_cpu(stat), Some(Duration::from_millis(1750)));
        assert_eq!(parse_cpu("7 (short) R 1 2"), None);
    }
}
