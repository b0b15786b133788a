//! The catalogue of bugs of other projects (`docs/bugs.md`), compared with the regression tests in the
//! sources.
//!
//! The tables of the document are the only list. The name of a test begins with the id of its row, so a
//! renamed test or row is detected.

mod catalogue;
mod named;

pub use catalogue::{Catalogue, CatalogueError, Kind, Row};
pub use named::{NamedTest, named_tests};

use std::collections::BTreeSet;

/// The series of rows that the document must have: the prefix of their ids, and the number of rows.
const SERIES: [(&str, usize); 2] = [("raft-", 45), ("paxos-p", 20)];

/// Planned features that a row may wait for: without the feature, the bug cannot occur.
const FEATURES: [&str; 7] = [
    "Fast Paxos",
    "leadership transfer",
    "leases",
    "membership",
    "mixed versions",
    "snapshots",
    "wiped stores",
];

/// Returns the disagreements between the rows and the tests in the sources, one line each.
#[must_use]
pub fn disagreements(catalogue: &Catalogue, tests: &[NamedTest]) -> Vec<String> {
    let mut found = missing_rows(catalogue);
    for row in catalogue.rows() {
        let id = &row.id;
        if row.holders.is_empty() && row.waits_for.is_empty() {
            found.push(format!("{id}: names neither a crate with a test nor a missing feature"));
        }
        for feature in row.waits_for.iter().filter(|it| !FEATURES.contains(&it.as_str())) {
            found.push(format!("{id}: waits for {feature:?}, which is not a planned feature"));
        }
        let holding: BTreeSet<_> = tests
            .iter()
            .filter(|test| test.row == *id && test.runs)
            .map(|it| &it.package)
            .collect();
        for holder in row.holders.iter().filter(|it| !holding.contains(it)) {
            found.push(format!("{id}: no test of this number runs in {holder}"));
        }
        for other in holding.into_iter().filter(|it| !row.holders.contains(it)) {
            found.push(format!("{id}: {other} has a test of this number, and the row omits it"));
        }
    }
    for test in tests {
        let NamedTest { row, package, name, runs } = test;
        if !runs {
            found.push(format!("{package}: {name} does not run: it lacks #[test], or is ignored"));
        }
        if !catalogue.rows().iter().any(|it| it.id == *row) {
            found.push(format!("{package}: {name} names the unknown row {row}"));
        }
    }
    found
}

/// Returns rows that are missing, duplicated, unexpected or out of order.
fn missing_rows(catalogue: &Catalogue) -> Vec<String> {
    let expected: Vec<_> = SERIES
        .iter()
        .flat_map(|(prefix, count)| (1..=*count).map(move |n| format!("{prefix}{n:02}")))
        .collect();
    let ids: Vec<_> = catalogue.rows().iter().map(|row| &row.id).collect();
    let mut found = Vec::new();
    for id in &expected {
        let count = ids.iter().filter(|it| **it == id).count();
        if count != 1 {
            found.push(format!("{id}: {count} rows, expected 1"));
        }
    }
    for id in ids.iter().filter(|it| !expected.contains(it)) {
        found.push(format!("{id}: unexpected row"));
    }
    if found.is_empty() && !ids.iter().copied().eq(&expected) {
        found.push("the rows are out of order".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a complete catalogue. Every row names `raft`, except `special`, whose last cell is `held_by`.
    fn catalogue(special: &str, held_by: &str) -> Catalogue {
        let mut text = String::new();
        for (prefix, count) in SERIES {
            for number in 1..=count {
                let id = format!("{prefix}{number:02}");
                let held_by = if id == special { held_by } else { "`raft`" };
                text += &format!("| {id} | S | what | where | {held_by} |\n");
            }
        }
        Catalogue::parse(&text).expect("a valid table")
    }

    fn test(row: &str, package: &str) -> NamedTest {
        let (row, package) = (row.to_owned(), package.to_owned());
        NamedTest { name: format!("{row}_it"), row, package, runs: true }
    }

    /// Returns one test in `raft` for every row, except `except`.
    fn tests(except: &str) -> Vec<NamedTest> {
        let whole = catalogue("", "");
        let ids = whole.rows().iter().map(|row| row.id.as_str()).filter(|id| *id != except);
        ids.map(|id| test(id, "raft")).collect()
    }

    #[track_caller]
    fn assert_one(catalogue: &Catalogue, tests: &[NamedTest], words: &str) {
        let found = disagreements(catalogue, tests);
        assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
    }

    #[test]
    fn agreeing_rows_and_tests_have_no_findings() {
        assert_eq!(disagreements(&catalogue("", ""), &tests("")), [] as [String; 0]);
        let waiting = catalogue("raft-09", "waits for: leases, wiped stores");
        assert_eq!(disagreements(&waiting, &tests("raft-09")), [] as [String; 0]);
        let both = catalogue("raft-09", "`raft`; waits for: snapshots");
        assert_eq!(disagreements(&both, &tests("")), [] as [String; 0]);
    }

    #[test]
    fn row_without_a_test_is_found() {
        assert_one(&catalogue("", ""), &tests("raft-09"), "raft-09: no test");
        let two = catalogue("paxos-p03", "`raft`, `replica`");
        assert_one(&two, &tests(""), "paxos-p03: no test of this number runs in replica");
        assert_one(&catalogue("raft-09", ""), &tests("raft-09"), "neither");
    }

    #[test]
    fn test_without_a_row_is_found() {
        let mut more = tests("");
        more.push(test("raft-46", "raft"));
        assert_one(&catalogue("", ""), &more, "names the unknown row raft-46");
        let mut elsewhere = tests("");
        elsewhere.push(test("raft-09", "sim"));
        assert_one(&catalogue("", ""), &elsewhere, "sim has a test of this number");
        let waiting = catalogue("raft-09", "waits for: leases");
        assert_one(&waiting, &tests(""), "raft has a test of this number");
    }

    #[test]
    fn ignored_test_does_not_count() {
        let mut ignored = tests("raft-09");
        ignored.push(NamedTest { runs: false, ..test("raft-09", "raft") });
        let found = disagreements(&catalogue("", ""), &ignored);
        assert_eq!(found.len(), 2, "the row, and the test itself: {found:?}");
    }

    #[test]
    fn missing_duplicated_and_unordered_rows_are_found() {
        let rows: Vec<_> = catalogue("", "").rows().to_vec();
        let without = |id: &str| rows.iter().filter(|row| row.id != id).cloned().collect();
        assert_one(&Catalogue::of(without("raft-30")), &tests("raft-30"), "raft-30: 0 rows");
        let mut twice = rows.clone();
        twice.push(rows[3].clone());
        assert_one(&Catalogue::of(twice), &tests(""), "raft-04: 2 rows");
        let mut swapped = rows.clone();
        swapped.swap(0, 1);
        assert_one(&Catalogue::of(swapped), &tests(""), "out of order");
    }

    #[test]
    fn unplanned_feature_is_found() {
        let unplanned = catalogue("raft-09", "waits for: a better day");
        assert_one(&unplanned, &tests("raft-09"), "not a planned feature");
    }
}
