//! The commands that are remembered, so that one that is sent again is known.

use jiff::Timestamp;

use crate::domain::digest::Digest;
use crate::domain::finder::Finder;
use crate::domain::fingerprint::{Element, Fingerprint};
use crate::domain::ids::{RequestId, Revision};

/// Commands are remembered for repetition until this many others have come after them.
const REMEMBERED: usize = 65_536;

/// What is remembered of a command.
#[derive(Debug, Clone)]
struct Request {
    id: RequestId,
    digest: Digest,
    revision: Revision,
    /// When it was written. Not known of what a snapshot of before this was kept has.
    at: Option<Timestamp>,
}

impl Request {
    fn element(&self) -> Element {
        Element::request(&self.id, self.digest, self.revision)
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    /// Oldest first.
    remembered: imbl::Vector<Request>,
    /// The number of the first. Numbers go round.
    first: u32,
    numbers: Finder,
    fingerprint: Fingerprint,
}

impl Requests {
    fn place_of(&self, id: &RequestId) -> Option<usize> {
        let place = |number: u32| number.wrapping_sub(self.first) as usize;
        let is_meant = |number| self.remembered.get(place(number)).is_some_and(|there| there.id == *id);
        self.numbers.find(id, is_meant).map(place)
    }

    /// What it said and where it was written.
    pub(super) fn get(&self, id: &RequestId) -> Option<(Digest, Revision)> {
        let request = self.remembered.get(self.place_of(id)?)?;
        Some((request.digest, request.revision))
    }

    /// All of them, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RequestId, Digest, Revision, Option<Timestamp>)> {
        self.remembered.iter().map(|request| (&request.id, request.digest, request.revision, request.at))
    }

    /// Where and when the oldest of them was written.
    pub(super) fn oldest(&self) -> Option<(Revision, Option<Timestamp>)> {
        self.remembered.front().map(|request| (request.revision, request.at))
    }

    /// Remembers one. It may be there already, and stays in its place then.
    pub(super) fn put(&mut self, id: RequestId, digest: Digest, revision: Revision, at: Option<Timestamp>) {
        let request = Request { id, digest, revision, at };
        self.fingerprint.add(request.element());
        if let Some(there) = self.place_of(&request.id).and_then(|at| self.remembered.get_mut(at)) {
            let before = std::mem::replace(there, request);
            self.fingerprint.remove(before.element());
            return;
        }
        let (first, len) = (self.first, self.remembered.len());
        self.numbers
            .add(&request.id, first.wrapping_add(len as u32), |number| number.wrapping_sub(first) as usize <= len);
        self.remembered.push_back(request);
        if self.remembered.len() > REMEMBERED
            && let Some(oldest) = self.remembered.pop_front()
        {
            self.first = self.first.wrapping_add(1);
            self.fingerprint.remove(oldest.element());
        }
    }

    /// Of all of them, for the state's digest.
    pub(super) const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}
