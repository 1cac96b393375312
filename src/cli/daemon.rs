//! `withheld serve`: the daemon, and what it would be.

use clap::{CommandFactory as _, FromArgMatches as _};
use serde_json::json;
use tracing::{info, warn};

use super::error::CliError;
use super::output::{Output, say};
use super::{Cli, SERVE};
use crate::audit::keep::read_keys;
use crate::clock::Clock;
use crate::config::ServeArgs;
use crate::config::layers::{ConfigError, layered};
use crate::config::settings::{Setting, Settings, unknown_variables};
use crate::reload::{Live, Reloading};
use crate::server;
use crate::stop::Stop;
use crate::telemetry::{Log, causes};
use crate::trace::export::{Destination, Export};

pub(super) async fn serve(args: ServeArgs, settings: Settings) -> Result<(), CliError> {
    let traces = Export::start().map_err(CliError::runtime)?;
    let log = Log::start(&args.log_level, args.log_format, traces.as_ref());
    for warning in strange_variables() {
        warn!("{warning}");
    }
    let file = settings.file.as_ref().map_or("none".to_owned(), |path| path.display().to_string());
    info!(file, %settings, "configuration");
    if let Some(traces) = &traces {
        traces.tell();
    }
    let stop = Stop::default();
    stop.on_signals().map_err(CliError::runtime)?;
    let live = Live::load(&args).map_err(CliError::runtime)?;
    let clock = Clock::system();
    Reloading::new(&args, live.clone(), log, clock.clone(), settings, read).go().map_err(CliError::runtime)?;
    let ended = server::run(args, live, clock, stop, |_, _| {}).await;
    if let Some(traces) = traces {
        traces.stop().await;
    }
    ended.map_err(CliError::runtime)
}

/// What the daemon was started with, with the file as it is now.
fn read() -> Result<(ServeArgs, Settings), ConfigError> {
    let (matches, settings) = layered(Cli::command(), SERVE, std::env::args_os())?;
    let args = matches
        .subcommand_matches(SERVE)
        .map_or_else(|| ServeArgs::from_arg_matches(&matches), ServeArgs::from_arg_matches)?;
    args.check()?;
    Ok((args, settings))
}

/// Says what is in force and from where, and everything that is wrong with the files it names.
pub(super) fn validate(args: &ServeArgs, settings: &Settings, out: &mut Output) -> Result<(), CliError> {
    let data = Live::load(args).and_then(|_| Live::check(args, &Clock::system())).map_err(|error| causes(&error));
    let journal = args.journal.check_files().map_err(|error| causes(&error));
    let traces = Destination::from_env().map(|_| ()).map_err(|error| causes(&error));
    let keys = read_keys(&args.checkpoint_key).map(|_| ()).map_err(|error| causes(&error));
    let problems: Vec<String> = [data, journal, keys, traces].into_iter().filter_map(Result::err).collect();
    let warnings = strange_variables();
    if out.is_json() {
        let setting = |setting: &Setting| json!({"name": setting.name, "value": setting.shown, "source": setting.source.as_str()});
        let settings_json: Vec<_> = settings.all.iter().map(setting).collect();
        out.json(&json!({
            "valid": problems.is_empty(), "file": settings.file, "settings": settings_json,
            "problems": problems, "warnings": warnings,
        }))?;
    } else {
        let row = |setting: &Setting| {
            let value = setting.shown.clone().unwrap_or_else(|| "-".to_owned());
            vec![setting.name.clone(), value, setting.source.as_str().to_owned()]
        };
        out.table(&["setting", "value", "from"], settings.all.iter().map(row).collect())?;
        warnings.iter().for_each(|warning| say(format!("warning: {warning}")));
    }
    match problems.split_last() {
        None => {
            say("the configuration is valid; nothing was started");
            Ok(())
        }
        Some((last, others)) => {
            others.iter().for_each(|problem| say(format!("error: {problem}")));
            Err(CliError::failed(last))
        }
    }
}

/// A slip in the name of a variable is as bad as one in a key of the file, but it may be somebody else's.
fn strange_variables() -> Vec<String> {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let said = |(name, meant): (String, Option<String>)| match meant {
        Some(meant) => format!("the variable `{name}` is set, and nothing reads it: did you mean `{meant}`?"),
        None => format!("the variable `{name}` is set, and nothing reads it"),
    };
    unknown_variables(&Cli::command(), set).into_iter().map(said).collect()
}
