//! Bugs that shipped elsewhere, and the tests that hold each: `docs/bugs.md`, held to the sources.
//!
//! The table in the document is the only list there is. A test belongs to a row by its name, so
//! neither can move without the other.

mod catalogue;
mod named;

pub use catalogue::{Catalogue, CatalogueError, Kind, Row};
pub use named::{NamedTest, named_tests};

use std::collections::BTreeSet;

/// The rows that there must be: the beginning of their ids, and how many.
const SERIES: [(&str, usize); 2] = [("raft-", 45), ("paxos-p", 20)];

/// What a row may wait for: what Synod does not have yet.
const FEATURES: [&str; 8] = [
    "Fast Paxos",
    "fast reads",
    "leadership transfer",
    "leases",
    "membership",
    "mixed versions",
    "snapshots",
    "wiped stores",
];

/// Everything that does not agree between the rows and the tests found in the sources, a line each.
#[must_use]
pub fn disagreements(catalogue: &Catalogue, tests: &[NamedTest]) -> Vec<String> {
    let mut found = missing_rows(catalogue);
    for row in catalogue.rows() {
        let id = &row.id;
        if row.holders.is_empty() && row.waits_for.is_empty() {
            found.push(format!("{id}: neither a crate that holds it nor what it waits for"));
        }
        for feature in row.waits_for.iter().filter(|it| !FEATURES.contains(&it.as_str())) {
            found.push(format!("{id}: waits for {feature:?}, which is nothing that is planned"));
        }
        let holding: BTreeSet<_> = tests
            .iter()
            .filter(|test| test.row == *id && test.runs)
            .map(|it| &it.package)
            .collect();
        for holder in row.holders.iter().filter(|it| !holding.contains(it)) {
            found.push(format!("{id}: no test of that number runs in {holder}"));
        }
        for stranger in holding.into_iter().filter(|it| !row.holders.contains(it)) {
            found.push(format!("{id}: {stranger} has a test of that number and is not named"));
        }
    }
    for test in tests {
        let NamedTest { row, package, name, runs } = test;
        if !runs {
            found.push(format!("{package}: {name} is not run: no #[test], or ignored"));
        }
        if !catalogue.rows().iter().any(|it| it.id == *row) {
            found.push(format!("{package}: {name} is about {row}, which is no row"));
        }
    }
    found
}

/// Rows that are not there, are there twice, or stand out of order.
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
            found.push(format!("{id}: there {count} times, not once"));
        }
    }
    for id in ids.iter().filter(|it| !expected.contains(it)) {
        found.push(format!("{id}: not one of the rows that there are to be"));
    }
    if found.is_empty() && !ids.iter().copied().eq(&expected) {
        found.push("the rows stand out of order".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole catalogue in which every row is held by `raft`, but for `odd`.
    fn catalogue(odd: &str, held_by: &str) -> Catalogue {
        let mut text = String::new();
        for (prefix, count) in SERIES {
            for number in 1..=count {
                let id = format!("{prefix}{number:02}");
                let held_by = if id == odd { held_by } else { "`raft`" };
                text += &format!("| {id} | S | what | where | {held_by} |\n");
            }
        }
        Catalogue::parse(&text).expect("a sound table")
    }

    fn test(row: &str, package: &str) -> NamedTest {
        let (row, package) = (row.to_owned(), package.to_owned());
        NamedTest { name: format!("{row}_it"), row, package, runs: true }
    }

    /// One test in `raft` for every row but `except`.
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
    fn rows_and_tests_that_agree_are_left_alone() {
        assert_eq!(disagreements(&catalogue("", ""), &tests("")), [] as [String; 0]);
        let waiting = catalogue("raft-09", "waits for: leases, wiped stores");
        assert_eq!(disagreements(&waiting, &tests("raft-09")), [] as [String; 0]);
        let both = catalogue("raft-09", "`raft`; waits for: snapshots");
        assert_eq!(disagreements(&both, &tests("")), [] as [String; 0]);
    }

    #[test]
    fn a_row_without_its_test_is_found() {
        assert_one(&catalogue("", ""), &tests("raft-09"), "raft-09: no test");
        let two = catalogue("paxos-p03", "`raft`, `replica`");
        assert_one(&two, &tests(""), "paxos-p03: no test of that number runs in replica");
        assert_one(&catalogue("raft-09", ""), &tests("raft-09"), "neither");
    }

    #[test]
    fn a_test_without_its_row_is_found() {
        let mut more = tests("");
        more.push(test("raft-46", "raft"));
        assert_one(&catalogue("", ""), &more, "raft-46, which is no row");
        let mut elsewhere = tests("");
        elsewhere.push(test("raft-09", "sim"));
        assert_one(&catalogue("", ""), &elsewhere, "sim has a test of that number");
        let waiting = catalogue("raft-09", "waits for: leases");
        assert_one(&waiting, &tests(""), "raft has a test of that number");
    }

    #[test]
    fn a_test_that_is_not_run_holds_nothing() {
        let mut idle = tests("raft-09");
        idle.push(NamedTest { runs: false, ..test("raft-09", "raft") });
        let found = disagreements(&catalogue("", ""), &idle);
        assert_eq!(found.len(), 2, "the row, and the test itself: {found:?}");
    }

    #[test]
    fn every_row_is_there_once_and_in_order() {
        let rows: Vec<_> = catalogue("", "").rows().to_vec();
        let without = |id: &str| rows.iter().filter(|row| row.id != id).cloned().collect();
        assert_one(&Catalogue::of(without("raft-30")), &tests("raft-30"), "there 0 times");
        let mut twice = rows.clone();
        twice.push(rows[3].clone());
        assert_one(&Catalogue::of(twice), &tests(""), "raft-04: there 2 times");
        let mut swapped = rows.clone();
        swapped.swap(0, 1);
        assert_one(&Catalogue::of(swapped), &tests(""), "out of order");
    }

    #[test]
    fn only_what_is_planned_is_waited_for() {
        let odd = catalogue("raft-09", "waits for: a better day");
        assert_one(&odd, &tests("raft-09"), "nothing that is planned");
    }
}
