//! Printing and asking: tables for people, JSON for programs. Knows nothing of what is printed.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::Value;

use super::Format;
use super::error::CliError;

/// See the module.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) const fn new(format: Format) -> Self {
        Self { format }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::PipeClosed,
            _ => CliError::failed(format!("the output cannot be written: {error}")),
        })
    }

    pub(super) fn line(&mut self, line: impl std::fmt::Display) -> Result<(), CliError> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    pub(super) fn json(&mut self, value: &Value) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.line(text)
    }

    pub(super) fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), CliError> {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        // Some containers' terminals say that they are 0 columns wide.
        if table.width() == Some(0) {
            table.set_width(120);
        }
        if header.iter().any(|name| !name.is_empty()) {
            table.set_header(header.to_vec());
        }
        table.add_rows(rows);
        self.line(table)
    }
}

/// Something said to the person at the terminal.
pub(super) fn say(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// A bar on standard error, where it is a terminal.
pub(super) fn progress(total: u64, what: &'static str) -> ProgressBar {
    let bar = if io::stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {rate} {eta}");
    if let Ok(style) = style {
        bar.set_style(style.with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = write!(text, "{:.0}/s", state.per_sec());
        }));
    }
    bar.set_message(what);
    bar
}

/// A sign of life on standard error, where it is a terminal, for as long as something of unknown length takes.
pub(super) async fn waiting<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    let done = work.await;
    bar.finish_and_clear();
    done
}

/// Asks before something is done.
pub(super) fn confirm(question: &str, yes: bool) -> Result<bool, CliError> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::usage("there is nobody to ask at a terminal: look at the preview, then pass --yes"));
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|e| CliError::failed(format!("no answer can be read: {e}")))?;
    if !answer.ends_with('\n') {
        say("");
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// A number of things: `1 order`, `2 orders`.
pub(super) fn counted(number: u64, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{ending}")
}
