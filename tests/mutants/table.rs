//! The table of results in `docs/verification.md`.

use super::{Layer, Patch, Row};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

const BEGIN: &str = "<!-- planted bugs: written by `make mutants ARGS=--write` -->";
const END: &str = "<!-- planted bugs: end -->";

/// One line of the table: the patch, the bug, and the kill of each layer. The cell of a layer without a
/// killer is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The patch's id.
    pub id: String,
    /// The bug, in a few words.
    pub breaks: String,
    /// The kills, in the order of [`Layer::ALL`].
    pub cells: [String; 4],
}

impl From<&Row> for Line {
    fn from(row: &Row) -> Self {
        let cell = |layer| {
            let kill = row.kills.iter().find(|kill| kill.layer == layer);
            kill.map_or_else(String::new, |kill| {
                let seed = kill.seed.map(|seed| format!("seed {seed}, ")).unwrap_or_default();
                format!("{seed}{:.2} s", kill.cpu.as_secs_f64())
            })
        };
        Self { id: row.id.clone(), breaks: row.breaks.clone(), cells: Layer::ALL.map(cell) }
    }
}

impl Line {
    /// Returns whether the line is up to date for a patch: it has the patch's id and bug, and a kill for each
    /// layer with a killer.
    #[must_use]
    pub fn is_of(&self, patch: &Patch) -> bool {
        let has_killer = |layer| patch.killers.iter().any(|killer| killer.layer == layer);
        let mut cells = Layer::ALL.into_iter().zip(&self.cells);
        self.id == patch.id
            && self.breaks == patch.breaks
            && cells.all(|(layer, cell)| cell.is_empty() != has_killer(layer))
    }

