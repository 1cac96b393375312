//! Logging: to standard error, at `info` unless `RUST_LOG` says otherwise. No account id is logged at info or above.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};

/// Starts it: the daemon logs, a client only warns.
pub fn start(cli: &Cli) {
    let default = if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
}
