//! Prints the catalogue of bugs of other projects, with the regression tests of each.
//!
//! `bugs [ROW ...]` prints all rows of `docs/bugs.md`, or those whose ids have one of these prefixes.
//! It exits with 1 if the rows and the tests in the sources disagree.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use synod_tests::bugs::{Catalogue, NamedTest, Row, disagreements, named_tests};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bugs: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("cannot find the root of the workspace")?;
    let text = fs::read_to_string(root.join("docs/bugs.md")).context("cannot read docs/bugs.md")?;
    let catalogue = Catalogue::parse(&text).context("cannot parse docs/bugs.md")?;
    let tests = named_tests(root).context("cannot read the sources")?;
    let is_wanted =
        |row: &&Row| wanted.is_empty() || wanted.iter().any(|start| row.id.starts_with(start));
    let rows: Vec<_> = catalogue.rows().iter().filter(is_wanted).collect();
    ensure!(
        !rows.is_empty(),
        "no row of docs/bugs.md has an id that begins with one of {wanted:?}"
    );
    let mut out = io::stdout().lock();
    for row in &rows {
        print(&mut out, row, &tests)?;
    }
    let tested = rows.iter().filter(|row| !row.holders.is_empty()).count();
    writeln!(out, "\n{} rows, {tested} of them with tests", rows.len())?;
    let found = disagreements(&catalogue, &tests);
    ensure!(found.is_empty(), "rows and tests disagree\n{}", found.join("\n"));
    Ok(())
}

/// Prints a row, its tests, and the features that Synod must get before the bug can occur.
fn print(out: &mut impl Write, row: &Row, tests: &[NamedTest]) -> io::Result<()> {
    writeln!(out, "{:<10} {}  {}", row.id, row.kind, row.what)?;
    for test in tests.iter().filter(|test| test.row == row.id) {
        writeln!(out, "{:<13} synod-{}: {}", "", test.package, test.name)?;
    }
    if !row.waits_for.is_empty() {
        writeln!(out, "{:<13} waits for: {}", "", row.waits_for.join(", "))?;
    }
    Ok(())
}
