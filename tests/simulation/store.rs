//! The snapshot that services of a run leave for each other: it can be gone, late, or be made by somebody who means harm.

use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use withheld::domain::ids::Revision;
use withheld::journal::{ReadError, SnapshotStore};

use crate::world::Shared;

/// See the module.
pub struct Store {
    shared: Shared,
    newest: Mutex<Option<(Revision, Vec<u8>)>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// An empty one.
    pub fn new(shared: Shared) -> Self {
        Self { shared, newest: Mutex::default() }
    }

    fn reach(&self) -> Result<(), ReadError> {
        let mut world = self.shared.lock();
        let loss = world.faults.loss;
        if world.happens(loss) { Err(ReadError::Unavailable("the line went dead".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl SnapshotStore for Store {
    async fn newest(&self) -> Result<Option<Revision>, ReadError> {
        self.reach()?;
        Ok(self.newest.lock().unwrap().as_ref().map(|(revision, _)| *revision))
    }

    async fn fetch(&self, into: &Path) -> Result<Option<Revision>, ReadError> {
        self.reach()?;
        let newest = self.newest.lock().unwrap().clone();
        let Some((revision, bytes)) = newest else { return Ok(None) };
        std::fs::write(into, bytes).map_err(|error| ReadError::Unavailable(error.into()))?;
        Ok(Some(revision))
    }

    async fn offer(&self, revision: Revision, from: &Path) -> Result<bool, ReadError> {
        self.reach()?;
        let mut newest = self.newest.lock().unwrap();
        if newest.as_ref().is_some_and(|(there, _)| *there >= revision) {
            return Ok(false);
        }
        let bytes = std::fs::read(from).map_err(|error| ReadError::Unavailable(error.into()))?;
        *newest = Some((revision, bytes));
        Ok(true)
    }
}
