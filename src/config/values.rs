//! Values of settings that no crate has a type for, and what the parser cannot tell: settings that do not go together.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

use crate::domain::country::UnknownViewerPolicy;

/// Where, if anywhere, metrics and health are served over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpListen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl FromStr for HttpListen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| "write it like 127.0.0.1:9090, or `off`".to_owned()),
        }
    }
}

/// After how long a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionAge {
    /// Never.
    Off,
    /// After about this.
    Most(Duration),
}

impl FromStr for ConnectionAge {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => interval(text).map(Self::Most).map_err(|why| format!("{why}, or `off`")),
        }
    }
}

/// A length of time that something is done after again and again.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match span(text)? {
        short if short < Duration::from_secs(1) => Err("a second is the least".to_owned()),
        interval => Ok(interval),
    }
}

/// A length of time, for example `1h 30m`, `90s` or `250ms`.
///
/// # Errors
/// If it is none, or less than nothing.
pub fn span(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text.parse().map_err(|_| "write it like 1h 30m, 90s or 250ms".to_owned())?;
    Duration::try_from(span).map_err(|_| "a length of time is not negative".to_owned())
}

/// What a viewer of unknown country sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownViewer {
    /// Everything but what is withheld worldwide.
    WorldwideOnly,
    /// Nothing that is withheld anywhere.
    Strict,
}

impl From<UnknownViewer> for UnknownViewerPolicy {
    fn from(policy: UnknownViewer) -> Self {
        match policy {
            UnknownViewer::WorldwideOnly => Self::WorldwideOnly,
            UnknownViewer::Strict => Self::Strict,
        }
    }
}

/// Settings that do not go together. They may come from different sources, so nobody but us can tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Of a certificate and its key, one is missing.
    #[error("`{given}` is set and `{missing}` is not: a certificate and its key go together")]
    HalfIdentity {
        /// What there is.
        given: &'static str,
        /// What there is not.
        missing: &'static str,
    },
    /// Nobody could show a certificate that holds.
    #[error(
        "`{setting}` is required, and {why}: nobody would get in, or everybody; set `tls-client-ca` to who vouches for \
         clients, with `tls-cert` and `tls-key`"
    )]
    NobodyVouches {
        /// The setting that requires certificates.
        setting: &'static str,
        /// What is not there.
        why: &'static str,
    },
    /// Two listeners at one address.
    #[error("`{one}` and `{other}` are both {address}: give each a port of its own")]
    SameAddress {
        /// The one's setting.
        one: &'static str,
        /// The other's.
        other: &'static str,
        /// Where both would listen.
        address: SocketAddr,
    },
    /// Everybody on the way could read it, and change it.
    #[error(
        "`{setting}` is {address}, which is not on loopback, and without TLS: set `tls-cert` and `tls-key`, or \
         `insecure` where something else encrypts"
    )]
    Plaintext {
        /// The listener's setting.
        setting: &'static str,
        /// Its address.
        address: SocketAddr,
    },
    /// Whoever reaches it could put orders into force.
    #[error("`admin-listen` is {address}, which is not on loopback, and nobody is asked who they are: set `access`")]
    NobodyAsked {
        /// The operators' address.
        address: SocketAddr,
    },
    /// Nothing would be left for calls in flight.
    #[error("`drain-pause` is {pause:?}, and all of stopping may take {drain:?} (`drain`): make the pause shorter")]
    PauseOutlastsDrain {
        /// The pause.
        pause: Duration,
        /// All of it.
        drain: Duration,
    },
}
