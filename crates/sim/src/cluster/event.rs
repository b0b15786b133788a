//! The events of a simulation.

use super::network::links::{Link, LinkSet};
use super::network::transmitter::SentFrame;
use crate::faults::kind::Fault;
use crate::faults::schedule::NodeFault;
use synod_replica::Event;

/// Event of the simulation. Nodes are numbered from 0 here. An event with a boot number is void
/// once that boot of the node has ended.
#[derive(Debug)]
pub(crate) enum SimEvent {
    /// A frame arrives. `intact` is false if a bit was flipped in flight.
    DeliverFrame { link: Link, frame: SentFrame, intact: bool },
    /// A frame has left on a link with limited bandwidth.
    Transmitted { link: Link },
    /// A message arrives again, long after it was sent.
    ReplayFrame { link: Link, frame: SentFrame },
    /// A node's driver begins a round over its inbox. Only if the plan limits throughput.
    DriverRound { node: usize, boot: u64 },
    /// A timer of a node's driver is due.
    Wake { node: usize, boot: u64 },
    /// A sync of a node's log ends.
    SyncDone { node: usize, boot: u64 },
    /// A node's apply thread completes its tasks.
    ApplyDone { node: usize, boot: u64 },
    /// A node writes its state to the state store.
    PersistState { node: usize, boot: u64 },
    /// A client's request or read reaches a node.
    ClientRequest { node: usize, boot: u64, event: Event },
    /// A node starts.
    StartNode { node: usize },
    /// A pause ends.
    ResumeNode { node: usize, boot: u64 },
    /// A clock stops drifting.
    EndDrift { node: usize },
    /// A partition ends.
    HealLinks(LinkSet),
    /// A clog ends: the link delivers what it held back.
    UnclogLinks(LinkSet),
    /// Clients submit operations.
    ClientArrival,
    /// Clients of a load run submit operations.
    LoadArrival(LoadArrival),
    /// Time to draw and apply a fault of this kind.
    DrawFault(Fault),
    /// A fault targets a node, unless this boot of the node has ended.
    TargetFault { node: usize, boot: u64, fault: Fault },
    /// A fault of a schedule is applied.
    ApplyFault(NodeFault),
}

/// Operation of a load run's clients.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoadArrival {
    /// One write; the next one follows after a pause.
    Write,
    /// A read of a node's state; each client reads again as soon as it has its reply.
    Read { node: usize },
}
