//! What is measured of the configuration: whether it was taken up when it was last read, and until when certificates hold.

use jiff::Timestamp;
use metrics::Gauge;

use super::{CERTIFICATE_EXPIRY, METRICS, RELOAD_SUCCESSFUL, RELOAD_TIME};

/// What is read by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigPart {
    /// All settings and their files, when a reload is asked for.
    Settings,
    /// Who may do what.
    Access,
    /// What the listeners show, and who vouches for clients.
    Certificates,
}

impl ConfigPart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Settings, Self::Access, Self::Certificates];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Access => "access",
            Self::Certificates => "certificates",
        }
    }
}

pub(super) struct ConfigMetrics {
    successful: [Gauge; 3],
    time: [Gauge; 3],
    server: Gauge,
    client_ca: Gauge,
}

impl ConfigMetrics {
    pub(super) fn registered() -> Self {
        let of = |name: &'static str| ConfigPart::ALL.map(|part| metrics::gauge!(name, "part" => part.as_str()));
        let [server, client_ca] =
            ["server", "client_ca"].map(|which| metrics::gauge!(CERTIFICATE_EXPIRY.name, "certificate" => which));
        Self { successful: of(RELOAD_SUCCESSFUL.name), time: of(RELOAD_TIME.name), server, client_ca }
    }
}

/// A part was read: taken up at this time, or not at all.
pub fn reloaded(part: ConfigPart, taken_up: Option<Timestamp>) {
    let gauge = |gauges: &'static [Gauge; 3]| gauges.get(part as usize);
    if let Some(successful) = gauge(&METRICS.config.successful) {
        successful.set(if taken_up.is_some() { 1.0 } else { 0.0 });
    }
    if let (Some(time), Some(at)) = (gauge(&METRICS.config.time), taken_up) {
        time.set(seconds(at));
    }
}

/// The listeners show certificates that end to hold then, and those who vouch for clients do then.
pub fn certificates(server: Option<Timestamp>, client_ca: Option<Timestamp>) {
    METRICS.config.server.set(server.map_or(0.0, seconds));
    METRICS.config.client_ca.set(client_ca.map_or(0.0, seconds));
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}
