//! The source of a run's faults: draws of its seed, or a schedule.

use super::schedule::{MessageFault, Schedule, ScheduleEntry, ScheduledFault};
use std::collections::VecDeque;

/// Where a run's faults come from, and where they are written down.
#[derive(Debug)]
pub(crate) struct FaultSource {
    /// What happened so far.
    pub(crate) recorded: Schedule,
    /// Whether the dice decide; else the messages' fates were read from a schedule.
    drawing: bool,
    /// What is still to befall messages, by link.
    given: Vec<VecDeque<(u64, MessageFault)>>,
    nodes: usize,
}

impl FaultSource {
    /// The dice decide.
    pub(crate) fn drawing(nodes: usize) -> Self {
        Self { recorded: Schedule::default(), drawing: true, given: Vec::new(), nodes }
    }

    /// A schedule decides. What it says about links and nodes that are not there is passed over.
    pub(crate) fn playing(nodes: usize, schedule: &Schedule) -> Self {
        let mut given = vec![Vec::new(); nodes * nodes];
        for ScheduleEntry(scheduled) in schedule.entries() {
            if let ScheduledFault::Message { link: (from, to), number, message_fault } = scheduled
                && *from < nodes
                && *to < nodes
            {
                given[from * nodes + to].push((*number, *message_fault));
            }
        }
        given.iter_mut().for_each(|link| link.sort_by_key(|(number, _)| *number));
        let given = given.into_iter().map(VecDeque::from).collect();
        Self { recorded: Schedule::default(), drawing: false, given, nodes }
    }

    pub(crate) fn is_drawing(&self) -> bool {
        self.drawing
    }

    /// The next thing that a schedule has for this message.
    pub(crate) fn take(&mut self, (from, to): (usize, usize), number: u64) -> Option<MessageFault> {
        let link = self.given.get_mut(from * self.nodes + to)?;
        while link.front().is_some_and(|(at, _)| *at < number) {
            link.pop_front();
        }
        link.pop_front_if(|(at, _)| *at == number).map(|(_, message_fault)| message_fault)
    }
}
