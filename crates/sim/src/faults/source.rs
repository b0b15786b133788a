//! Source of a run's faults: draws from its seed, or a schedule.

use super::schedule::{MessageFault, Schedule, ScheduleEntry, ScheduledFault};
use crate::cluster::network::links::Link;
use std::collections::VecDeque;

/// Source of a run's faults, and the record of those that occurred.
#[derive(Debug)]
pub(crate) struct FaultSource {
    /// Faults so far.
    pub(crate) recorded: Schedule,
    /// True if faults are drawn; otherwise those of a schedule are applied.
    is_random: bool,
    /// Scheduled faults of messages, by link.
    scheduled_faults: Vec<VecDeque<(u64, MessageFault)>>,
    nodes: usize,
}

impl FaultSource {
    /// Returns a source that draws faults.
    pub(crate) fn random(nodes: usize) -> Self {
        Self { recorded: Schedule::default(), is_random: true, scheduled_faults: Vec::new(), nodes }
    }

    /// Returns a source that replays a schedule. Faults of missing links and nodes are ignored.
    pub(crate) fn scheduled(nodes: usize, schedule: &Schedule) -> Self {
        let mut scheduled_faults = vec![Vec::new(); nodes * nodes];
        for ScheduleEntry(scheduled) in schedule.entries() {
            if let ScheduledFault::Message { link, number, message_fault } = scheduled
                && link.from < nodes
                && link.to < nodes
            {
                scheduled_faults[link.from * nodes + link.to].push((*number, *message_fault));
            }
        }
        scheduled_faults.iter_mut().for_each(|link| link.sort_by_key(|(number, _)| *number));
        let scheduled_faults = scheduled_faults.into_iter().map(VecDeque::from).collect();
        Self { recorded: Schedule::default(), is_random: false, scheduled_faults, nodes }
    }

    pub(crate) fn is_random(&self) -> bool {
        self.is_random
    }

    /// Returns the next scheduled fault of this message. Drops faults of earlier messages of its
    /// link.
    pub(crate) fn next_for(&mut self, link: Link, number: u64) -> Option<MessageFault> {
        let link = self.scheduled_faults.get_mut(link.from * self.nodes + link.to)?;
        while link.front().is_some_and(|(at, _)| *at < number) {
            link.pop_front();
        }
        link.pop_front_if(|(at, _)| *at == number).map(|(_, message_fault)| message_fault)
    }
}
