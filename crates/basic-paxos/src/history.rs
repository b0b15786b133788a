//! Comparison of histories: no node mixes the chosen slots of two histories.
//!
//! A quorum that loses its disks can choose other values for slots that a survivor has applied. Paxos
//! does not cover that fault. Because slots are independent, each side would append later slots of the
//! other to its own log. So every batch states what its sender knew to be chosen before the batch's
//! round, and the receiver compares this with its own log.
//!
//! **Invariant:** a node learns the slot after its last chosen one only from a batch whose statement
//! it has compared, or from the reply to a batch of its own whose statement the peer has compared.
//! A reply to a peer whose commands were not compared yet begins at the first slot that the peer lacks.

use crate::config::Config;
use alloc::collections::BTreeMap;
use serde::{Deserialize, Serialize};
use synod_consensus::{
    Comparison, Contradiction, Effects, HistoryDigest, IgnoreReason, Protocol, ProtocolEvent,
    Quorum, RunLog,
};
use synod_types::{Ballot, NodeId, Slot};

/// Statement of the slots that a node knows to be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Statement {
    /// Last slot through which all are known to be chosen.
    through: Slot,
    digest: HistoryDigest,
}

impl Statement {
    /// Creates the statement of a node that knows all chosen values through a slot.
    pub(crate) fn of(log: &RunLog<Ballot>, through: Slot) -> Self {
        Self { through, digest: HistoryDigest::of(log, through) }
    }

    pub(crate) fn through(self) -> Slot {
        self.through
    }
}

/// Result of comparing a peer's history with this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum History {
    /// The peer's last command equals this node's in that slot.
    Shared,
    /// The peer lacks the slots after this one, and no command up to it could be compared.
    Unverified(Slot),
}

/// Peers whose history was compared with this node's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Histories(BTreeMap<NodeId, History>);

impl Histories {
    /// Compares a peer's statement with this node's log. If they differ, returns the first slot in which
    /// they may differ.
    pub(crate) fn compare(
        &mut self,
        config: &Config,
        from: NodeId,
        theirs: Statement,
        log: &RunLog<Ballot>,
        chosen: Slot,
    ) -> Option<Slot> {
        let is_peer = from != config.id() && config.members().contains(from);
        if !is_peer {
            return None;
        }
        if theirs.through > chosen {
            // The peer is ahead: it compares this node's statement, and lacks nothing of this node's.
            // Its part up to here was compared already if it is `Shared`.
            if self.0.get(&from) != Some(&History::Shared) {
                self.0.remove(&from);
            }
            return None;
        }
        match theirs.digest.compare(log, theirs.through) {
            // A snapshot has replaced the last command in one of the two logs: nothing to compare.
            Comparison::Hidden => {}
            Comparison::Differs { from } => return Some(from),
            // A late batch of a peer that has been compared since.
            Comparison::NoCommand if self.0.get(&from) == Some(&History::Shared) => {}
            // The peer lacks nothing, so there is no slot after which it could append a later one.
            Comparison::NoCommand if theirs.through == chosen => drop(self.0.remove(&from)),
            // No-ops are equal in all histories, so they do not prove that this one is shared.
            Comparison::NoCommand => {
                self.0.insert(from, History::Unverified(theirs.through));
            }
            Comparison::Equal => {
                self.0.insert(from, History::Shared);
            }
        }
        None
    }

    /// Handles a peer that states another chosen value in a slot, or before it. Returns whether this node
    /// continues; if not, reports the contradiction, which stops it.
    pub(crate) fn contradicted<P: Protocol>(
        &mut self,
        config: &Config,
        by: NodeId,
        slot: Slot,
        fx: &mut Effects<P>,
    ) -> bool {
        self.0.remove(&by);
        // At most one history has a majority, so at least one of the two nodes stops. Not the quorum of
        // phase 2: flexible ones need not intersect each other.
        let shares = |node| node == config.id() || self.0.get(&node) == Some(&History::Shared);
        let may_continue = Quorum::majority(config.members()).is_second(shares);
        if may_continue {
            fx.note(ProtocolEvent::Ignored { from: by, reason: IgnoreReason::Contradiction });
        } else {
            fx.contradicted(Contradiction { slot, by });
        }
        may_continue
    }

