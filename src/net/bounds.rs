//! What the calls of one connection have in common, and what bounds them. Each call has one reference to it, or two.

use super::budget::Budget;
use super::connection::Connection;
use super::unread::Unread;

#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) connection: Connection,
    /// How much of requests is held, of this and all other connections.
    pub(super) budget: Budget,
    /// How much of answers waits to be read.
    pub(super) unread: Unread,
}
