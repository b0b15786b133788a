//! A failure shrinks to the faults that it needs, and what is left replays with its transcript.

use crate::toy::{Bug, Config, Toy};
use std::cell::Cell;
use std::sync::LazyLock;
use std::time::Duration;
use synod_sim::search::{SearchHost, SearchRequest, Target, replay, search, silence_panics};
use synod_sim::{Case, RunKind, RunOptions, RunOutcome, RunSpec, ViolationKind, run, shrink};
use synod_types::{Membership, NodeId};

/// A node must die three times before it goes wrong.
fn config(id: NodeId, members: &Membership) -> Config {
    Config { id, members: members.clone(), bug: Bug::Weary }
}

fn play(case: &Case) -> RunOutcome {
    run::<Toy>(config, &case.spec())
}

/// A seed that goes wrong after a hundred faults and more.
static FAILURE: LazyLock<Case> = LazyLock::new(|| {
    let options = RunOptions { nodes: Some(3), kind: RunKind::Faults, ..RunOptions::default() };
    let fails = |seed| {
        let outcome = run::<Toy>(config, &RunSpec::of_seed(seed, &options));
        let kind = outcome.report.violation?.kind;
        (kind == ViolationKind::HardStateRegressed && outcome.schedule.len() > 100).then(|| Case {
            protocol: "toy".into(),
            seed,
            options: options.clone(),
            finds: kind.to_string(),
            schedule: outcome.schedule,
        })
    };
    (0..500).find_map(fails).expect("a node dies three times after much else")
});

/// The case without one of its faults.
fn without(case: &Case, place: usize) -> Case {
    let entries = case.schedule.entries().iter().enumerate();
    let rest = entries.filter(|(at, _)| *at != place).map(|(_, entry)| entry.clone());
    Case { schedule: rest.collect(), ..case.clone() }
}

#[test]
fn a_failure_shrinks_to_the_faults_that_it_needs() {
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
    assert_eq!(shrunk.case.schedule.len(), 3, "three deaths:\n{}", shrunk.case);
    assert_eq!(left.get(), 3);
    assert_eq!(shrunk.violation.kind, ViolationKind::HardStateRegressed);
    for place in 0..3 {
        let rest = without(&shrunk.case, place);
        assert!(!rest.is_found_by(&play(&rest)), "fault {place} is not needed:\n{}", shrunk.case);
    }
    let text = shrunk.case.to_string();
    assert_eq!(text.matches(" keeps all all down ").count(), 3, "nothing need be lost:\n{text}");
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
fn budget_of_runs_is_kept_and_reported() {
    let case = FAILURE.clone();
    let shrunk = shrink(&case, 9, &play, &mut |_| {}).expect("the case fails");
    assert_eq!((shrunk.runs, shrunk.minimal), (9, false));
    assert!(shrunk.case.is_found_by(&play(&shrunk.case)));
}

#[test]
fn a_case_that_does_not_fail_cannot_shrink() {
    let case = Case { finds: "two leaders".into(), ..FAILURE.clone() };
    assert!(shrink(&case, 1000, &play, &mut |_| {}).is_none());
}

/// An assertion that fails at the first proposal needs no fault, and one client.
#[test]
fn a_panic_shrinks_to_what_it_needs() {
    let config =
        |id, members: &Membership| Config { id, members: members.clone(), bug: Bug::Panicking };
    let subject = Target::new::<Toy>("search", config);
    let mut shrunk = None;
    silence_panics(&mut || shrunk = subject.shrink(3, &RunOptions::default(), 100, &mut |_| {}));
    let case = shrunk.expect("it panics").case;
    assert_eq!((case.finds.as_str(), case.schedule.len(), case.options.ops), ("panic", 0, Some(1)));
}

/// Keeps what it is told.
#[derive(Default)]
struct Ear(std::sync::Mutex<Vec<String>>);

impl SearchHost for Ear {
    fn elapsed(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn report(&self, line: &str) {
        self.0.lock().unwrap().push(line.into());
    }
}

impl Ear {
    fn heard(self) -> String {
        self.0.into_inner().unwrap().join("\n")
    }
}

/// From a seed to a script: a search prints a failure as a text that replays it.
#[test]
fn search_shrinks_its_first_failure_and_prints_its_script() {
    let subject = Target::new::<Toy>("search", config);
    let seed = FAILURE.seed;
    let options = RunOptions { nodes: Some(3), kind: RunKind::Faults, ..RunOptions::default() };
    let request =
        SearchRequest { seeds: seed..seed + 9, options, shrink: 1000, ..SearchRequest::default() };
    let ear = Ear::default();
    assert!(!search(&subject, &request, &ear).passed);
    let heard = ear.heard();
    assert!(heard.contains("  3 faults are left after"), "{heard}");
    let script = &heard[heard.find("protocol toy\n").expect("a script")..];
    let case: Case = script.parse().expect("a case");
    let ear = Ear::default();
    assert!(replay(&subject, &case, 20, &ear));
    let told = ear.heard();
    assert_eq!(script.matches(" dies").count(), 3, "each kills one node:\n{script}");
    assert!(told.contains("s  n1 starts") && told.contains("hard state regressed at"), "{told}");
    assert!(told.contains("writes Starts("), "the trace tells deeds:\n{told}");
    for line in script.lines().filter_map(|line| line.strip_prefix("# ")) {
        assert!(told.contains(line), "{line} is in the script, not in the replay:\n{told}");
    }
    let other = Case { finds: "two leaders".into(), ..case };
    assert!(!replay(&subject, &other, 0, &Ear::default()));
}
