//! Linearizable register among three acceptors, without a log: reads and compare-and-set.

use std::collections::BTreeMap;
use synod_basic_paxos::types::{Membership, MembershipError, NodeId};
use synod_basic_paxos::{Acceptor, Proposer, Verdict};

/// Value that acceptors vote for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Value of the register.
    pub value: u64,
    /// Number and outcome of each client's last change. A retried change finds here that it took effect
    /// before.
    pub outcomes: BTreeMap<u64, (u64, bool)>,
}

/// Operation of a client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Returns the value.
    Read,
    /// Sets the second value if the register holds the first.
    Set(u64, u64),
}

impl State {
    /// Applies change `number` of a client, once.
    pub fn after(mut self, client: u64, number: u64, change: Change) -> Self {
        let is_done = self.outcomes.get(&client).is_some_and(|(last, _)| *last == number);
        if let (Change::Set(from, to), false) = (change, is_done) {
            self.outcomes.insert(client, (number, self.value == from));
            self.value = if self.value == from { to } else { self.value };
        }
        self
    }
}

/// Runs one change through the reachable acceptors. Returns the chosen state. A read takes both phases,
/// too: the value that an acceptor reports need not be chosen until a quorum accepts it.
fn run(
    (client, number, change): (u64, u64, Change),
    proposer: &mut Proposer<State>,
    reached: &mut [(NodeId, Acceptor<State>)],
) -> Option<State> {
    let (ballot, mut proposed, mut chosen) = (proposer.prepare(), None, None);
    for (node, acceptor) in &mut *reached {
        if let Verdict::Rejected { promised } = acceptor.prepare(ballot) {
            proposer.on_nack(*node, ballot, promised); // A real client backs off at random.
            return run((client, number, change), proposer, reached);
        }
        let (vote, change) =
            (acceptor.accepted().cloned(), |it: State| it.after(client, number, change));
        proposed = proposed.or(proposer.on_promise_then(*node, ballot, vote, change));
    }
    for (node, acceptor) in reached {
        if let Verdict::Granted { .. } = acceptor.accept(ballot, proposed.clone()?) {
            chosen = chosen.or(proposer.on_accepted(*node, ballot));
        }
    }
    chosen
}

fn main() -> Result<(), MembershipError> {
    let members = Membership::new((1..=3).map(NodeId), [])?;
    let mut acceptors = [1, 2, 3].map(|id| (NodeId(id), Acceptor::new()));
    let [mut one, mut three] =
        [1, 3].map(|id| Proposer::new(NodeId(id), members.clone(), State::default()));
    let set = run((1, 1, Change::Set(0, 5)), &mut one, &mut acceptors[..2]).expect("a majority");
    assert_eq!((set.value, set.outcomes[&1]), (5, (1, true)));
    let late = run((3, 1, Change::Set(0, 7)), &mut three, &mut acceptors[1..]).expect("one more");
    assert_eq!((late.value, late.outcomes[&3]), (5, (1, false)), "it is no longer 0");
    let read = run((1, 2, Change::Read), &mut one, &mut acceptors[1..]).expect("a majority");
    println!("the register holds {}", read.value);
    assert_eq!(run((1, 3, Change::Read), &mut one, &mut acceptors[..1]), None, "one is too few");
    Ok(())
}
