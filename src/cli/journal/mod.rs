//! `withheld journal`: the journal itself, with or without a service running on it.

mod export;
mod fence;
mod sign;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::Client;
use super::error::CliError;
use super::output::{Output, waiting};
use crate::audit::log::{self, Kept};
use crate::audit::note::VerifierKey;
use crate::config::{Contradiction, JournalArgs, JournalUrl};
use crate::journal::Journal;
use crate::journal::redis::RedisJournal;
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
    /// Tell whether a journal on Redis is fenced: histories have diverged, and nothing is appended
    Fence {
        #[command(flatten)]
        journal: Box<JournalArgs>,
    },
    /// Append to a fenced journal again, on the history it has now
    Unfence {
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
            | Self::Fence { journal }
            | Self::Unfence { journal, .. } => journal.check(),
            Self::Checkpoint | Self::Key(_) => Ok(()),
        }
    }
}

pub(super) async fn run(command: JournalCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        JournalCommand::Verify { remote: true, .. } => verify::remote(client, out).await,
        JournalCommand::Verify { journal, checkpoints, .. } => verify::here(&journal, &checkpoints, out).await,
        JournalCommand::Export { journal, after, checkpoints } => export::run(&journal, after, &checkpoints, out).await,
        JournalCommand::Checkpoint => sign::checkpoint(client, out).await,
        JournalCommand::Key(KeyCommand::New { name, out: file }) => sign::new_key(&name, &file, out),
        JournalCommand::Key(KeyCommand::Show { file }) => sign::show_key(&file, out),
        JournalCommand::Fence { journal } => fence::show(&journal, out).await,
        JournalCommand::Unfence { journal, yes } => fence::lift(&journal, yes, out).await,
    }
}

/// Opens a journal to look at it.
async fn open(args: &JournalArgs) -> Result<Box<dyn Journal>, CliError> {
    match &args.journal {
        JournalUrl::Memory => Err(CliError::usage("a journal in memory ends with its process: name a file")),
        JournalUrl::Sqlite(path) if !path.exists() => {
            Err(CliError::usage(format!("there is no journal `{}`", path.display())))
        }
        JournalUrl::Sqlite(path) => Ok(Box::new(SqliteJournal::open_read_only(path).map_err(CliError::runtime)?)),
        JournalUrl::Redis(_) => Ok(Box::new(redis(args).await?)),
    }
}

async fn redis(args: &JournalArgs) -> Result<RedisJournal, CliError> {
    let JournalUrl::Redis(url) = &args.journal else {
        return Err(CliError::usage(format!("`{args}` is not on Redis: only such a journal can be fenced")));
    };
    let journal = RedisJournal::open(args.redis(url)).map_err(CliError::runtime)?;
    match waiting("waiting for Redis", tokio::time::timeout(LINK, journal.connected())).await {
        Ok(()) => Ok(journal),
        Err(_) => Err(CliError::failed(format!("cannot reach `{args}` within {LINK:?}: RUST_LOG=info tells why"))),
    }
}