    /// Parses the processor time in the cell of a layer.
    fn cpu(&self, layer: usize) -> Option<Duration> {
        let seconds = self.cells[layer].rsplit(' ').nth(1)?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Returns the lines of the table in `page`; `None` if the page lacks the table's markers.
#[must_use]
pub fn read(page: &str) -> Option<Vec<Line>> {
    let (_, rest) = page.split_once(BEGIN)?;
    let (table, _) = rest.split_once(END)?;
    let cells = |line: &str| -> Option<[String; 6]> {
        let line = line.strip_prefix("| ")?.strip_suffix('|')?;
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().ok()
    };
    // The first two lines of a table are its header.
    let lines = table.trim().lines().skip(2).filter_map(cells);
    Some(lines.map(|[id, breaks, a, b, c, d]| Line { id, breaks, cells: [a, b, c, d] }).collect())
}

/// Returns `page` with the results of this run in its table. Keeps the lines of other patches, and
/// removes those of deleted patches. `None` if the page lacks the table's markers.
#[must_use]
pub fn write(page: &str, patches: &[Patch], rows: &[Row]) -> Option<String> {
    let old = read(page)?.into_iter().map(|line| (line.id.clone(), line));
    let mut lines: BTreeMap<String, Line> = old.collect();
    lines.retain(|id, _| patches.iter().any(|patch| patch.id == *id));
    lines.extend(rows.iter().map(|row| (row.id.clone(), Line::from(row))));
    let mut table = format!("{BEGIN}\n| bug | what breaks |");
    Layer::ALL.iter().for_each(|layer| table += &format!(" {layer} |"));
    table += "\n|---|---|---|---|---|---|\n";
    let lines: Vec<_> = lines.into_values().collect();
    for Line { id, breaks, cells } in &lines {
        let cells = cells.join(" | ");
        writeln!(table, "| {id} | {breaks} | {cells} |").expect("a string grows");
    }
    table += &format!("\n{}.\n{END}", summary(&lines));
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{table}{after}"))
}

/// Returns the numbers of bugs and kills, and the median processor time of a kill: of all, and of each
/// layer, because named tests are far faster than searches.
#[must_use]
pub fn summary(lines: &[Line]) -> String {
    let times = |layer| lines.iter().filter_map(move |line| line.cpu(layer));
    let show = |time: Option<Duration>| {
        time.map_or_else(|| "-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
    };
    let by_layer = Layer::ALL.iter().enumerate();
    let by_layer: Vec<_> =
        by_layer.map(|(at, layer)| format!("{layer} {}", show(median(times(at))))).collect();
    let all: Vec<_> = (0..Layer::ALL.len()).flat_map(times).collect();
    let (bugs, kills, by_layer) = (lines.len(), all.len(), by_layer.join(", "));
    format!("{bugs} bugs, {kills} kills; median CPU time {} ({by_layer})", show(median(all)))
}

/// Returns the median of the times, or `None` without any.
fn median(times: impl IntoIterator<Item = Duration>) -> Option<Duration> {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_unstable();
    let middle = times.len() / 2;
    let upper = *times.get(middle)?;
    Some(if times.len() % 2 == 1 { upper } else { (times[middle - 1] + upper) / 2 })
}

#[cfg(test)]
mod tests {
    use super::super::Kill;
    use super::{BEGIN, END, Layer, Line, Patch, Row, median, read, summary, write};
    use std::time::Duration;

    fn patch(name: &str, layer: &str) -> Patch {
        let text = format!("Breaks: what {layer} sees\nKiller: {layer}: run -p x\n");
        Patch::parse(name.as_ref(), &text).expect("complete")
    }

    fn row(patch: &Patch, seed: Option<u64>) -> Row {
        let cpu = Duration::from_millis(1540);
        let kill = Kill { layer: patch.killers[0].layer, seed, cpu, what: String::new() };
        Row { id: patch.id.clone(), breaks: patch.breaks.clone(), kills: vec![kill] }
    }

    #[test]
    fn results_replace_only_the_lines_of_their_patches() {
        let patches = [patch("M01-a.x.patch", "simulator"), patch("M02-b.x.patch", "unit")];
        let page = format!("before\n{BEGIN}\n{END}\nafter\n");
        assert_eq!(read(&page), Some(Vec::new()));
        let rows = [row(&patches[0], Some(7)), row(&patches[1], None)];
        let page = write(&page, &patches, &rows).expect("the page has markers");
        assert!(page.starts_with("before\n") && page.ends_with("-->\nafter\n"), "{page}");
        assert!(page.contains("\n| M01-a.x | what simulator sees | seed 7, 1.54 s |  |  |  |\n"));
        assert!(page.contains("|\n\n2 bugs, 2 kills; median CPU time 1.54 s (simulator"), "{page}");
        let lines = read(&page).expect("the page has a table");
        assert!(lines.iter().zip(&patches).all(|(line, patch)| line.is_of(patch)), "{lines:?}");
        assert!(!lines[0].is_of(&patches[1]));
        assert!(!lines[0].is_of(&patch("M01-a.x.patch", "unit")), "another layer");
        let later = write(&page, &patches[1..], &[]).expect("the page has markers");
        assert_eq!(read(&later), Some(lines[1..].to_vec()), "only the deleted patch is removed");
        assert_eq!(write("no markers", &patches, &rows), None);
        assert_eq!(Layer::ALL.len(), lines[0].cells.len());
    }

    #[test]
    fn summary_has_medians_of_all_kills_and_of_each_layer() {
        let [fast, slow] = ["0.2 s", "seed 9, 4.00 s"].map(str::to_owned);
        let none = String::new;
        let line = |cells| Line { id: none(), breaks: none(), cells };
        let lines =
            [line([slow, none(), fast.clone(), none()]), line([none(), none(), fast, none()])];
        let by_layer = "(simulator 4.00 s, exhaustive -, unit 0.20 s, real node -)";
        let all = format!("2 bugs, 3 kills; median CPU time 0.20 s {by_layer}");
        assert_eq!(summary(&lines), all);
        assert!(summary(&[]).starts_with("0 bugs, 0 kills; median CPU time - ("));
    }

    #[test]
    fn median_is_that_of_none_odd_and_even_numbers_of_values() {
        let seconds = |times: &[u64]| median(times.iter().map(|it| Duration::from_secs(*it)));
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(&[9, 1, 2]), Some(Duration::from_secs(2)));
        assert_eq!(seconds(&[4, 1, 2, 9]), Some(Duration::from_secs(3)));
    }
}
