//! What clients asked and were told, in the order of real time, for the checker.

use serde_json::json;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use synod_checker::{Call, History, Op, Options, Outcome, Value, Verdict, check_until};

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

/// An operation under way.
pub(crate) struct Pending {
    call: Call,
    client: String,
    key: String,
    /// What is written; `None` of a read.
    value: Option<String>,
}

impl Recorder {
    /// A client is about to read a key, or to write a value to it.
    pub(crate) fn begin(&self, client: &str, key: &str, value: Option<String>) -> Pending {
        let op = match &value {
            Some(value) => Op::put(key, value.as_str()),
            None => Op::get(key),
        };
        let mut events = self.0.lock().expect("no client panics");
        let call = events.history.invoke(client, op);
        let pending = Pending { call, client: client.to_owned(), key: key.to_owned(), value };
        events.lines.push(pending.line("invoke", pending.value.as_deref()));
        pending
    }

    /// It was done; a read found this.
    pub(crate) fn done(&self, pending: &Pending, found: Option<&str>) {
        let outcome = match pending.value {
            Some(_) => Outcome::Done,
            None => Outcome::Read(Value::from(found)),
        };
        let mut events = self.0.lock().expect("no client panics");
        events.history.complete(pending.call, outcome).expect("it has begun");
        events.lines.push(pending.line("ok", pending.value.as_deref().or(found)));
    }

    /// It was certainly not done.
    pub(crate) fn failed(&self, pending: &Pending) {
        let mut events = self.0.lock().expect("no client panics");
        events.history.fail(pending.call).expect("it has begun");
        events.lines.push(pending.line("fail", pending.value.as_deref()));
    }

    /// Nobody knows whether it was done, or will be.
    pub(crate) fn lost(&self, pending: &Pending) {
        let mut events = self.0.lock().expect("no client panics");
        events.history.lose(pending.call).expect("it has begun");
        events.lines.push(pending.line("info", pending.value.as_deref()));
    }

    /// Checks that one store, asked one operation at a time, could have given all these answers.
    /// Returns how many events there were.
    pub(crate) fn check(&self) -> usize {
        let events = self.0.lock().expect("no client panics");
        let options = Options::default();
        let until = Instant::now() + PATIENCE;
        let why = match check_until(&events.history, &options, &mut || Instant::now() > until) {
            Verdict::Linearizable => return events.lines.len(),
            Verdict::Illegal(why) => why.text(&events.history, &options),
            Verdict::Unknown(bound) => format!("the checker came to no verdict: {bound:?}"),
        };
        let file = tempfile::Builder::new().prefix("history").suffix(".jsonl").tempfile();
        let (mut file, path) = file.and_then(|file| Ok(file.keep()?)).expect("a file");
        file.write_all((events.lines.join("\n") + "\n").as_bytes()).expect("a file");
        panic!("the history in {} is not linearizable: {why}", path.display());
    }
}

impl Pending {
    fn line(&self, kind: &str, value: Option<&str>) -> String {
        let f = if self.value.is_some() { "put" } else { "get" };
        json!({ "p": self.client, "t": kind, "f": f, "k": self.key, "v": value }).to_string()
    }
}
