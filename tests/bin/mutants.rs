//! Plants every bug of `mutants/` in a copy of the tree and sees that its killer notices.
//!
//! `mutants [ID ...]` runs all bugs or those that are named, and exits with 1 if one survives, does
//! not apply or does not compile, or if a killer fails on the tree as it is.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use synod_tests::mutants::{Patch, Scratch, Verdict, judge};

/// Seeds that a search must get through on the unchanged tree, even if each bug fell sooner.
const LEAST_SEEDS: u64 = 50;

/// What became of one bug, for the table.
struct Row {
    id: String,
    seed: Option<u64>,
    took: Duration,
    what: String,
}

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("mutants: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tree has no root")?;
    let patches = chosen(Patch::load(&root.join("mutants"))?, wanted)?;
    let scratch = Scratch::new(root, &scratch_folder()?).context("no room for a copy")?;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for patch in &patches {
        eprintln!("mutants: {}: {}", patch.id, patch.breaks);
        match plant(patch, &scratch) {
            Ok(row) => rows.push(row),
            Err(problem) => failures.push(format!("{}: {problem:#}", patch.id)),
        }
    }
    scratch.restore().context("the copy cannot be mended")?;
    for (killer, patch) in innocent_killers(&patches, &rows) {
        eprintln!("mutants: unchanged tree: cargo {}", killer.join(" "));
        let outcome = Patch { killer, ..patch.clone() }.run(&scratch)?;
        if !outcome.success {
            failures.push(format!("the killer fails without a bug: {}", tail(&outcome.output)));
        }
    }
    print_table(&rows);
    ensure!(
        failures.is_empty(),
        "{} of {} failed\n{}",
        failures.len(),
        patches.len(),
        failures.join("\n")
    );
    Ok(())
}

/// The patches that the command line names, or all.
fn chosen(patches: Vec<Patch>, wanted: &[String]) -> Result<Vec<Patch>> {
    for id in wanted {
        ensure!(patches.iter().any(|patch| patch.id == *id), "no patch {id:?} in mutants/");
    }
    let is_wanted = |patch: &Patch| wanted.is_empty() || wanted.contains(&patch.id);
    let chosen: Vec<_> = patches.into_iter().filter(is_wanted).collect();
    ensure!(!chosen.is_empty(), "no patches in mutants/");
    Ok(chosen)
}

/// Beside the release folder that this program was built into.
fn scratch_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("where is this program?")?;
    let target = program.ancestors().nth(2).context("not in a target folder")?;
    Ok(target.join("mutants"))
}

/// Plants one bug and lets its killer look for it.
fn plant(patch: &Patch, scratch: &Scratch) -> Result<Row> {
    scratch.restore().context("the copy cannot be mended")?;
    scratch.apply(&patch.file).context("the patch does not apply any more")?;
    let build = patch.build(scratch)?;
    if !build.success {
        bail!("the mutant does not compile, which kills nothing:\n{}", tail(&build.output));
    }
    let outcome = patch.run(scratch)?;
    let (seed, what) = match judge(&outcome) {
        Verdict::Killed { seed, what } => (seed, what),
        Verdict::Survived => bail!("SURVIVED: cargo {} noticed nothing", patch.killer.join(" ")),
        Verdict::Unclear => bail!("no violation was shown:\n{}", tail(&outcome.output)),
    };
    Ok(Row { id: patch.id.clone(), seed, took: outcome.took, what })
}

/// Each killer once, with a search cut to the seeds that the bugs needed: it must pass without a
/// bug, or its failing says nothing.
fn innocent_killers<'a>(patches: &'a [Patch], rows: &[Row]) -> BTreeMap<Vec<String>, &'a Patch> {
    let needed = rows.iter().filter_map(|row| row.seed).max().unwrap_or(0) + 1;
    let range = format!("0..{}", needed.max(LEAST_SEEDS));
    let cut = |word: &String| if word.starts_with("0..") { range.clone() } else { word.clone() };
    patches.iter().map(|patch| (patch.killer.iter().map(cut).collect(), patch)).collect()
}

fn print_table(rows: &[Row]) {
    println!("{:<12} {:>6} {:>8}  by", "killed", "seed", "seconds");
    for Row { id, seed, took, what } in rows {
        let seed = seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
        let what: String = what.chars().take(80).collect();
        println!("{id:<12} {seed:>6} {:>8.1}  {what}", took.as_secs_f64());
    }
}

/// The last lines of what a command said.
fn tail(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
