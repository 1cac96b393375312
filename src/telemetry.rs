//! Logging, to standard error. No account id and nothing of an order is logged at info or above.

use std::fmt;
use std::io::IsTerminal as _;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::clock::Clock;
use crate::trace::export::Export;

/// What is logged: a level, or levels by part, as in `info,withheld::journal=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let wanted = "write off, error, warn, info, debug or trace, and PART=LEVEL after a comma";
        // A word alone would be taken for the name of a part: a slip in a level would silence everything.
        let slip = text.split(',').find(|part| {
            let part = part.trim().to_lowercase();
            !part.contains(['=', '[']) && !LEVELS.contains(&part.as_str())
        });
        match slip {
            Some(word) if !text.contains('[') => Err(format!("`{word}` is no level: {wanted}")),
            _ => match EnvFilter::try_new(text) {
                Ok(_) => Ok(Self(text.to_owned())),
                Err(error) => Err(format!("{error}: {wanted}")),
            },
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LogFilter {
    fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// As a JSON object.
    Json,
}

/// The log of a running program: what it tells can be changed.
#[derive(Debug, Clone)]
pub struct Log(reload::Handle<EnvFilter, Registry>);

impl Log {
    /// Starts the daemon's, beside the export of its spans, if there is one.
    #[must_use]
    pub fn start(filter: &LogFilter, format: LogFormat, traces: Option<&Export>) -> Self {
        let (filter, handle) = reload::Layer::new(filter.filter());
        let lines = lines(format).with_filter(filter);
        tracing_subscriber::registry().with(lines).with(traces.map(Export::layer)).init();
        Self(handle)
    }

    /// Tells something else from now on.
    pub fn set(&self, filter: &LogFilter) {
        // It fails only where the log is gone, with nobody to tell.
        let _ = self.0.reload(filter.filter());
    }
}

/// Starts the log of a command that is over soon: warnings, or what `RUST_LOG` says.
pub fn start_client() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::registry().with(lines(LogFormat::Text).with_filter(filter)).init();
}

fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    }
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

/// So many lines a second are written of one kind that others can cause; of the rest there is a count.
const LINES: u32 = 10;

/// Keeps the log from being filled by whoever has a reason to.
#[derive(Debug)]
pub struct Sparing {
    clock: Clock,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    second: u64,
    written: u32,
    unwritten: u64,
}

impl Sparing {
    /// For one kind of line.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, window: Mutex::default() }
    }

    /// How many were not written since the last that was; nothing if this one is not to be either.
    pub fn may_write(&self) -> Option<u64> {
        let second = self.clock.monotonic().as_secs();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.second != second {
            (window.second, window.written) = (second, 0);
        }
        if window.written == LINES {
            window.unwritten += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.unwritten))
    }
}
