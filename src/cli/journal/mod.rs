//! `withheld journal`: the journal itself, with or without a service running on it.

mod backup;
mod compare;
mod create;
mod export;
mod lineage;
mod restore;
mod seal;
mod sign;
mod upgrade;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::Client;
use super::error::CliError;
use super::output::{Output, waiting};
use crate::audit::log::{self, Kept};
use crate::audit::note::VerifierKey;
use crate::config::{Contradiction, EvidenceArgs, JournalArgs, JournalUrl};
use crate::journal::JournalReader;
use crate::journal::redis::{RedisJournal, RedisReader, RedisUrl};
use crate::journal::sqlite::SqliteJournal;

/// How long a journal on Redis may take to be linked.
const LINK: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Check the whole chain of entries, also of a copy or while the service runs
    Verify {
        #[command(flatten)]
        journal: Box<JournalArgs>,
        #[command(flatten)]
        checkpoints: CheckpointArgs,
        /// Have the service at --admin-endpoint check its journal, instead of reading one here
        #[arg(long, conflicts_with = "checkpoints")]
        remote: bool,
        /// Compare it with the live journal: `service` asks the one at --admin-endpoint, anything else is a journal's URL
        #[arg(long, value_name = "service|URL", conflicts_with = "remote")]
        against: Option<compare::Against>,
    },
    /// Write a copy of the whole journal into a new file, also while the service runs, and check it. Of either kind of
    /// journal it is an SQLite file, readable by its owner alone
    Backup {
        /// The file, which must not be there yet; or a directory, in which the copy is named after the time
        file: PathBuf,
        #[command(flatten)]
        journal: Box<JournalArgs>,
    },
    /// Put a copy made by `backup` in the place of the journal, while nothing uses it. What is there is kept aside
    Restore {
        /// The copy
        file: PathBuf,
        #[command(flatten)]
        journal: Box<JournalArgs>,
        #[command(flatten)]
        evidence: Box<EvidenceArgs>,
        /// On Redis: rename the keys of the journal that is there first. Stop every replica of the service before; it takes a
        /// Redis user who may call RENAMENX
        #[arg(long)]
        set_aside: bool,
        /// Redis servers that keep it, the primary and its replicas [default: as many as the Sentinels or the cluster know]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
        servers: Option<u8>,
    },
    /// Write the record as lines of JSON, with what it takes to verify them without this program
    Export {
        #[command(flatten)]
        journal: Box<JournalArgs>,
        /// Only entries after this revision: go on where an export ended
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        after: u64,
        #[command(flatten)]
        checkpoints: CheckpointArgs,
    },
    /// Have the service sign, now, what its journal has reached
    Checkpoint,
    /// The keys that checkpoints are signed with
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make a journal, once: its first entry gives it a name. Safe again: what is there is left as it is
    Create {
        #[command(flatten)]
        journal: Box<JournalArgs>,
        #[command(flatten)]
        evidence: Box<EvidenceArgs>,
        /// Redis servers that keep it, the primary and its replicas [default: as many as the Sentinels or the cluster know]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
        servers: Option<u8>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Say that the journal found is the one to follow, although the service knows another, or more of it
    Accept {
        #[command(flatten)]
        journal: Box<JournalArgs>,
        #[command(flatten)]
        evidence: Box<EvidenceArgs>,
        /// The name of the journal that the service knows, which is given up; `none` if only the primary is in doubt
        #[arg(long, value_name = "NAME")]
        known: Option<String>,
        /// The name of the journal that is found; `none` if there is none
        #[arg(long, value_name = "NAME")]
        found: Option<String>,
    },
    /// Say how many Redis servers keep a journal, and how many replicas must have an entry before it is acknowledged
    Configure {
        #[command(flatten)]
        journal: Box<JournalArgs>,
        /// The primary and its replicas
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
        servers: Option<u8>,
        /// Replicas that must have an entry
        #[arg(long, value_name = "N")]
        wait_replicas: Option<u8>,
    },
    /// Have entries written in a newer format from now on, once every replica of the service reads it. There is no way back
    Upgrade {
        /// The format [default: the newest that the service writes]
        #[arg(long, value_name = "N")]
        format: Option<u32>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Tell whether a journal on Redis is sealed: histories have diverged, and nothing is appended
    #[command(alias = "fence")]
    Seal {
        #[command(flatten)]
        journal: Box<JournalArgs>,
        #[command(flatten)]
        evidence: Box<EvidenceArgs>,
    },
    /// Append to a sealed journal again, on the history it has now
    #[command(alias = "unfence")]
    Unseal {
        #[command(flatten)]
        journal: Box<JournalArgs>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// What of a key.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key, in a file for nobody else to read, and print the verifier key, for everybody
    New {
        /// Whose it is, such as withheld.example.org; its successor has the same name
        name: String,
        /// The file
        #[arg(long, value_name = "FILE", default_value = "checkpoint.key")]
        out: PathBuf,
    },
    /// Print the verifier key of a key
    Show {
        /// The file
        file: PathBuf,
    },
}

/// Checkpoints that were kept.
#[derive(Debug, Clone, Args)]
pub struct CheckpointArgs {
    /// Checkpoints that were kept: the service's --checkpoint-log or a copy of it, or one signed note
    #[arg(long, value_name = "FILE", requires = "trust")]
    checkpoints: Vec<PathBuf>,
    /// A verifier key to believe checkpoints by; any of several will do
    #[arg(long, value_name = "VKEY", requires = "checkpoints")]
    trust: Vec<VerifierKey>,
}

impl CheckpointArgs {
    fn read(&self) -> Result<Vec<Kept>, CliError> {
        let files = self.checkpoints.iter().map(|file| log::read(file, &self.trust));
        let all: Result<Vec<Vec<Kept>>, _> = files.collect();
        Ok(all.map_err(CliError::runtime)?.into_iter().flatten().collect())
    }
}

impl JournalCommand {
    /// What the values themselves do not tell: that they go together.
    ///
    /// # Errors
    /// If they do not.
    pub fn check(&self) -> Result<(), Contradiction> {
        match self {
            Self::Verify { journal, .. }
            | Self::Export { journal, .. }
            | Self::Create { journal, .. }
            | Self::Accept { journal, .. }
            | Self::Configure { journal, .. }
            | Self::Backup { journal, .. }
            | Self::Restore { journal, .. }
            | Self::Seal { journal, .. }
            | Self::Unseal { journal, .. } => journal.check(),
            Self::Checkpoint | Self::Key(_) | Self::Upgrade { .. } => Ok(()),
        }
    }
}

pub(super) async fn run(command: JournalCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        JournalCommand::Verify { remote: true, .. } => verify::remote(client, out).await,
        JournalCommand::Verify { journal, checkpoints, against, .. } => {
            verify::here(&journal, &checkpoints, against.as_ref(), client, out).await
        }
        JournalCommand::Backup { file, journal } => backup::run(&journal, &file, out).await,
        JournalCommand::Restore { file, journal, evidence, set_aside, servers } => {
            restore::run(&journal, &evidence, &file, set_aside, servers, out).await
        }
        JournalCommand::Export { journal, after, checkpoints } => export::run(&journal, after, &checkpoints, out).await,
        JournalCommand::Checkpoint => sign::checkpoint(client, out).await,
        JournalCommand::Key(KeyCommand::New { name, out: file }) => sign::new_key(&name, &file, out),
        JournalCommand::Key(KeyCommand::Show { file }) => sign::show_key(&file, out),
        JournalCommand::Create { journal, evidence, servers, reason } => {
            create::run(&journal, &evidence, servers, client.actor()?, &reason, out).await
        }
        JournalCommand::Accept { journal, evidence, known, found } => {
            lineage::accept(&journal, &evidence, known.as_deref(), found.as_deref(), out).await
        }
        JournalCommand::Configure { journal, servers, wait_replicas } => {
            create::configure(&journal, servers, wait_replicas, out).await
        }
        JournalCommand::Upgrade { format, reason, yes } => upgrade::run(client, format, &reason, yes, out).await,
        JournalCommand::Seal { journal, evidence } => seal::show(&journal, &evidence, out).await,
        JournalCommand::Unseal { journal, yes } => seal::lift(&journal, yes, out).await,
    }
}

/// Opens a journal to look at it, by what can do nothing else.
async fn open(args: &JournalArgs) -> Result<Box<dyn JournalReader>, CliError> {
    match &args.journal {
        JournalUrl::Memory => Err(CliError::usage("a journal in memory ends with its process: name a file")),
        JournalUrl::Sqlite(path) if !path.exists() => {
            Err(CliError::usage(format!("there is no journal `{}`", path.display())))
        }
        JournalUrl::Sqlite(path) => Ok(Box::new(SqliteJournal::open_read_only(path).map_err(CliError::runtime)?)),
        JournalUrl::Redis(_) => Ok(Box::new(redis_reader(args).await?)),
    }
}

/// A journal on Redis, to look at.
async fn redis_reader(args: &JournalArgs) -> Result<RedisReader, CliError> {
    let reader = RedisReader::open(args.redis(redis_url(args)?)).map_err(CliError::runtime)?;
    match waiting("waiting for Redis", tokio::time::timeout(LINK, reader.connected())).await {
        Ok(()) => Ok(reader),
        Err(_) => Err(out_of_reach(args, reader.trouble())),
    }
}

/// A journal on Redis, to change it.
async fn redis(args: &JournalArgs) -> Result<RedisJournal, CliError> {
    let journal = RedisJournal::open(args.redis(redis_url(args)?)).map_err(CliError::runtime)?;
    match waiting("waiting for Redis", tokio::time::timeout(LINK, journal.connected())).await {
        Ok(()) => Ok(journal),
        Err(_) => Err(out_of_reach(args, journal.reader().trouble())),
    }
}

fn redis_url(args: &JournalArgs) -> Result<&RedisUrl, CliError> {
    match &args.journal {
        JournalUrl::Redis(url) => Ok(url),
        JournalUrl::Memory | JournalUrl::Sqlite(_) => {
            Err(CliError::usage(format!("`{args}` is not on Redis: this is for journals that are")))
        }
    }
}

fn out_of_reach(args: &JournalArgs, trouble: Option<String>) -> CliError {
    let why = trouble.unwrap_or_else(|| "RUST_LOG=info tells why".to_owned());
    CliError::failed(format!("cannot reach `{args}` within {LINK:?}: {why}"))
}
