//! Output of the commands.

use std::io::{self, Write};
use synod_etcd_api::proto::mvccpb::KeyValue;

/// The parts of a key-value pair to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    Both,
    Keys,
    Values,
}

/// Prints each key and each value, byte for byte, on its own line.
pub(super) fn pairs(out: &mut impl Write, pairs: &[KeyValue], show: Show) -> io::Result<()> {
    for pair in pairs {
        if show != Show::Values {
            out.write_all(&pair.key)?;
            out.write_all(b"\n")?;
        }
        if show != Show::Keys {
            out.write_all(&pair.value)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// Prints a table; each column is as wide as its widest cell.
pub(super) fn table(out: &mut impl Write, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_lines() {
        let pair = KeyValue { key: "k".into(), value: "v".into(), ..Default::default() };
        let printed = |show| {
            let mut out = Vec::new();
            pairs(&mut out, std::slice::from_ref(&pair), show).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(Show::Both), "k\nv\n");
        assert_eq!(printed(Show::Keys), "k\n");
        assert_eq!(printed(Show::Values), "v\n");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".into(), "long".into()], vec!["longer".into(), "b".into()]];
        let mut out = Vec::new();
        table(&mut out, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a       long\nlonger  b\n");
    }
}
