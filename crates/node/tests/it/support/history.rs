//! History of client requests and responses in real-time order, for the checker.

use super::SwapOutcome;
use serde_json::json;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use synod_checker::{
    Compare, History, Op, OpId, Options, Outcome, Txn, TxnOp, Value, Verdict, check_until,
};

/// Time limit of the checker. These histories need far less.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Records the invocation and the response of every operation.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Events>);

#[derive(Default)]
struct Events {
    history: History,
    /// The same events as lines of JSON, written to a file if the check fails.
    lines: Vec<String>,
}

/// An operation of a client on one key.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Get,
    Put(String),
    Delete,
    /// A transaction: puts the second value if the key has the first, else gets it.
    Swap(Option<String>, String),
}

/// Result of a completed operation.
#[derive(Clone, Debug)]
pub(crate) enum Response {
    /// The value read; `None` for a put.
    Found(Option<String>),
    Deleted(bool),
    Swapped(SwapOutcome),
}

/// An operation in flight.
pub(crate) struct Pending {
    call: OpId,
    client: String,
    key: String,
    request: Request,
}

impl Recorder {
    /// Records that a client sends a request.
    pub(crate) fn invoke(&self, client: &str, key: &str, request: Request) -> Pending {
        let mut events = self.0.lock().expect("no client panics");
        let call = events.history.invoke(client, request.operation(key));
        let pending = Pending { call, client: client.to_owned(), key: key.to_owned(), request };
        events.lines.push(pending.line("invoke", None));
        pending
    }

    /// Records that the operation completed with this response.
    pub(crate) fn complete(&self, pending: &Pending, response: &Response) {
        let outcome = match response {
            Response::Found(found) if matches!(pending.request, Request::Get) => {
                Outcome::Read(value(found))
            }
            Response::Found(_) => Outcome::Done,
            Response::Deleted(existed) => Outcome::Deleted(*existed),
            Response::Swapped(SwapOutcome::Swapped) => {
                Outcome::Txn { succeeded: true, results: Vec::new() }
            }
            Response::Swapped(SwapOutcome::Mismatch(found)) => {
                Outcome::Txn { succeeded: false, results: vec![Some(value(found))] }
            }
        };
        let mut events = self.0.lock().expect("no client panics");
        events.history.complete(pending.call, outcome).expect("it was invoked");
        let kind = if matches!(response, Response::Swapped(SwapOutcome::Mismatch(_))) {
            "fail"
        } else {
            "ok"
        };
        events.lines.push(pending.line(kind, Some(response)));
    }

    /// Records that the operation was not applied and will not be.
    pub(crate) fn fail(&self, pending: &Pending) {
        let mut events = self.0.lock().expect("no client panics");
        events.history.fail(pending.call).expect("it was invoked");
        // In the file format, a failed compare-and-set means that it found another value.
        let kind = if matches!(pending.request, Request::Swap(..)) { "info" } else { "fail" };
        events.lines.push(pending.line(kind, None));
    }

    /// Records that the outcome of the operation is unknown.
    pub(crate) fn abandon(&self, pending: &Pending) {
        let mut events = self.0.lock().expect("no client panics");
        events.history.abandon(pending.call).expect("it was invoked");
        events.lines.push(pending.line("info", None));
    }

    /// Checks that the history is linearizable. Returns the number of events.
    pub(crate) fn check(&self) -> usize {
        let events = self.0.lock().expect("no client panics");
        let Err(reason) = verdict(&events.history) else { return events.lines.len() };
        let file = tempfile::Builder::new().prefix("history").suffix(".jsonl").tempfile();
        let (mut file, path) = file.and_then(|file| Ok(file.keep()?)).expect("a file");
        file.write_all((events.lines.join("\n") + "\n").as_bytes()).expect("a file");
        panic!("the history in {} is not linearizable: {reason}", path.display());
    }
}

/// Checks that a history is linearizable. The error states the reason, or that the time limit was
/// reached.
fn verdict(history: &History) -> Result<(), String> {
    let options = Options::default();
    let until = Instant::now() + TIMEOUT;
    match check_until(history, &options, &mut || Instant::now() > until) {
        Verdict::Linearizable => Ok(()),
        Verdict::Illegal(evidence) => Err(evidence.text(history, &options)),
        Verdict::Unknown(bound) => Err(format!("the checker reached its limit: {bound:?}")),
    }
}

impl Request {
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
    fn line(&self, kind: &str, response: Option<&Response>) -> String {
        let (f, v) = match (&self.request, response) {
            (Request::Get, Some(Response::Found(found))) => ("get", json!(found)),
            (Request::Get, _) => ("get", json!(null)),
            (Request::Put(value), _) => ("put", json!(value)),
            (Request::Delete, _) => ("put", json!(null)),
            (Request::Swap(old, new), _) => ("cas", json!([old, new])),
        };
        json!({ "p": self.client, "t": kind, "f": f, "k": self.key, "v": v }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether this sequence of operations is linearizable.
    fn is_linearizable(steps: &[(Request, Option<Response>)]) -> bool {
        let recorder = Recorder::default();
        for (request, response) in steps {
            let pending = recorder.invoke("client", "key", request.clone());
            match response {
                Some(response) => recorder.complete(&pending, response),
                None => recorder.abandon(&pending),
            }
        }
        let events = recorder.0.lock().unwrap();
        assert_eq!(events.lines.len(), 2 * steps.len());
        verdict(&events.history).is_ok()
    }

    #[test]
    fn histories_with_stale_or_lost_values_are_not_linearizable() {
        let put = |value: &str| (Request::Put(value.into()), Some(Response::Found(None)));
        let got =
            |value: Option<&str>| (Request::Get, Some(Response::Found(value.map(Into::into))));
        let unknown = |value: &str| (Request::Put(value.into()), None);
        let deleted = |there| (Request::Delete, Some(Response::Deleted(there)));
        let swap = |old: Option<&str>, new: &str, response| {
            (Request::Swap(old.map(Into::into), new.into()), Some(Response::Swapped(response)))
        };
        let mismatch = |value: &str| SwapOutcome::Mismatch(Some(value.into()));
        assert!(is_linearizable(&[put("a"), unknown("b"), got(Some("a")), got(Some("b"))]));
        assert!(!is_linearizable(&[put("a"), put("b"), got(Some("a"))]), "stale");
        assert!(!is_linearizable(&[put("a"), got(None)]), "lost");
        assert!(is_linearizable(&[put("a"), deleted(true), got(None), deleted(false)]));
        assert!(!is_linearizable(&[put("a"), deleted(false)]), "not seen by a delete");
        let fine = [
            put("a"),
            swap(Some("a"), "b", SwapOutcome::Swapped),
            swap(Some("a"), "c", mismatch("b")),
        ];
        assert!(is_linearizable(&fine));
        assert!(
            !is_linearizable(&[put("a"), put("b"), swap(Some("a"), "c", SwapOutcome::Swapped)]),
            "stale swap"
        );
        assert!(
            !is_linearizable(&[put("a"), put("b"), swap(None, "c", mismatch("a"))]),
            "stale in a swap"
        );
    }
}
