//! A failure shrinks to the faults that it needs, and the result replays with its transcript.

use crate::toy::{Bug, Config, Toy};
use std::cell::Cell;
use std::sync::LazyLock;
use std::time::Duration;
use synod_sim::search::{SearchHost, SearchRequest, Target, replay, search, silence_panics};
use synod_sim::{Case, RunKind, RunOptions, RunOutcome, RunSpec, ViolationKind, run, shrink};
use synod_types::{Membership, NodeId};

/// Returns the settings of a node that fails after three crashes.
fn config(id: NodeId, members: &Membership) -> Config {
    Config { id, members: members.clone(), bug: Bug::LosesStartsAtFourth }
}

fn play(case: &Case) -> RunOutcome {
    run::<Toy>(config, &case.spec())
}

/// Failing case with more than a hundred faults.
static FAILURE: LazyLock<Case> = LazyLock::new(|| {
    let options = RunOptions { nodes: Some(3), kind: RunKind::Faults, ..RunOptions::default() };
    let fails = |seed| {
        let outcome = run::<Toy>(config, &RunSpec::of_seed(seed, &options));
        let kind = outcome.report.violation?.kind;
        (kind == ViolationKind::HardStateRegressed && outcome.schedule.len() > 100).then(|| Case {
            protocol: "toy".into(),
            seed,
            options: options.clone(),
            violation: kind.to_string(),
            schedule: outcome.schedule,
        })
    };
    (0..500).find_map(fails).expect("a node crashes three times after many other faults")
});

/// Returns the case without one of its faults.
fn without(case: &Case, place: usize) -> Case {
    let entries = case.schedule.entries().iter().enumerate();
    let rest = entries.filter(|(at, _)| *at != place).map(|(_, entry)| entry.clone());
    Case { schedule: rest.collect(), ..case.clone() }
}

#[test]
fn failure_shrinks_to_the_faults_that_it_needs() {
    let case = FAILURE.clone();
    let (runs, left) = (Cell::new(0), Cell::new(usize::MAX));
    let counted = |case: &Case| {
        runs.set(runs.get() + 1);
        play(case)
    };
    let shrunk = shrink(&case, 1000, &counted, &mut |progress| {
        assert!(progress.faults <= left.replace(progress.faults));
        assert_eq!(progress.runs, runs.get());
    });
    let shrunk = shrunk.expect("the case fails");
    assert!(shrunk.minimal && shrunk.runs == runs.get());
    assert_eq!(shrunk.case.schedule.len(), 3, "the case needs three crashes:\n{}", shrunk.case);
    assert_eq!(left.get(), 3);
    assert_eq!(shrunk.violation.kind, ViolationKind::HardStateRegressed);
    for place in 0..3 {
        let rest = without(&shrunk.case, place);
        assert!(
            !rest.is_reproduced_by(&play(&rest)),
            "fault {place} is not needed:\n{}",
            shrunk.case
        );
    }
    let text = shrunk.case.to_string();
    assert_eq!(text.matches(" keeps all all down ").count(), 3, "no batch need be lost:\n{text}");
    let options = &shrunk.case.options;
    assert!(
        options.fault_time < case.options.fault_time && options.recovery_time.is_zero(),
        "{options:?}"
    );
    assert_eq!(options.ops, Some(1));
}

#[test]
fn shrunk_schedule_replays_from_its_text() {
    let shrunk = shrink(&FAILURE, 1000, &play, &mut |_| {}).expect("the case fails");
    let again: Case = shrunk.case.to_string().parse().expect("the text is a case");
    assert_eq!(again, shrunk.case);
    let outcome = play(&again);
    assert_eq!(outcome.report.violation, Some(shrunk.violation));
    assert_eq!(outcome.schedule, again.schedule);
}

#[test]
fn shrinking_stops_at_the_maximum_number_of_runs() {
    let case = FAILURE.clone();
    let shrunk = shrink(&case, 9, &play, &mut |_| {}).expect("the case fails");
    assert_eq!((shrunk.runs, shrunk.minimal), (9, false));
    assert!(shrunk.case.is_reproduced_by(&play(&shrunk.case)));
}

#[test]
fn case_that_does_not_fail_cannot_shrink() {
    let case = Case { violation: "two leaders".into(), ..FAILURE.clone() };
    assert!(shrink(&case, 1000, &play, &mut |_| {}).is_none());
}

/// An assertion that fails at the first proposal needs no fault, and one client operation.
#[test]
fn panic_shrinks_to_no_faults_and_one_operation() {
    let config =
        |id, members: &Membership| Config { id, members: members.clone(), bug: Bug::Panicking };
    let target = Target::new::<Toy>("search", config);
    let mut shrunk = None;
    silence_panics(&mut || shrunk = target.shrink(3, &RunOptions::default(), 100, &mut |_| {}));
    let case = shrunk.expect("it panics").case;
    assert_eq!(
        (case.violation.as_str(), case.schedule.len(), case.options.ops),
        ("panic", 0, Some(1))
    );
}

/// Host that records the reported lines.
#[derive(Default)]
struct RecordingHost(std::sync::Mutex<Vec<String>>);

impl SearchHost for RecordingHost {
    fn elapsed(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn report(&self, line: &str) {
        self.0.lock().unwrap().push(line.into());
    }
}

impl RecordingHost {
    fn text(self) -> String {
        self.0.into_inner().unwrap().join("\n")
    }
}

/// A search shrinks a failure and prints it as a text that replays it.
#[test]
fn search_prints_the_shrunk_case_of_its_first_failure() {
    let target = Target::new::<Toy>("search", config);
    let seed = FAILURE.seed;
    let options = RunOptions { nodes: Some(3), kind: RunKind::Faults, ..RunOptions::default() };
    let request =
        SearchRequest { seeds: seed..seed + 9, options, shrink: 1000, ..SearchRequest::default() };
    let host = RecordingHost::default();
    assert!(!search(&target, &request, &host).passed);
    let report = host.text();
    assert!(report.contains("  3 faults left after"), "{report}");
    let script = &report[report.find("protocol toy\n").expect("a script")..];
    let case: Case = script.parse().expect("a case");
    let host = RecordingHost::default();
    assert!(replay(&target, &case, 20, &host));
    let replayed = host.text();
    assert_eq!(script.matches(" crashes").count(), 3, "each crashes one node:\n{script}");
    assert!(
        replayed.contains("s  n1 starts") && replayed.contains("hard state regressed at"),
        "{replayed}"
    );
    assert!(replayed.contains("writes Starts("), "the trace lacks a write:\n{replayed}");
    for line in script.lines().filter_map(|line| line.strip_prefix("# ")) {
        assert!(replayed.contains(line), "{line} is in the script, not in the replay:\n{replayed}");
    }
    let other = Case { violation: "two leaders".into(), ..case };
    assert!(!replay(&target, &other, 0, &RecordingHost::default()));
}
