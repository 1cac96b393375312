//! Where a service keeps what it knows of its journal: also for commands that look at that, or change it.

use std::path::PathBuf;

use super::{JournalArgs, JournalUrl};
use crate::audit::log::last_position;
use crate::record::snapshot::SnapshotFile;
use crate::replica::lineage::{Evidence, HistoryFile, Lineage};

/// The files that tell which journal a service has followed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EvidenceArgs {
    /// The file of the snapshot [default: beside the SQLite journal, or withheld-data/NAMESPACE.snapshot]
    #[arg(help_heading = "Starting and stopping")]
    #[arg(long, env = "WITHHELD_SNAPSHOT", value_name = "FILE")]
    pub snapshot: Option<PathBuf>,
    /// The file in which the service keeps which journal it has followed and how far, so that it notices if that is lost or
    /// replaced [default: beside the snapshot]
    #[arg(help_heading = "Starting and stopping")]
    #[arg(long, env = "WITHHELD_HISTORY", value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// The file that checkpoints are added to [default: beside the SQLite journal, or withheld-data/NAMESPACE.checkpoints]
    #[arg(help_heading = "Record")]
    #[arg(long, env = "WITHHELD_CHECKPOINT_LOG", value_name = "FILE")]
    pub checkpoint_log: Option<PathBuf>,
}

impl EvidenceArgs {
    /// The snapshot's file, unless the journal ends with the process.
    #[must_use]
    pub fn snapshot_file(&self, journal: &JournalArgs) -> Option<SnapshotFile> {
        self.snapshot.clone().or_else(|| journal.beside("snapshot")).map(SnapshotFile::at)
    }

    /// The file of checkpoints, unless the journal ends with the process.
    #[must_use]
    pub fn checkpoints(&self, journal: &JournalArgs) -> Option<PathBuf> {
        self.checkpoint_log.clone().or_else(|| journal.beside("checkpoints"))
    }

    /// All that is known of a journal by these files. A journal on Redis is made by a person, once.
    #[must_use]
    pub fn lineage(&self, journal: &JournalArgs) -> Lineage {
        let history = self.history.clone().or_else(|| match &self.snapshot {
            Some(snapshot) => Some(snapshot.with_extension("history")),
            None => journal.beside("history"),
        });
        let kept = journal.journal != JournalUrl::Memory;
        let checkpoints = self.checkpoints(journal).map(|path| Evidence { path, last_position });
        let lineage =
            Lineage::of(history.filter(|_| kept).map(HistoryFile::at), self.snapshot_file(journal), checkpoints);
        match journal.journal {
            JournalUrl::Redis(_) => lineage.of_existing(),
            JournalUrl::Memory | JournalUrl::Sqlite(_) => lineage,
        }
    }
}
