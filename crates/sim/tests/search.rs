//! Tests of searches: when they end, and that the result does not depend on the number of threads.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use synod_sim::search::{Hours, SearchHost, SearchOutcome, SearchRequest, Target, search};
use synod_sim::{Fault, RunOptions, RunReport, Violation, ViolationKind};
use synod_types::Instant;

/// Returns a fake report. Seeds that end in 99 fail, seeds that end in 0 do not count.
fn fake_report(seed: u64) -> RunReport {
    let violation = (seed % 100 == 99).then(|| Violation {
        kind: ViolationKind::TwoLeaders,
        at: Instant::ZERO,
        nodes: Vec::new(),
        explanation: String::new(),
    });
    let faults: BTreeMap<_, _> = Fault::ALL.iter().map(|fault| (fault.name(), 1)).collect();
    RunReport {
        seed,
        hash: seed,
        simulated: Duration::from_secs(60),
        ops: seed,
        faults: faults.clone(),
        faults_under_load: faults,
        events: 1,
        counted: violation.is_none() && !seed.is_multiple_of(10),
        violation,
        served_after: None,
        load: None,
    }
}

/// Host with so many threads, and the lines that were reported.
struct ThreadedHost(usize, Mutex<Vec<String>>);

impl SearchHost for ThreadedHost {
    fn elapsed(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn on_threads(&self, work: &(dyn Fn() + Sync)) {
        std::thread::scope(|scope| {
            for _ in 0..self.0 {
                scope.spawn(work);
            }
        });
    }

    fn report(&self, line: &str) {
        self.1.lock().unwrap().push(line.into());
    }
}

/// Searches the fake seeds. Asserts that one thread and four give the same result, and returns it
/// with the reported lines.
fn run(request: &SearchRequest) -> (SearchOutcome, Vec<String>) {
    let target = Target::from_fn("fake", "search", |spec| fake_report(spec.seed).into());
    let [one, four] = [1, 4].map(|threads| {
        let host = ThreadedHost(threads, Mutex::default());
        let verdict = search(&target, request, &host);
        (verdict, host.1.into_inner().unwrap())
    });
    assert_eq!((one.0.summary.json(), &one.1), (four.0.summary.json(), &four.1));
    one
}

fn hours(hours: u64) -> Option<Hours> {
    Some(Hours(Duration::from_secs(hours * 3600)))
}

#[test]
fn search_ends_at_the_first_violation_and_prints_its_replay_command() {
    let options = RunOptions { nodes: Some(5), ..RunOptions::default() };
    let (verdict, lines) =
        run(&SearchRequest { seeds: 0..1000, options, ..SearchRequest::default() });
    assert_eq!((verdict.campaign.seeds, verdict.passed), (100, false));
    assert_eq!(verdict.campaign.violations[0].0, 99);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("seed 99: two leaders"), "{lines:?}");
    assert_eq!(lines[1], "  replay: search --seeds 99 --nodes 5");
}

#[test]
fn search_with_keep_going_runs_every_seed_once() {
    let request = SearchRequest { seeds: 3..340, keep_going: true, ..SearchRequest::default() };
    let (verdict, lines) = run(&request);
    let counts = |seed: &u64| seed % 100 != 99 && !seed.is_multiple_of(10);
    let ops = (3..340).filter(counts).sum();
    assert_eq!((verdict.campaign.seeds, verdict.campaign.ops), (337, ops));
    let seeds: Vec<_> = verdict.campaign.violations.iter().map(|(seed, _)| *seed).collect();
    assert_eq!((seeds, lines.len()), (vec![99, 199, 299], 6));
}

#[test]
fn only_counted_hours_end_a_search() {
    let (verdict, lines) =
        run(&SearchRequest { seeds: 0..u64::MAX, hours: hours(1), ..SearchRequest::default() });
    assert_eq!((verdict.campaign.counted, verdict.campaign.seeds), (60, 67));
    assert!(verdict.passed && lines.is_empty(), "{lines:?}");
}

#[test]
fn search_fails_when_seeds_run_out_before_the_hours() {
    let (verdict, lines) =
        run(&SearchRequest { seeds: 20..60, hours: hours(1), ..SearchRequest::default() });
    assert!(!verdict.passed && verdict.campaign.violations.is_empty());
    assert_eq!(lines, ["inconclusive: only 0.600 of 1.000 simulated hours count"]);
}

#[test]
fn search_ends_early_if_no_seed_counts() {
    let uncounted = |seed| RunReport { counted: false, violation: None, ..fake_report(seed) };
    let target = Target::from_fn("uncounted", "search", move |spec| uncounted(spec.seed).into());
    let host = ThreadedHost(2, Mutex::default());
    let request = SearchRequest { seeds: 0..u64::MAX, hours: hours(1), ..SearchRequest::default() };
    let verdict = search(&target, &request, &host);
    assert_eq!((verdict.campaign.seeds, verdict.passed), (100, false));
    // One line each for missing faults, for the share of counted seeds, and for the hours.
    assert_eq!(host.1.into_inner().unwrap().len(), 3);
}

#[test]
fn search_of_a_single_seed_reports_its_hash() {
    let (verdict, lines) = run(&SearchRequest { seeds: 17..18, ..SearchRequest::default() });
    assert!(verdict.passed);
    assert_eq!(lines, ["seed 17 passed: 17 operations, 1 events, hash 0000000000000011"]);
}
