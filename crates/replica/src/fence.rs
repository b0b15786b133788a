//! The fence between the disk and the network.

use std::collections::VecDeque;
use synod_types::Seq;

/// Messages that wait for the disk, in one queue: each behind the newest write of its time.
#[derive(Clone, Debug)]
pub struct Held<M> {
    queue: VecDeque<(Seq, M)>,
}

impl<M> Default for Held<M> {
    fn default() -> Self {
        Self { queue: VecDeque::new() }
    }
}

impl<M> Held<M> {
    /// Holds a message until `after` is durable.
    ///
    /// # Panics
    /// If `after` lies before that of an earlier message: stamps only rise.
    pub fn push(&mut self, after: Seq, message: M) {
        if let Some((last, _)) = self.queue.back() {
            assert!(*last <= after, "held behind {after:?} after one behind {last:?}");
        }
        self.queue.push_back((after, message));
    }

    /// Everything through `written` is durable: takes what waited for that, in order.
    pub fn release(&mut self, written: Seq) -> impl Iterator<Item = M> + '_ {
        let free = self.queue.iter().take_while(|(after, _)| *after <= written).count();
        self.queue.drain(..free).map(|(_, message)| message)
    }

    /// How many messages wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
