//! Entry of one key in the store.

use crate::{Revision, Version};
use bytes::Bytes;

/// Value of one key, with its revisions and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
    pub(crate) version: Version,
}
