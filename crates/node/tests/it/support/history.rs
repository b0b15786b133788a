//! What clients asked and were told, in the order of real time, for the checker.

use super::Swapped;
use serde_json::json;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use synod_checker::{
    Compare, History, Op, OpId, Options, Outcome, Txn, TxnOp, Value, Verdict, check_until,
};

/// Far more than any of these histories needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes down every operation as it begins and as it ends.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Events>);

#[derive(Default)]
struct Events {
    history: History,
    /// The same, a line of JSON an event: what is left of a test that failed.
    lines: Vec<String>,
}

/// What a client asks of one key.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Get,
    Put(String),
    Delete,
    /// A transaction: put the second value if the key holds the first, else get it.
    Swap(Option<String>, String),
}

/// What it is told when that is done.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// What was read; nothing else to tell of a put.
    Found(Option<String>),
    Deleted(bool),
    Swapped(Swapped),
}

/// An operation under way.
pub(crate) struct Pending {
    call: OpId,
    client: String,
    key: String,
    asked: Asked,
}

impl Recorder {
    /// A client is about to ask something of a key.
    pub(crate) fn begin(&self, client: &str, key: &str, asked: Asked) -> Pending {
        let mut events = self.0.lock().expect("no client panics");
        let call = events.history.invoke(client, asked.operation(key));
        let pending = Pending { call, client: client.to_owned(), key: key.to_owned(), asked };
        events.lines.push(pending.line("invoke", None));
        pending
    }

    /// It was done, and this is the answer.
    pub(crate) fn done(&self, pending: &Pending, told: &Told) {
        let outcome = match told {
            Told::Found(found) if matches!(pending.asked, Asked::Get) => {
                Outcome::Read(value(found))
            }
            Told::Found(_) => Outcome::Done,
            Told::Deleted(was_there) => Outcome::Deleted(*was_there),
            Told::Swapped(Swapped::Yes) => Outcome::Txn { succeeded: true, results: Vec::new() },
            Told::Swapped(Swapped::No(found)) => {
                Outcome::Txn { succeeded: false, results: vec![Some(value(found))] }
            }
        };
        let mut events = self.0.lock().expect("no client panics");
        events.history.complete(pending.call, outcome).expect("it has begun");
        let kind = if matches!(told, Told::Swapped(Swapped::No(_))) { "fail" } else { "ok" };
        events.lines.push(pending.line(kind, Some(told)));
    }

    /// It was certainly not done.
    pub(crate) fn failed(&self, pending: &Pending) {
        let mut events = self.0.lock().expect("no client panics");
        events.history.fail(pending.call).expect("it has begun");
        // In a file, a compare-and-set that fails has seen another value.
        let kind = if matches!(pending.asked, Asked::Swap(..)) { "info" } else { "fail" };
        events.lines.push(pending.line(kind, None));
    }

    /// Nobody knows whether it was done, or will be.
    pub(crate) fn lost(&self, pending: &Pending) {
        let mut events = self.0.lock().expect("no client panics");
        events.history.abandon(pending.call).expect("it has begun");
        events.lines.push(pending.line("info", None));
    }

    /// Checks that one store, asked one operation at a time, could have given all these answers.
    /// Returns how many events there were.
    pub(crate) fn check(&self) -> usize {
        let events = self.0.lock().expect("no client panics");
        let Err(why) = verdict(&events.history) else { return events.lines.len() };
        let file = tempfile::Builder::new().prefix("history").suffix(".jsonl").tempfile();
        let (mut file, path) = file.and_then(|file| Ok(file.keep()?)).expect("a file");
        file.write_all((events.lines.join("\n") + "\n").as_bytes()).expect("a file");
        panic!("the history in {} is not linearizable: {why}", path.display());
    }
}

/// Why a history is not linearizable, or is not known to be.
fn verdict(history: &History) -> Result<(), String> {
    let options = Options::default();
    let until = Instant::now() + PATIENCE;
    match check_until(history, &options, &mut || Instant::now() > until) {
        Verdict::Linearizable => Ok(()),
        Verdict::Illegal(why) => Err(why.text(history, &options)),
        Verdict::Unknown(bound) => Err(format!("the checker came to no verdict: {bound:?}")),
    }
}

impl Asked {
    fn operation(&self, key: &str) -> Op {
        match self {
            Self::Get => Op::get(key),
            Self::Put(value) => Op::put(key, value.as_str()),
            Self::Delete => Op::Delete { key: key.into() },
            Self::Swap(old, new) => Op::Txn(Txn {
                compares: vec![Compare { key: key.into(), equal: true, value: value(old) }],
                then: vec![TxnOp::Put(key.into(), new.as_str().into())],
                otherwise: vec![TxnOp::Get(key.into())],
            }),
        }
    }
}

fn value(text: &Option<String>) -> Value {
    text.as_deref().into()
}

impl Pending {
    fn line(&self, kind: &str, told: Option<&Told>) -> String {
        let (f, v) = match (&self.asked, told) {
            (Asked::Get, Some(Told::Found(found))) => ("get", json!(found)),
            (Asked::Get, _) => ("get", json!(null)),
            (Asked::Put(value), _) => ("put", json!(value)),
            (Asked::Delete, _) => ("put", json!(null)),
            (Asked::Swap(old, new), _) => ("cas", json!([old, new])),
        };
        json!({ "p": self.client, "t": kind, "f": f, "k": self.key, "v": v }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays operations one after the other, and says whether that may be.
    fn is_fine(steps: &[(Asked, Option<Told>)]) -> bool {
        let recorder = Recorder::default();
        for (asked, told) in steps {
            let pending = recorder.begin("client", "key", asked.clone());
            match told {
                Some(told) => recorder.done(&pending, told),
                None => recorder.lost(&pending),
            }
        }
        let events = recorder.0.lock().unwrap();
        assert_eq!(events.lines.len(), 2 * steps.len());
        verdict(&events.history).is_ok()
    }

    #[test]
    fn what_no_store_answers_is_found() {
        let put = |value: &str| (Asked::Put(value.into()), Some(Told::Found(None)));
        let got = |value: Option<&str>| (Asked::Get, Some(Told::Found(value.map(Into::into))));
        let lost = |value: &str| (Asked::Put(value.into()), None);
        let deleted = |there| (Asked::Delete, Some(Told::Deleted(there)));
        let swap = |old: Option<&str>, new: &str, told| {
            (Asked::Swap(old.map(Into::into), new.into()), Some(Told::Swapped(told)))
        };
        let held = |value: &str| Swapped::No(Some(value.into()));
        assert!(is_fine(&[put("a"), lost("b"), got(Some("a")), got(Some("b"))]));
        assert!(!is_fine(&[put("a"), put("b"), got(Some("a"))]), "stale");
        assert!(!is_fine(&[put("a"), got(None)]), "lost");
        assert!(is_fine(&[put("a"), deleted(true), got(None), deleted(false)]));
        assert!(!is_fine(&[put("a"), deleted(false)]), "not seen by a delete");
        let fine = [put("a"), swap(Some("a"), "b", Swapped::Yes), swap(Some("a"), "c", held("b"))];
        assert!(is_fine(&fine));
        assert!(!is_fine(&[put("a"), put("b"), swap(Some("a"), "c", Swapped::Yes)]), "stale swap");
        assert!(!is_fine(&[put("a"), put("b"), swap(None, "c", held("a"))]), "stale in a swap");
    }
}
