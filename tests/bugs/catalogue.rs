//! Parser of the tables of `docs/bugs.md`.

use std::fmt;

/// All rows of `docs/bugs.md`, in their order.
///
/// ```
/// use synod_tests::bugs::{Catalogue, Kind};
///
/// let text = "| raft-38 | L | it went wrong | there #1 | `raft`, `sim`; waits for: snapshots |";
/// let catalogue = Catalogue::parse(text).expect("a valid row");
/// let row = &catalogue.rows()[0];
/// assert_eq!((row.id.as_str(), row.kind), ("raft-38", Kind::Liveness));
/// assert_eq!(row.holders, ["raft", "sim"]);
/// assert_eq!(row.waits_for, ["snapshots"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue(Vec<Row>);

/// One bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The id, such as `raft-09` or `paxos-p05`.
    pub id: String,
    /// The kind of the property that the bug violates.
    pub kind: Kind,
    /// The bug, in a few words.
    pub what: String,
    /// The crates, without `synod-`, that have a test with this id.
    pub holders: Vec<String>,
    /// Features that Synod lacks, and without which the bug, or a part of it, cannot occur.
    pub waits_for: Vec<String>,
}

/// Kind of a violated property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Safety: a reply is wrong, or acknowledged data is lost.
    Safety,
    /// Liveness: the cluster does not serve although it could.
    Liveness,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safety => "S",
            Self::Liveness => "L",
        })
    }
}

/// Error in a line of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {line:?}")]
pub struct CatalogueError {
    what: &'static str,
    line: String,
}

impl Catalogue {
    /// Parses the document's tables.
    ///
    /// # Errors
    /// If a row is malformed.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let is_row = |line: &&str| line.starts_with("| raft-") || line.starts_with("| paxos-");
        text.lines().filter(is_row).map(Row::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Returns a catalogue of these rows.
    #[must_use]
    pub fn of(rows: Vec<Row>) -> Self {
        Self(rows)
    }

    /// Returns the rows.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.0
    }
}

impl Row {
    fn parse(line: &str) -> Result<Self, CatalogueError> {
        let malformed = |what| CatalogueError { what, line: line.to_owned() };
        let inner = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|'));
        let cells: Vec<_> = inner.unwrap_or_default().split('|').map(str::trim).collect();
        let [id, kind, what, place, held_by] = cells[..] else {
            return Err(malformed("a row must have five cells"));
        };
        if what.is_empty() || place.is_empty() {
            return Err(malformed("a cell is empty"));
        }
        let kind = match kind {
            "S" => Kind::Safety,
            "L" => Kind::Liveness,
            _ => return Err(malformed("the kind must be S or L")),
        };
        let (holders, waits_for) = match held_by.split_once("waits for:") {
            Some((holders, features)) => (holders.trim().trim_end_matches(';'), features),
            None => (held_by, ""),
        };
        let holders = words(holders).map(quoted).collect::<Option<_>>();
        let holders = holders.ok_or_else(|| malformed("a crate must be in backquotes"))?;
        let waits_for = words(waits_for).map(str::to_owned).collect();
        Ok(Self { id: id.to_owned(), kind, what: what.to_owned(), holders, waits_for })
    }
}

/// Splits a list at its commas.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn quoted(word: &str) -> Option<String> {
    Some(word.strip_prefix('`')?.strip_suffix('`')?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_row_is_rejected() {
        for line in [
            "| raft-01 | S | what | where |",
            "| raft-01 | S | what | where | `raft` | more |",
            "| raft-01 | X | what | where | `raft` |",
            "| raft-01 | S |  | where | `raft` |",
            "| raft-01 | S | what | where | raft |",
            "| raft-01 | S | what | where | waits",
        ] {
            assert!(Catalogue::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn text_around_the_tables_is_ignored() {
        let text = "# Title\n\n| Row | Kind |\n|---|---|\nraft-01 is a row.\n";
        assert_eq!(Catalogue::parse(text).expect("no malformed row").rows(), []);
    }
}
