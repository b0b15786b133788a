//! Timeline of an illegal history: a self-contained HTML page.

use crate::explain::{Explanation, describe, response_event};
use crate::history::{End, History, OpId, Record};
use crate::options::Options;
use crate::value::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Maximum number of events shown before the end of the culprit.
const SHOWN: usize = 120;
/// Maximum number of events shown from the end of the culprit on.
const SHOWN_AFTER: usize = 20;

/// Sizes in pixels: width of an event, height of a process, and width of the process names.
const COLUMN: usize = 26;
const ROW: usize = 34;
const NAMES: usize = 110;

const STYLE: &str = "body{font:14px sans-serif;margin:2em}svg{font:11px monospace}\
    .op{fill:#cfe3f7;stroke:#4a7fb5}.pending{fill:#eee;stroke:#999}\
    .culprit{fill:#f7c6c0;stroke:#c0392b}.order{fill:#1b4f8a;font-weight:bold}\
    .lane{stroke:#ddd}.mark{stroke:#c0392b;stroke-dasharray:4 3}pre{line-height:1.4}";

impl Explanation {
    /// Returns the explanation as an HTML page: the operations of each process over time, each with its number
    /// in the order that was found, and the culprit in red.
    ///
    /// # Panics
    /// May panic if `history` is not the history that was checked.
    #[must_use]
    pub fn html(&self, title: &str, history: &History, options: &Options) -> String {
        let (title, text) = (escape(title), escape(&self.text(history, options)));
        let timeline = Timeline::new(self, history).draw(self, history, options);
        format!(
            "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title>\
             <style>{STYLE}</style></head>\n<body><h1>{title}: illegal</h1>\n\
             <p>Time runs to the right. A bar is an operation from its start to its end; the \
             outcome of a bar without an end is unknown. The numbers give an order that explains all \
             outcomes to the left of the red line. No order also explains the outcome of the red \
             operation. Hover over a bar for details.</p>\n{timeline}<pre>{text}</pre></body></html>\n"
        )
    }
}

/// The visible part of a history, and its layout.
struct Timeline {
    /// The visible events, one per column.
    events: Vec<usize>,
    /// The operations, with the row of each.
    bars: Vec<(OpId, usize)>,
    /// The name of each row.
    rows: Vec<Value>,
}

impl Timeline {
    fn new(why: &Explanation, history: &History) -> Self {
        let is_relevant =
            |record: &&Record| record.op.keys().iter().any(|key| why.keys.contains(key));
        let relevant = history.records.iter().filter(is_relevant);
        let mut events: Vec<_> = relevant
            .flat_map(|record| [Some(record.begin), last_event(record)])
            .flatten()
            .collect();
        events.sort_unstable();
        let end = events.partition_point(|event| *event < why.events);
        events.truncate(end + SHOWN_AFTER);
        events.drain(..end.saturating_sub(SHOWN));
        let is_shown = |record: &Record| {
            // The bar of an operation without an end has no right edge: it is drawn if its start is visible.
            let end = last_event(record).unwrap_or(record.begin);
            let is_visible = events.first().is_some_and(|first| *first <= end)
                && events.last().is_some_and(|last| record.begin <= *last);
            is_visible && is_relevant(&record)
        };
        let mut rows: Vec<Value> = Vec::new();
        let mut free: BTreeMap<usize, usize> = BTreeMap::new();
        let mut bars = Vec::new();
        for (index, record) in history.records.iter().enumerate() {
            if !is_shown(record) {
                continue;
            }
            // Concurrent operations of one process get a row each.
            let is_free = |row: &usize| free.get(row).is_none_or(|until| *until < record.begin);
            let mut same_process = (0..rows.len()).filter(|row| rows[*row] == record.process);
            let row = same_process.find(is_free).unwrap_or_else(|| {
                rows.push(record.process.clone());
                rows.len() - 1
            });
            free.insert(row, response_event(record).unwrap_or(usize::MAX));
            bars.push((OpId(index), row));
        }
        Self { events, bars, rows }
    }

