//! The rows, as they stand in the document's tables.

use std::fmt;

/// All rows, in the document's order.
///
/// ```
/// use synod_tests::bugs::{Catalogue, Kind};
///
/// let text = "| raft-38 | L | it went wrong | there #1 | `raft`, `sim`; waits for: snapshots |";
/// let catalogue = Catalogue::parse(text).expect("a sound row");
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
    /// `raft-09`, `paxos-p05`.
    pub id: String,
    /// What it harms.
    pub kind: Kind,
    /// What went wrong.
    pub what: String,
    /// The crates, without `synod-`, that have a test of this number.
    pub holders: Vec<String>,
    /// What Synod lacks for the row, or the rest of it, to apply.
    pub waits_for: Vec<String>,
}

/// What a bug harms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something wrong is told, or something told is lost.
    Safety,
    /// The cluster does not serve although it could.
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

/// A line of a table that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {line:?}")]
pub struct CatalogueError {
    what: &'static str,
    line: String,
}

impl Catalogue {
    /// Reads the tables out of the document.
    ///
    /// # Errors
    /// If a row has another form than the tables' others.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let is_row = |line: &&str| line.starts_with("| raft-") || line.starts_with("| paxos-");
        text.lines().filter(is_row).map(Row::parse).collect::<Result<_, _>>().map(Self)
    }

    /// A catalogue of these rows.
    #[must_use]
    pub fn of(rows: Vec<Row>) -> Self {
        Self(rows)
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.0
    }
}

impl Row {
    fn parse(line: &str) -> Result<Self, CatalogueError> {
        let wrong = |what| CatalogueError { what, line: line.to_owned() };
        let inner = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|'));
        let cells: Vec<_> = inner.unwrap_or_default().split('|').map(str::trim).collect();
        let [id, kind, what, place, held_by] = cells[..] else {
            return Err(wrong("a row has five cells"));
        };
        if what.is_empty() || place.is_empty() {
            return Err(wrong("a cell is empty"));
        }
        let kind = match kind {
            "S" => Kind::Safety,
            "L" => Kind::Liveness,
            _ => return Err(wrong("the kind is S or L")),
        };
        let (holders, waits_for) = match held_by.split_once("waits for:") {
            Some((holders, features)) => (holders.trim().trim_end_matches(';'), features),
            None => (held_by, ""),
        };
        let holders = words(holders).map(quoted).collect::<Option<_>>();
        let holders = holders.ok_or_else(|| wrong("a crate stands in backquotes"))?;
        let waits_for = words(waits_for).map(str::to_owned).collect();
        Ok(Self { id: id.to_owned(), kind, what: what.to_owned(), holders, waits_for })
    }
}

/// What stands between commas.
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
    fn a_row_of_another_form_is_refused() {
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
    fn text_around_the_tables_is_no_row() {
        let text = "# Title\n\n| Row | Kind |\n|---|---|\nraft-01 is a row.\n";
        assert_eq!(Catalogue::parse(text).expect("nothing to refuse").rows(), []);
    }
}
