//! The record as lines of JSON with the proofs: what the chain is computed from, and the same in readable form.
//!
//! The readable form is made from the stored bytes by their `.proto` alone, in protobuf's own JSON (`int64` as text, bytes
//! in Base64, enums by name), so that whoever verifies can make it too and compare.

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde::Serialize;

use super::note::to_base64;
use crate::journal::StoredEntry;
use crate::pb::journal_v1::DESCRIPTORS;

const ENTRY: &str = "withheld.journal.v1.Entry";

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// This program is broken.
    #[error("this program does not know `{ENTRY}`")]
    NoDescriptor,
    /// It is chained, and yet no entry.
    #[error("entry `{revision}` is not a message of withheld.journal.v1")]
    Malformed {
        /// Which.
        revision: crate::domain::ids::Revision,
        /// Why.
        #[source]
        source: prost::DecodeError,
    },
    /// It cannot be said in JSON.
    #[error("entry `{revision}` has no readable form")]
    Unreadable {
        /// Which.
        revision: crate::domain::ids::Revision,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// A line.
#[derive(Serialize)]
struct Line {
    revision: String,
    hash: String,
    payload: String,
    entry: serde_json::Value,
}

/// Writes entries as lines.
#[derive(Debug)]
pub struct Exporter(MessageDescriptor);

impl Exporter {
    /// By the descriptors that this program was built with.
    ///
    /// # Errors
    /// Never, unless it was built wrongly.
    pub fn new() -> Result<Self, ExportError> {
        let pool = DescriptorPool::decode(DESCRIPTORS).map_err(|_| ExportError::NoDescriptor)?;
        pool.get_message_by_name(ENTRY).map(Self).ok_or(ExportError::NoDescriptor)
    }

    /// The line of an entry, with its end.
    ///
    /// # Errors
    /// If the entry is not one.
    pub fn line(&self, stored: &StoredEntry) -> Result<String, ExportError> {
        let (position, payload) = (stored.position(), stored.payload());
        let revision = position.revision;
        let entry = DynamicMessage::decode(self.0.clone(), payload);
        let entry = entry.map_err(|source| ExportError::Malformed { revision, source })?;
        let options = prost_reflect::SerializeOptions::new().use_proto_field_name(true);
        let unreadable = |source| ExportError::Unreadable { revision, source };
        let entry = entry.serialize_with_options(serde_json::value::Serializer, &options).map_err(unreadable)?;
        let (hash, payload) = (position.hash.to_string(), to_base64(payload));
        let line = Line { revision: revision.to_string(), hash, payload, entry };
        Ok(serde_json::to_string(&line).map_err(unreadable)? + "\n")
    }
}
