//! Logging: to standard error, at `info` unless `RUST_LOG` says otherwise. No account id is logged at info or above.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts it: the daemon logs, a client only warns.
pub fn start(daemon: bool) {
    let default = if daemon { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
}

/// An error with all its causes, for a log: `cannot connect to HOST: the connection broke: …`.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // An error that shows its cause itself does not say it twice.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
