//! Plants every bug of `mutants/` in a copy of the tree and checks that its killers fail.
//!
//! `mutants [--write] [ID ...]` runs all bugs, or those whose names have one of these prefixes. It
//! exits with 1 if a bug survives a killer, does not apply or does not compile, or if a killer fails on
//! the unchanged tree. `--write` writes the results to the table of `docs/verification.md`.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use synod_tests::mutants::table::{self, Line};
use synod_tests::mutants::{Layer, Patch, Row, Worktree, run_killers, unchanged};

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("mutants: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut wanted: Vec<String>) -> Result<()> {
    let write = wanted.iter().any(|word| word == "--write");
    wanted.retain(|word| word != "--write");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("cannot find the root of the workspace")?;
    let all = Patch::load(&root.join("mutants"))?;
    let patches = chosen(&all, &wanted)?;
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let worktree = Worktree::beside(root, &program).context("cannot create the copy")?;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for patch in &patches {
        eprintln!("mutants: {}: {}", patch.id, patch.breaks);
        match run_killers(patch, &worktree) {
            Ok(row) => {
                print_row(&row);
                rows.push(row);
            }
            Err(problem) => {
                let failure = format!("{}: {problem:#}", patch.id);
                println!("FAILED {failure}");
                failures.push(failure);
            }
        }
    }
    eprintln!("mutants: running the killers on the unchanged tree");
    failures.extend(unchanged(&patches, &rows, &worktree)?);
    if write {
        let page = root.join("docs/verification.md");
        let text = fs::read_to_string(&page)?;
        let text = table::write(&text, &all, &rows)
            .context("docs/verification.md lacks the markers of the table")?;
        fs::write(&page, text)?;
    }
    let lines: Vec<_> = rows.iter().map(Line::from).collect();
    println!("{}", table::summary(&lines));
    let (failed, of) = (failures.len(), patches.len());
    ensure!(
        failures.is_empty(),
        "{failed} failures in {of} bugs and the unchanged tree:\n{}",
        failures.join("\n")
    );
    Ok(())
}

/// Returns the patches that the command line selects, or all, grouped by crate to reduce compilation.
fn chosen(all: &[Patch], wanted: &[String]) -> Result<Vec<Patch>> {
    let is_named = |patch: &Patch, name: &String| patch.id.starts_with(name.as_str());
    for name in wanted {
        let exists = all.iter().any(|patch| is_named(patch, name));
        ensure!(exists, "no patch in mutants/ has a name that begins with {name:?}");
    }
    let is_wanted =
        |patch: &&Patch| wanted.is_empty() || wanted.iter().any(|name| is_named(patch, name));
    let mut chosen: Vec<_> = all.iter().filter(is_wanted).cloned().collect();
    ensure!(!chosen.is_empty(), "no patches in mutants/");
    chosen.sort_by_key(|patch| patch.id.split_once('.').map(|(_, place)| place.to_owned()));
    Ok(chosen)
}

/// Prints one line per bug: the layers that killed it, each with its seed and processor time.
fn print_row(row: &Row) {
    let kill = |layer| {
        let kill = row.kills.iter().find(|kill| kill.layer == layer)?;
        let seed = kill.seed.map(|seed| format!(" seed {seed}")).unwrap_or_default();
        Some(format!("{layer}{seed} {:.2} s", kill.cpu.as_secs_f64()))
    };
    let kills: Vec<_> = Layer::ALL.into_iter().filter_map(kill).collect();
    println!("killed {:<40} {}", row.id, kills.join(", "));
}
