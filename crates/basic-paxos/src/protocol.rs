//! The two protocols of this crate, and the trait bound that its parts use.

use crate::hard_state::HardState;
use crate::message::HORIZON;
use crate::message_batch::MessageBatch;
use core::fmt::Debug;
use core::hash::Hash;
use synod_consensus::Protocol;
use synod_types::{Ballot, Slot};

/// Number of decrees that a core runs.
pub trait Arity: sealed::Sealed + Copy + Eq + Hash + Debug + Send + 'static {
    /// Name of the protocol on the command line.
    const NAME: &'static str;
    /// Last slot of the log.
    const SLOTS: u64;
}

/// Arity of [`SingleDecree`](crate::SingleDecree).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Single {}

/// Arity of [`BasicPaxos`](crate::BasicPaxos): a decree for every slot of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Many {}

impl Arity for Single {
    const NAME: &'static str = "decree";
    const SLOTS: u64 = 1;
}

impl Arity for Many {
    const NAME: &'static str = "basic-paxos";
    const SLOTS: u64 = HORIZON - 1;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Single {}
    impl Sealed for super::Many {}
}

/// Timers of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Retransmission, or end of the backoff, in this slot.
    Slot(Slot),
    /// Next catch-up request.
    CatchUp,
}

/// Protocol of this crate. The parts of a core are generic over it, because both protocols use them.
pub(crate) trait Paxos:
    Protocol<Message = MessageBatch, HardState = HardState, Stamp = Ballot, Timer = Timer>
{
}

impl<P> Paxos for P where
    P: Protocol<Message = MessageBatch, HardState = HardState, Stamp = Ballot, Timer = Timer>
{
}
