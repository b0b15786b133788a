//! Running the command that must notice a bug, and judging what it said.

use super::{Patch, Scratch};
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a killer may take: one that hangs has noticed nothing.
const LIMIT: Duration = Duration::from_secs(600);

/// What a command did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether it ended with status 0.
    pub success: bool,
    /// What it wrote, stdout before stderr.
    pub output: String,
    /// How long it ran.
    pub took: Duration,
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The killer failed because something was violated.
    Killed {
        /// The seed at which a search found it.
        seed: Option<u64>,
        /// What was violated, as the killer said it.
        what: String,
    },
    /// The killer noticed nothing.
    Survived,
    /// The killer failed without showing a violation: a crash of the tool proves nothing.
    Unclear,
}

impl Patch {
    /// Compiles the killer in the copy, without running it.
    ///
    /// # Errors
    /// If cargo cannot be started.
    pub fn build(&self, scratch: &Scratch) -> io::Result<Outcome> {
        let mut arguments = self.build_arguments();
        match arguments[0] {
            "test" => arguments.push("--no-run"),
            _ => arguments[0] = "build",
        }
        cargo(scratch, &arguments)
    }

    /// Runs the killer in the copy.
    ///
    /// # Errors
    /// If cargo cannot be started, or the killer does not end in time.
    pub fn run(&self, scratch: &Scratch) -> io::Result<Outcome> {
        cargo(scratch, &self.killer.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Judges a killer that was built from a mutant.
#[must_use]
pub fn judge(outcome: &Outcome) -> Verdict {
    if outcome.success {
        return Verdict::Survived;
    }
    let lines = || outcome.output.lines();
    if let Some((seed, what)) = lines().find_map(violation) {
        return Verdict::Killed { seed: Some(seed), what };
    }
    match lines().find(|line| line.contains("panicked at")) {
        Some(line) => Verdict::Killed { seed: None, what: line.to_owned() },
        None => Verdict::Unclear,
    }
}

/// The seed and the violation in a line such as `seed 17: two leaders at ...`, as a search prints
/// it.
fn violation(line: &str) -> Option<(u64, String)> {
    let (seed, what) = line.strip_prefix("seed ")?.split_once(": ")?;
    Some((seed.parse().ok()?, what.to_owned()))
}

/// Runs cargo in the copy and waits for its end.
fn cargo(scratch: &Scratch, arguments: &[&str]) -> io::Result<Outcome> {
    let began = Instant::now();
    let mut child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .current_dir(scratch.tree())
        .env("CARGO_TARGET_DIR", scratch.target())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let mut output = String::new();
    for stream in [stdout, stderr] {
        let left = LIMIT.saturating_sub(began.elapsed());
        let Ok(text) = stream.recv_timeout(left) else {
            child.kill()?;
            child.wait()?;
            let what = format!("cargo {} did not end in {LIMIT:?}", arguments.join(" "));
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        };
        output.push_str(&text);
    }
    let success = child.wait()?.success();
    Ok(Outcome { success, output, took: began.elapsed() })
}

/// Reads a stream to its end on a thread of its own, so that neither stream can block the child.
fn read_all(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A stream that breaks off ends like any other; what it said until then counts.
        let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
        // Nobody listens any more once the time was up.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Verdict, judge};
    use std::time::Duration;

    fn outcome(success: bool, output: &str) -> Outcome {
        Outcome { success, output: output.to_owned(), took: Duration::ZERO }
    }

    #[test]
    fn a_kill_needs_a_violation() {
        let found = outcome(false, "progress\nseed 17: two leaders\nreplay: ...\n{}\n");
        let what = "two leaders".to_owned();
        assert_eq!(judge(&found), Verdict::Killed { seed: Some(17), what });
        let asserted = outcome(false, "thread 'x' panicked at src/core.rs:1:1:\n");
        assert!(matches!(judge(&asserted), Verdict::Killed { seed: None, .. }));
        assert_eq!(judge(&outcome(false, "error: no such option")), Verdict::Unclear);
        assert_eq!(judge(&outcome(false, "seed 0..9: is no range")), Verdict::Unclear);
        assert_eq!(judge(&outcome(true, "seed 17: two leaders")), Verdict::Survived);
    }
}
