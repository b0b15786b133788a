//! Runner: plants a bug and runs its killers.

use super::{Build, Killer, Layer, Patch, Verdict, Worktree, judge};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Minimum number of seeds of a search on the unchanged tree.
const MIN_SEEDS: u64 = 50;

/// Result of one bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The patch's id.
    pub id: String,
    /// The bug, in a few words.
    pub breaks: String,
    /// The kills, in the order of the header.
    pub kills: Vec<Kill>,
}

/// Evidence that a killer failed on a bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The killer's layer.
    pub layer: Layer,
    /// The seed at which a search found the bug.
    pub seed: Option<u64>,
    /// Processor time until the violation, without the build.
    pub cpu: Duration,
    /// The violation.
    pub what: String,
}

/// Plants one bug in the copy and runs its killers; each must fail with a violation.
///
/// # Errors
/// If the patch does not apply, the mutant does not compile, or a killer passes or fails without a
/// violation.
pub fn run_killers(patch: &Patch, worktree: &Worktree) -> Result<Row> {
    worktree.restore().context("cannot restore the copy")?;
    worktree.apply(&patch.file).context("the patch does not apply")?;
    let mut kills = Vec::new();
    for killer in &patch.killers {
        let programs = match killer.build(worktree)? {
            Build::Programs(programs) => programs,
            Build::Failed(output) => {
                bail!("the mutant does not compile, so it is not killed:\n{}", tail(&output))
            }
        };
        let outcome = killer.run(&programs)?;
        let (seed, what) = match judge(&outcome) {
            Verdict::Killed { seed, what } => (seed, what),
            Verdict::Survived => bail!("SURVIVED: {killer} passed"),
            Verdict::Unclear => {
                bail!("{killer} failed without a violation:\n{}", tail(&outcome.output))
            }
        };
        kills.push(Kill { layer: killer.layer, seed, cpu: outcome.cpu, what });
    }
    Ok(Row { id: patch.id.clone(), breaks: patch.breaks.clone(), kills })
}

/// Runs every killer of these patches once on the unchanged tree, on which it must pass: a killer that also
/// fails without the bug is no evidence. A search runs only as many seeds as its bugs needed. Returns the
/// failures.
///
/// # Errors
/// If the copy cannot be restored, or a program cannot be started.
pub fn unchanged(patches: &[Patch], rows: &[Row], worktree: &Worktree) -> Result<Vec<String>> {
    worktree.restore().context("cannot restore the copy")?;
    let mut failures = Vec::new();
    for (build, runs) in runs_by_build(patches, rows) {
        let killer = Killer { layer: Layer::Unit, build, arguments: Vec::new() };
        let programs = match killer.build(worktree)? {
            Build::Programs(programs) => programs,
            Build::Failed(output) => {
                failures.push(format!("the unchanged tree does not compile:\n{}", tail(&output)));
                continue;
            }
        };
        for arguments in runs {
            let killer = Killer { arguments, ..killer.clone() };
            let outcome = killer.run(&programs)?;
            let failed = match judge(&outcome) {
                Verdict::Survived => false,
                Verdict::Killed { .. } => true,
                // A search of a few seeds may fail as inconclusive, without a violation.
                Verdict::Unclear => killer.build[0] == "test",
            };
            if failed {
                let output = tail(&outcome.output);
                failures.push(format!("{killer} fails without a bug:\n{output}"));
            }
        }
    }
    Ok(failures)
}

/// Returns the arguments of the killers' runs, grouped by build, so that each build is done once.
fn runs_by_build(patches: &[Patch], rows: &[Row]) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let seed = |patch: &Patch| {
        let row = rows.iter().find(|row| row.id == patch.id);
        row.into_iter().flat_map(|row| &row.kills).filter_map(|kill| kill.seed).max()
    };
    let killers =
        || patches.iter().flat_map(|it| it.killers.iter().map(move |killer| (it, killer)));
    let mut needed: BTreeMap<(&[String], &[String]), u64> = BTreeMap::new();
    for (patch, killer) in killers() {
        let max = needed.entry((&killer.build, &killer.arguments)).or_default();
        *max = (*max).max(seed(patch).map_or(0, |seed| seed + 1));
    }
    let mut runs: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for ((build, arguments), needed) in needed {
        let arguments =
            arguments.iter().map(|word| limit_seeds(word, needed.max(MIN_SEEDS))).collect();
        runs.entry(build.to_vec()).or_default().insert(arguments);
    }
    runs
}

/// Limits a range of seeds from 0 to the first `max` seeds. Returns any other word unchanged.
fn limit_seeds(word: &str, max: u64) -> String {
    let end = word.strip_prefix("0..").and_then(|end| end.parse::<u64>().ok());
    end.map_or_else(|| word.to_owned(), |end| format!("0..{}", end.min(max)))
}

/// Returns the last lines of a command's output.
fn tail(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Kill, Layer, Patch, Row, runs_by_build};
    use std::time::Duration;

    #[test]
    fn search_of_the_unchanged_tree_runs_the_seeds_that_its_bugs_needed() {
        let patch = |name: &str| {
            let text = "Breaks: x\nKiller: simulator: run -p x -- --seeds 0..2000\n\
                Killer: unit: test -p x -- named\n";
            Patch::parse(name.as_ref(), text).expect("complete")
        };
        let load = "Breaks: x\nKiller: simulator: run -p x -- --load --seeds 0..24\n";
        let load = Patch::parse("H1-c.x.patch".as_ref(), load).expect("complete");
        let (seed, cpu, what) = (Some(70), Duration::ZERO, String::new());
        let kills = vec![Kill { layer: Layer::Simulator, seed, cpu, what }];
        let row = Row { id: "M02-b.x".to_owned(), breaks: "x".to_owned(), kills };
        let runs = runs_by_build(&[patch("M01-a.x.patch"), patch("M02-b.x.patch"), load], &[row]);
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(runs.len(), 2);
        let searches = [words("--seeds 0..71"), words("--load --seeds 0..24")];
        assert_eq!(runs[&words("run -p x")], searches.into());
        assert_eq!(runs[&words("test -p x")], [words("named")].into());
    }
}
