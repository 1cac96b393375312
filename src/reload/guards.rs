//! Who may do what, and what the listeners show: read together, put in force together, and looked at again and again.
//!
//! Who is revoked is to be out within seconds, and certificates are replaced by programs that send nobody a signal.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;

use super::LoadError;
use crate::access::{self, Access};
use crate::config::AccessArgs;
use crate::net::Tls;

/// What is agreed upon with TLS.
const GRPC: &[&[u8]] = &[b"h2"];
const PAGES: &[&[u8]] = &[b"http/1.1"];

/// All that was read, and nothing of it in force.
pub(super) struct Guards {
    access: Option<Access>,
    tls: Option<[ServerConfig; 3]>,
}

impl Guards {
    pub(super) fn read(args: &AccessArgs) -> Result<Self, LoadError> {
        let access = args.access.as_deref().map(Access::read).transpose()?;
        let tls = match args.tls_files() {
            Some(files) => Some([
                files.config(args.client_cert, GRPC)?,
                files.config(args.admin_client_cert, GRPC)?,
                files.config(args.http_client_cert, PAGES)?,
            ]),
            None => None,
        };
        Ok(Self { access, tls })
    }

    /// For a service that starts.
    pub(super) fn start(self) -> (access::Current, Option<[Tls; 3]>) {
        let access = Arc::new(ArcSwapOption::from(self.access.map(Arc::new)));
        (access, self.tls.map(|configs| configs.map(Tls::new)))
    }

    /// For one that runs. Whether anybody is asked at all, and whether TLS is spoken, is not changed by this: that takes
    /// a restart.
    pub(super) fn put_in_force(self, access: &access::Current, tls: Option<&[Tls; 3]>) {
        if let (Some(new), true) = (self.access, access.load().is_some()) {
            access.store(Some(Arc::new(new)));
        }
        if let (Some(configs), Some(listeners)) = (self.tls, tls) {
            configs.into_iter().zip(listeners).for_each(|(config, tls)| tls.show(config));
        }
    }

    fn files(&self, args: &AccessArgs) -> Vec<PathBuf> {
        let of_access = self.access.as_ref().zip(args.access.as_deref()).map(|(access, path)| access.files(path));
        let of_tls = args.tls_files().map(|files| files.paths());
        of_access.into_iter().chain(of_tls).flatten().collect()
    }
}

/// What tells that a file is another one; nothing if there is none.
type Stamp = Option<(u64, i64, i64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let of = |found: Metadata| (found.ino(), found.mtime(), found.mtime_nsec(), found.size());
    std::fs::metadata(path).ok().map(of)
}

/// Remembers what the files were.
#[derive(Default)]
pub(super) struct Watch {
    seen: Vec<(PathBuf, Stamp)>,
}

impl Watch {
    /// What the files have now, if they are others than when it was last asked.
    pub(super) fn look(&mut self, args: &AccessArgs) -> Option<Result<Guards, LoadError>> {
        let mut changed = false;
        for (path, seen) in &mut self.seen {
            let now = stamp(path);
            changed |= std::mem::replace(seen, now) != now;
        }
        changed.then(|| self.read(args))
    }

    /// Reads them in any case.
    pub(super) fn read(&mut self, args: &AccessArgs) -> Result<Guards, LoadError> {
        let guards = Guards::read(args)?;
        // A file that was not looked at before it was read has no stamp: it is read once more, not missed.
        let before = std::mem::take(&mut self.seen);
        let stamp_of = |path: &PathBuf| before.iter().find(|(seen, _)| seen == path).and_then(|(_, stamp)| *stamp);
        self.seen = guards.files(args).into_iter().map(|path| (path.clone(), stamp_of(&path))).collect();
        Ok(guards)
    }
}
