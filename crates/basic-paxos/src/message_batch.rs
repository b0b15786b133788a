//! Batches of messages: the unit of transmission.

use crate::history::Statement;
use crate::message::Message;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Messages of one round to one node. The receiver handles each of them separately. A batch also states
/// what its sender knew to be chosen; one built from messages with [`FromIterator`] states nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageBatch {
    statement: Statement,
    messages: Vec<Message>,
}

impl MessageBatch {
    /// Returns the messages, in order.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Converts the batch into its messages, in order.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }

    pub(crate) fn new(statement: Statement, message: Message) -> Self {
        Self { statement, messages: vec![message] }
    }

    /// Returns the sender's statement.
    pub(crate) fn statement(&self) -> Statement {
        self.statement
    }

    pub(crate) fn add(&mut self, message: Message) {
        self.messages.push(message);
    }
}

impl FromIterator<Message> for MessageBatch {
    fn from_iter<I: IntoIterator<Item = Message>>(messages: I) -> Self {
        Self { statement: Statement::default(), messages: messages.into_iter().collect() }
    }
}

impl From<Message> for MessageBatch {
    fn from(message: Message) -> Self {
        Self::new(Statement::default(), message)
    }
}
