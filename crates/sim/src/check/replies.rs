//! Checks of replies to clients.

use super::state::Oracle;
use crate::violation::{Checked, ViolationKind, violation};
use bytes::Bytes;
use synod_types::{NodeId, Slot};

/// Operation of a client and its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Node that the client sent it to.
    pub(crate) node: NodeId,
    /// Highest slot acknowledged to any client when it began: a read must observe these slots, a
    /// command must take effect after them.
    pub(crate) floor: Slot,
    pub(crate) state: OperationState,
}

/// State of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperationState {
    /// Without an outcome yet.
    Pending,
    /// Done; a command took effect at this slot.
    Done(Slot),
    /// Rejected: it has not taken effect and must not. `busy` is true if too many requests were in
    /// flight.
    Rejected { busy: bool },
    /// Timed out, or its node crashed: it may take effect.
    Unknown,
}

/// Checks that an operation gets at most one reply, from its node, and none after its node crashed.
pub(crate) fn check_first(id: u64, operation: &Operation, node: NodeId) -> Checked {
    if operation.state == OperationState::Pending && operation.node == node {
        return Ok(());
    }
    let text = format!(
        "{node:?} replied to operation {id}, which was sent to {:?} and is in state {:?}",
        operation.node, operation.state
    );
    Err(violation(ViolationKind::DuplicateReply, [node], text))
}

/// Checks that an acknowledged command took effect at this slot with this reply, and after all
/// commands acknowledged before it began.
pub(crate) fn check_done(
    id: u64,
    operation: &Operation,
    slot: Slot,
    reply: &Bytes,
    oracle: &Oracle,
) -> Checked {
    let node = operation.node;
    let wrong = |text: String| Err(violation(ViolationKind::FalseReply, [node], text));
    match oracle.effect(slot) {
        Some(effect) if effect.id == id && effect.reply == *reply => {}
        Some(effect) if effect.id == id => {
            return wrong(format!("command {id} was acknowledged with the wrong reply"));
        }
        _ => {
            return wrong(format!(
                "command {id} was acknowledged at slot {slot}, where it did not take effect"
            ));
        }
    }
    if slot <= operation.floor {
        return wrong(format!(
            "command {id} was acknowledged at slot {slot}, but slot {} had been acknowledged \
             before it began",
            operation.floor
        ));
    }
    Ok(())
}

/// Checks that a rejected command has not taken effect. Later effects are checked when commands are
/// chosen.
pub(crate) fn check_rejected(id: u64, operation: &Operation, oracle: &Oracle) -> Checked {
    match oracle.place(id) {
        None => Ok(()),
        Some(slot) => {
            let text = format!("command {id} was rejected, but took effect at slot {slot}");
            Err(violation(ViolationKind::RejectedButApplied, [operation.node], text))
        }
    }
}

/// Checks a read served from a state applied through `applied`.
pub(crate) fn check_read(operation: &Operation, applied: Slot) -> Checked {
    if applied >= operation.floor {
        return Ok(());
    }
    let text = format!(
        "a read observed slots up to {applied}, but slot {} had been acknowledged before it began",
        operation.floor
    );
    Err(violation(ViolationKind::StaleRead, [operation.node], text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::kv::{Command, LAST, Last};
    use synod_replica::{Request, RequestKind, RequestSeq, Session};
    use synod_types::{Incarnation, Value};

    fn chosen(oracle: &mut Oracle, slot: u64, seq: u64, id: u64) -> Option<u64> {
        let command = Command::put(id, b'k', "v");
        let session = Session { node: NodeId(1), incarnation: Incarnation(1), boot: 1 };
        let request = Request {
            session,
            seq: RequestSeq(seq),
            settled: RequestSeq(1),
            body: RequestKind::Command(command.encode()),
        };
        oracle.choose(Slot(slot), Value::Command(request.encode())).unwrap()
    }

    fn began_after(floor: u64) -> Operation {
        Operation { node: NodeId(1), floor: Slot(floor), state: OperationState::Pending }
    }

    #[test]
    fn reply_must_match_the_chosen_command() {
        let mut oracle = Oracle::new();
        assert_eq!(chosen(&mut oracle, 1, 1, 70), Some(70));
        assert_eq!(chosen(&mut oracle, 2, 1, 70), None, "the session table admits it once");
        let reply = oracle.effect(Slot(1)).unwrap().reply.clone();
        let done = |operation: &Operation, id, slot, reply: &Bytes| {
            check_done(id, operation, Slot(slot), reply, &oracle).map_err(|found| found.kind)
        };
        assert_eq!(done(&began_after(0), 70, 1, &reply), Ok(()));
        let wrong = Err(ViolationKind::FalseReply);
        assert_eq!(done(&began_after(1), 70, 1, &reply), wrong, "out of order");
        assert_eq!(done(&began_after(0), 70, 2, &reply), wrong, "elsewhere");
        assert_eq!(done(&began_after(0), 71, 1, &reply), wrong, "another command");
        assert_eq!(done(&began_after(0), 70, 1, &Bytes::new()), wrong, "another reply");
        assert!(check_rejected(70, &began_after(0), &oracle).is_err());
        assert!(check_rejected(71, &began_after(0), &oracle).is_ok());
    }

    #[test]
    fn command_that_takes_effect_twice_is_found() {
        let mut oracle = Oracle::new();
        chosen(&mut oracle, 1, 1, 70);
        let command = Command::put(70, b'k', "w");
        let session = Session { node: NodeId(2), incarnation: Incarnation(2), boot: 1 };
        let body = RequestKind::Command(command.encode());
        let request =
            Request { session, seq: RequestSeq(1), settled: RequestSeq(1), body }.encode();
        let found = oracle.choose(Slot(2), Value::Command(request)).unwrap_err();
        assert_eq!(found.kind, ViolationKind::AppliedTwice);
        assert!(Last::decode(LAST).is_none());
    }

    #[test]
    fn read_observes_every_write_acknowledged_before_it_began() {
        assert!(check_read(&began_after(3), Slot(3)).is_ok());
        let found = check_read(&began_after(3), Slot(2)).unwrap_err();
        assert_eq!(found.kind, ViolationKind::StaleRead);
    }
}
