//! The command line: the daemon, and the desk's commands as a client of the public API.
//!
//! Knows the API as any client does; nothing of the domain's inside. Results go to standard output, everything said to
//! the person at the terminal to standard error. Exit codes: 0 done, 1 the service, the journal or the person asked said
//! no, 2 wrong usage.

mod client;
mod credentials;
mod daemon;
mod error;
mod item_list;
mod journal;
mod list_file;
mod order_file;
mod orders;
mod output;
mod protect;
mod queries;
mod report;
mod show;
mod token;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::config::layers::{ConfigError, layered};
use crate::config::settings::Settings;
use crate::config::{ServeArgs, span};
use crate::telemetry;
use client::Client;
use credentials::Credentials;
use error::CliError;
use output::Output;

/// The subcommand of which all settings in a file are.
const SERVE: &str = "serve";

/// Withhold accounts and posts by country, on legal orders, with a record of who decided.
#[derive(Debug, Parser)]
#[command(name = "withheld", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The settings of that, and where they are from.
    #[arg(skip)]
    settings: Settings,
}

impl Cli {
    /// What the program was given: flags, environment, file.
    ///
    /// # Errors
    /// If that makes no sense, or only help was asked for: which has been said then.
    pub fn load() -> Result<Self, ExitCode> {
        Self::read().map_err(|error| match error {
            ConfigError::Usage(error) => error.exit(),
            ConfigError::File(_) | ConfigError::Contradiction(_) => {
                let error = CliError::from(error);
                // Without the file, what was given makes sense.
                error.print(Self::try_parse().map_or(Format::Table, |cli| cli.global.output));
                error.code()
            }
        })
    }

    fn read() -> Result<Self, ConfigError> {
        let (matches, settings) = layered(Self::command(), SERVE, std::env::args_os())?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::command()))?;
        match &cli.command {
            Command::Serve(args) => args.check()?,
            Command::Journal(command) => command.check()?,
            _ => {}
        }
        Ok(Self { settings, ..cli })
    }
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "At the command line")]
struct Global {
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, env = "WITHHELD_OUTPUT")]
    output: Format,
    /// Where queries are answered
    #[arg(
        long,
        global = true,
        env = "WITHHELD_ENDPOINT",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    endpoint: String,
    /// Where operators work
    #[arg(
        long,
        global = true,
        env = "WITHHELD_ADMIN_ENDPOINT",
        default_value = "http://127.0.0.1:50052",
        value_name = "URL"
    )]
    admin_endpoint: String,
    /// How long a call may take
    #[arg(long, global = true, env = "WITHHELD_TIMEOUT", default_value = "60s", value_name = "DURATION",
          value_parser = span, allow_hyphen_values = true)]
    timeout: Duration,
    /// Who is acting, for the record, where the service asks nobody who they are [default: the user name]
    #[arg(long, global = true, env = "WITHHELD_ACTOR", value_name = "NAME")]
    actor: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs; ids are strings
    Json,
}

/// Everything `withheld` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service
    #[command(
        after_help = "Flags outrank the environment, that outranks the file, and that the defaults. SIGHUP has the \
        file and the data files read again.\nTraces are exported if OTEL_EXPORTER_OTLP_ENDPOINT is set."
    )]
    Serve(Box<ServeArgs>),
    /// Put legal orders into force, and take them out again
    #[command(subcommand)]
    Order(orders::OrderCommand),
    /// Is an account withheld for a viewer in a country?
    Check(queries::CheckArgs),
    /// In which countries are accounts withheld?
    Countries(queries::CountriesArgs),
    /// Which orders ever named an account, and was it withheld at a time?
    Explain(queries::ExplainArgs),
    /// Print every change as it happens
    Watch(queries::WatchArgs),
    /// The accounts on which orders are declined by default
    #[command(subcommand)]
    Protect(protect::ProtectCommand),
    /// What goes back to an authority, and what is published
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Look after the journal
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Make, list and revoke bearer tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Exit 0 if the service is serving, for containers
    Healthcheck(queries::HealthArgs),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// A moment as people write it: with its offset, or it would be a guess.
fn moment(text: &str) -> Result<jiff::Timestamp, &'static str> {
    text.parse().map_err(|_| "write a time with its offset, like 2021-02-05T12:00:00Z or 2021-02-05T17:30+05:30")
}

/// Does what was asked for, and says how it went.
pub async fn run(cli: Cli) -> ExitCode {
    let Cli { global, command, settings } = cli;
    let format = global.output;
    match dispatch(global, command, settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print(format);
            error.code()
        }
    }
}

async fn dispatch(global: Global, command: Command, settings: Settings) -> Result<(), CliError> {
    let mut out = Output::new(global.output);
    if !matches!(command, Command::Serve(_)) {
        telemetry::start_client();
    }
    let client = || Client::new(&global);
    match command {
        Command::Serve(args) if args.validate => daemon::validate(&args, &settings, &mut out),
        Command::Serve(args) => daemon::serve(*args, settings).await,
        Command::Token(command) => token::run(command, &mut out),
        Command::Order(command) => orders::run(command, &client()?, &mut out).await,
        Command::Check(args) => queries::check(args, &client()?, &mut out).await,
        Command::Countries(args) => queries::countries(args, &client()?, &mut out).await,
        Command::Explain(args) => queries::explain(args, &client()?, &mut out).await,
        Command::Watch(args) => queries::watch(args, &client()?, &mut out).await,
        Command::Protect(command) => protect::run(command, &client()?, &mut out).await,
        Command::Report(command) => report::run(command, &client()?, &mut out).await,
        Command::Journal(command) => journal::run(command, &client()?, &mut out).await,
        Command::Healthcheck(args) => queries::healthcheck(args, &client()?, &mut out).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "withheld", &mut script);
            out.bytes(&script)
        }
    }
}