    fn draw(&self, why: &Explanation, history: &History, options: &Options) -> String {
        let (width, height) = (NAMES + COLUMN * self.events.len() + 20, ROW * self.rows.len());
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">\n"
        );
        for (row, process) in self.rows.iter().enumerate() {
            let (y, name) = (row * ROW, escape(&process.to_string()));
            let (text, line) = (y + 21, y + ROW - 2);
            let _ = writeln!(
                svg,
                "<text x=\"4\" y=\"{text}\">{name}</text>\
                 <line class=\"lane\" x1=\"0\" x2=\"{width}\" y1=\"{line}\" y2=\"{line}\"/>"
            );
        }
        let states: BTreeMap<OpId, (usize, String)> = (1..)
            .zip(why.states(history, options))
            .map(|(number, (id, state))| (id, (number, state)))
            .collect();
        for (id, row) in &self.bars {
            let record = &history.records[id.0];
            let class = match states.get(id) {
                _ if *id == why.culprit => "culprit",
                Some(_) => "op",
                None => "pending",
            };
            self.bar(&mut svg, record, *row, class, states.get(id));
        }
        let x = self.x(why.events) + COLUMN / 2;
        let _ =
            writeln!(svg, "<line class=\"mark\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"{height}\"/>");
        svg + "</svg>\n"
    }

    fn bar(
        &self,
        svg: &mut String,
        record: &Record,
        row: usize,
        class: &str,
        place: Option<&(usize, String)>,
    ) {
        let left = self.x(record.begin);
        let right = self.x(response_event(record).unwrap_or(usize::MAX));
        let (y, width) = (row * ROW + 3, right.saturating_sub(left) + COLUMN - 6);
        let mut title = describe(record);
        if let Some((number, state)) = place {
            let _ = write!(title, "; number {number}, then {state}");
        }
        let title = escape(&title);
        let label = match &record.end {
            End::Done(_, outcome) => format!("{} -> {outcome}", record.op),
            End::Failed(_) => format!("{} failed", record.op),
            End::Open | End::Abandoned(_) => record.op.to_string(),
        };
        let fitting: String = label.chars().take(width / 7).collect();
        let (label, base) = (escape(&fitting), y + 12);
        let _ = write!(
            svg,
            "<g><title>{title}</title><rect class=\"{class}\" x=\"{left}\" y=\"{y}\" rx=\"3\" \
             width=\"{width}\" height=\"26\"/><text x=\"{}\" y=\"{base}\">{label}</text>",
            left + 3
        );
        if let Some((number, _)) = place {
            let _ = write!(
                svg,
                "<text class=\"order\" x=\"{}\" y=\"{}\">{number}</text>",
                left + 3,
                y + 23
            );
        }
        svg.push_str("</g>\n");
    }

    /// Returns the horizontal position of an event.
    fn x(&self, event: usize) -> usize {
        NAMES + COLUMN * self.events.partition_point(|shown| *shown < event)
    }
}

/// Returns the end of an operation, if one was recorded.
fn last_event(record: &Record) -> Option<usize> {
    match record.end {
        End::Open => None,
        End::Abandoned(at) | End::Failed(at) | End::Done(at, _) => Some(at),
    }
}

/// Escapes text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use crate::{History, Op, Options, Outcome, Verdict, check};

    #[test]
    fn page_shows_the_operations_and_marks_the_culprit() {
        let mut history = History::new();
        let lost = history.invoke("<lost>", Op::put("x", "never"));
        history.abandon(lost).unwrap();
        for process in 0..3_u64 {
            let put = history.invoke(process, Op::put("x", process));
            history.complete(put, Outcome::Done).unwrap();
        }
        let get = history.invoke("reader", Op::get("x"));
        history.complete(get, Outcome::Read(1_u64.into())).unwrap();
        let options = Options::default();
        let Verdict::Illegal(why) = check(&history, &options) else { panic!("stale") };
        let page = why.html("a & b", &history, &options);
        assert!(page.contains("<title>a &amp; b</title>"));
        assert!(page.contains("&quot;&lt;lost&gt;&quot;") && !page.contains("<lost>"));
        assert_eq!(page.matches("class=\"culprit\"").count(), 1);
        assert_eq!(page.matches("class=\"op\"").count(), 3);
        assert_eq!(page.matches("class=\"pending\"").count(), 1);
        assert_eq!(page.matches("<g>").count(), page.matches("</g>").count());
    }
}
