//! What is counted of those who are turned away: because there is too much of something, or because of who they are.

use super::METRICS;

/// Of what there was too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// Commands that waited: one was refused.
    Command,
    /// A watcher did not read in time, and was cut off.
    Watcher,
    /// Somebody had many staged lists that no order had used.
    StagedList,
    /// A list was longer than an order's may be.
    Items,
    /// Bytes of requests that were held at once.
    RequestBytes,
    /// A request did not arrive in time.
    SlowRequest,
    /// A connection had many watches already.
    Watch,
    /// Bytes of answers that nobody had read.
    ResponseBytes,
}

impl Shed {
    /// What, and at which listener, in the order of the variants.
    pub(super) const ALL: [(&str, &str); 8] = [
        ("command", "admin"),
        ("watcher", "queries"),
        ("staged_list", "admin"),
        ("items", "admin"),
        ("request_bytes", "any"),
        ("slow_request", "any"),
        ("watch", "queries"),
        ("response_bytes", "any"),
    ];
}

/// Something was refused or ended because there was too much of it.
pub fn shed(what: Shed) {
    METRICS.sheds.iter().skip(what as usize).take(1).for_each(|count| count.increment(1));
}

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody knows who it is.
    Unknown,
    /// It may not make that call.
    Forbidden,
    /// It calls more often than it may.
    TooOften,
    /// It is no call of gRPC.
    NotGrpc,
}

/// Somebody was turned away.
pub fn refused(listener: &str, why: Why) {
    let [queries, admin] = &METRICS.refused;
    let counts = if listener == "queries" { queries } else { admin };
    counts.iter().skip(why as usize).take(1).for_each(|count| count.increment(1));
}