    /// Returns the first slot to send to a peer that requests `slot`.
    pub(crate) fn first_to_send(&self, to: NodeId, slot: Slot) -> Slot {
        match self.0.get(&to) {
            // Without a gap: the peer compares the slots that it holds from another history, if any.
            Some(History::Unverified(through)) => slot.min(through.next()),
            Some(History::Shared) | None => slot,
        }
    }

    /// Checks the invariants that take more than constant time.
    pub(crate) fn check_invariants(&self, config: &Config) {
        let is_peer = |node| node != config.id() && config.members().contains(node);
        assert!(self.0.keys().all(|node| is_peer(*node)), "only peers' histories are compared");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BasicPaxos, HardState, Learn, Learned, Message, MessageBatch};
    use alloc::vec::Vec;
    use synod_consensus::{Base, FatalError, Host, Input, Run, RunLog, Saved};
    use synod_types::{Instant, Membership, Value, Values};

    const ME: NodeId = NodeId(1);
    const PEER: NodeId = NodeId(2);
    const LEARN: Message = Message::Learn(Learn { from: Slot(2) });

    /// Member of a group of five voters and a learner, n6, whose chosen slots follow `base`. An empty text
    /// is a no-op.
    fn host_of(me: NodeId, base: u64, texts: &[&str]) -> Host<BasicPaxos> {
        let stamp = Ballot { round: 1, node: PEER };
        let mut log = RunLog::new(Slot(base), stamp);
        for (slot, text) in (base + 1..).map(Slot).zip(texts) {
            let noop = text.is_empty();
            let values = if noop { Values::noop() } else { Values::command_only(text.as_bytes()) };
            log.put(Run { first: slot, stamp, values });
        }
        let base = Base { through: Slot(base), stamp, members: None };
        let hard_state = HardState::new(log.last(), []);
        let applied = log.last();
        let members = Membership::new((1..=5).map(NodeId), [NodeId(6)]).unwrap();
        let config = Config::new(me, members).unwrap();
        let mut host = Host::recover(me, config, Saved { hard_state, base, log, applied }).unwrap();
        let _ = host.input(Instant(1), Input::Start, &mut ());
        host
    }

    fn core(base: u64, texts: &[&str]) -> BasicPaxos {
        host_of(ME, base, texts).core().clone()
    }

    fn compare(core: &mut BasicPaxos, from: NodeId, theirs: Statement) -> Option<Slot> {
        let (log, chosen) = (core.slots.log(), core.slots.chosen());
        core.catch_up.histories.compare(&core.config, from, theirs, log, chosen)
    }

    /// Delivers a batch. Returns the sent batches and the error that stops the node.
    fn receive(
        host: &mut Host<BasicPaxos>,
        from: NodeId,
        message: MessageBatch,
    ) -> (Vec<(NodeId, MessageBatch)>, Option<FatalError>) {
        let _ = host.input(Instant(1), Input::Message { from, message }, &mut ());
        let round = host.round(Instant(1), &mut ());
        (round.sends.drain(..).collect(), round.outputs.fatal)
    }

    #[test]
    fn histories_are_compared_where_the_shorter_one_ends() {
        use History::{Shared, Unverified};
        let mine = ["a", "", "c", "d"];
        let cases: [(&str, u64, &[&str], _, _); 12] = [
            ("equal", 0, &["a", "", "c", "d"], None, Some(Shared)),
            ("shorter", 0, &["a"], None, Some(Shared)),
            ("ends in a no-op", 0, &["a", ""], None, Some(Shared)),
            ("longer", 0, &["x", "", "c", "d", "e"], None, None),
            ("empty", 0, &[], None, Some(Unverified(Slot(0)))),
            ("another command", 0, &["x"], Some(1), None),
            ("another before a no-op", 0, &["x", ""], Some(1), None),
            ("a command for a no-op", 0, &["a", "b"], Some(1), None),
            ("a no-op for a command", 0, &["a", "", ""], Some(3), None),
            ("no-ops for commands", 0, &["", ""], Some(1), None),
            ("hidden by a snapshot", 2, &[], None, None),
            ("after a snapshot", 2, &["c"], None, Some(Shared)),
        ];
        for (name, base, theirs, differs, history) in cases {
            let mut core = core(0, &mine);
            let theirs = self::core(base, theirs).statement();
            assert_eq!(compare(&mut core, PEER, theirs), differs.map(Slot), "{name}");
            assert_eq!(core.catch_up.histories.0.get(&PEER).copied(), history, "{name}");
            assert_eq!(compare(&mut core, NodeId(9), theirs), None, "{name}: a non-member");
            assert_eq!(compare(&mut core, ME, theirs), None, "{name}: itself");
        }
        let mut hidden = core(4, &["e"]);
        assert_eq!(compare(&mut hidden, PEER, core(0, &["x"]).statement()), None, "compacted away");
    }

    #[test]
    fn reply_to_a_peer_without_commands_has_no_holes() {
        let mut core = core(0, &["", "b", "c", "d"]);
        let noop = self::core(0, &[""]).statement();
        assert_eq!(compare(&mut core, PEER, noop), None);
        let first_slots = |core: &BasicPaxos| {
            [1, 2, 4].map(|slot| core.catch_up.histories.first_to_send(PEER, Slot(slot)).0)
        };
        assert_eq!(first_slots(&core), [1, 2, 2]);
        // The peer is ahead, so nothing is recorded; then its history is found to be shared.
        let longer = self::core(0, &["", "x", "x", "x", "x"]).statement();
        assert_eq!((compare(&mut core, PEER, longer), first_slots(&core)), (None, [1, 2, 4]));
        compare(&mut core, PEER, self::core(0, &["", "b"]).statement());
        assert_eq!(
            (compare(&mut core, PEER, noop), first_slots(&core)),
            (None, [1, 2, 4]),
            "a late batch"
        );
        assert_eq!(core.catch_up.histories.0[&PEER], History::Shared);
    }

    #[test]
    fn node_continues_only_if_a_majority_of_voters_shares_its_history() {
        let cases: [(u64, &[u64], bool); 6] = [
            (1, &[], false),
            (1, &[3], false),
            (1, &[3, 4], true),
            (1, &[2, 3], false),
            (1, &[3, 6], false),
            (6, &[3, 4], false),
        ];
        for (me, shared, expected) in cases {
            let mut host = host_of(NodeId(me), 0, &["a", "b"]);
            let batch = |text| MessageBatch::new(core(0, &[text]).statement(), LEARN);
            for node in shared {
                assert_eq!(receive(&mut host, NodeId(*node), batch("a")).1, None);
            }
            let (sent, fatal) = receive(&mut host, PEER, batch("x"));
            let found = FatalError::Contradicted { slot: Slot(1), by: PEER };
            assert_eq!(fatal, (!expected).then_some(found), "n{me} with {shared:?}");
            // The peer is sent the values that it contradicts, and its request is ignored.
            let sent: Vec<_> = sent.iter().map(|(to, it)| (*to, it.messages())).collect();
            let values = ["a", "b"].map(|text| Value::Command(text.into()));
            let values = values.into_iter().collect();
            let shown = [Message::Learned(Learned { first: Slot(1), values, through: Slot(2) })];
            let shown: &[_] = if expected { &[(PEER, &shown[..])] } else { &[] };
            assert_eq!(sent, shown, "n{me} with {shared:?}");
        }
    }

    #[test]
    fn batch_states_what_was_chosen_before_its_round() {
        let mut host = host_of(ME, 0, &["a"]);
        let before = host.core().statement();
        let learned = |slot, text: &[u8]| {
            Message::Learned(Learned {
                first: Slot(slot),
                values: Values::command_only(text),
                through: Slot(9),
            })
        };
        let mut states = Vec::new();
        for message in [learned(2, b"b"), learned(3, b"c")] {
            let (sent, _) = receive(&mut host, PEER, message.into());
            states.extend(sent.iter().map(|(_, batch)| batch.statement()));
        }
        let after = core(0, &["a", "b"]).statement();
        assert_eq!(states, [before, after]);
    }
}
