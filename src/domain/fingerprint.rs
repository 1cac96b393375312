//! A digest of the state that is kept up with every change, so that replicas can be compared at a revision.
//!
//! The state is taken as a multiset of elements: who is held by which order, where each order stands, what
//! waits for a second person, who is protected,
//! which lists are staged, which commands are remembered. Each element is hashed to 128 bits, and the digest is their
//! sum mod 2^128: it does not matter in which order elements came, and taking one out costs what putting it in did.
//!
//! What is hashed are ids and words, never a number that this process gave out. An order is stood for by a key that
//! SHA-256 gives once; an element of it is SipHash-1-3 (128 bits) under that key, because it is specified to the bit,
//! the same on every machine, and a few nanoseconds long: an order may hold a million accounts.
//!
//! It finds faults, in this program and in what it restores. That nobody has forged the record is for the journal's hash
//! chain to say, not for this.

use std::fmt;
use std::hash::Hasher as _;

use jiff::Timestamp;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::digest::{Digest, Digester};
use super::event::OrderApplied;
use super::format::Format;
use super::ids::{AccountId, RequestId, Revision, UploadId};
use super::protection::Protection;

/// What an element is hashed under.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; 16]);

/// One thing that the state holds, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element(u128);

/// What is hashed first in an element, so that no two kinds of them meet. Never change or reuse a number.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Kind {
    Account = 1,
    Post = 2,
    Standing = 3,
    Protection = 4,
    Upload = 5,
    Request = 6,
    Time = 7,
    Waiting = 8,
    Format = 9,
}

impl Key {
    /// For what belongs to no order. Another definition of the digest has another number in it.
    const STATE: Self = Self(*b"withheld state 1");

    /// Of an order: over its content, and what was made of it when it was applied that decides about viewers.
    pub(crate) fn of_order(order: &OrderApplied) -> Self {
        let spec = &order.spec;
        let mut digest = Digester::new("withheld state 1 order");
        digest.text(spec.order_id.as_str());
        digest.text(order.content.as_bytes());
        let codes = spec.territory.countries().codes();
        digest.number(codes.len() as u64);
        codes.iter().for_each(|code| digest.text(code));
        digest.text(spec.confidentiality.as_str());
        digest.text(spec.basis.as_str());
        digest.text(spec.public_notice_url.as_deref().unwrap_or_default());
        digest.time(spec.effective_from);
        digest.time(spec.expires_at);
        let mut key = [0; 16];
        key.iter_mut().zip(digest.finish().as_bytes()).for_each(|(to, from)| *to = *from);
        Self(key)
    }

    fn hash(self, kind: Kind, fields: &[&[u8]]) -> Element {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(&[kind as u8]);
        fields.iter().for_each(|field| hasher.write(field));
        Element(hasher.finish128().into())
    }

    /// The same of an id, in one piece: that is sooner hashed, and there may be a million.
    fn hash_id(self, kind: Kind, id: u64) -> Element {
        let [a, b, c, d, e, f, g, h] = id.to_le_bytes();
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(&[kind as u8, a, b, c, d, e, f, g, h]);
        Element(hasher.finish128().into())
    }

    /// The order holds an account.
    pub(crate) fn holds_account(self, id: u64) -> Element {
        self.hash_id(Kind::Account, id)
    }

    /// The order holds a post.
    pub(crate) fn holds_post(self, id: u64) -> Element {
        self.hash_id(Kind::Post, id)
    }

    /// The order stands so since its last change.
    pub(crate) fn stands(self, standing: &str, last: Revision) -> Element {
        self.hash(Kind::Standing, &[&last.get().to_le_bytes(), standing.as_bytes()])
    }

    /// Something about the order, proposed at a revision, waits for a second person until a time.
    pub(crate) fn waits(self, what: &str, proposed: Revision, until: Timestamp) -> Element {
        let (proposed, until) = (proposed.get().to_le_bytes(), until.as_microsecond().to_le_bytes());
        self.hash(Kind::Waiting, &[&proposed, &until, what.as_bytes()])
    }
}

// Fields of fixed length come first, and at most one of another length, last: no two contents run together.
impl Element {
    pub(crate) fn protection(account: AccountId, protection: &Protection) -> Self {
        let since = protection.since.as_microsecond().to_le_bytes();
        Key::STATE
            .hash(Kind::Protection, &[&account.get().to_le_bytes(), &since, protection.category.as_str().as_bytes()])
    }

    pub(crate) fn upload(id: &UploadId, lines: usize, last: Revision) -> Self {
        let (lines, last) = ((lines as u64).to_le_bytes(), last.get().to_le_bytes());
        Key::STATE.hash(Kind::Upload, &[&lines, &last, id.as_str().as_bytes()])
    }

    pub(crate) fn request(id: &RequestId, digest: Digest, revision: Revision) -> Self {
        let revision = revision.get().to_le_bytes();
        Key::STATE.hash(Kind::Request, &[&revision, digest.as_bytes(), id.as_str().as_bytes()])
    }

    pub(crate) fn format(format: Format) -> Self {
        Key::STATE.hash(Kind::Format, &[&format.number().to_le_bytes()])
    }

    pub(crate) fn time(revision: Revision, at: Timestamp) -> Self {
        Key::STATE.hash(Kind::Time, &[&revision.get().to_le_bytes(), &at.as_microsecond().to_le_bytes()])
    }
}

/// The sum of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint(u128);

impl Fingerprint {
    pub(crate) const fn add(&mut self, element: Element) {
        self.0 = self.0.wrapping_add(element.0);
    }

    pub(crate) const fn remove(&mut self, element: Element) {
        self.0 = self.0.wrapping_sub(element.0);
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    pub(crate) const fn digest(self) -> StateDigest {
        StateDigest(self.0)
    }
}

/// The digest of a whole state: the same in every process that has folded the same entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateDigest(u128);

impl StateDigest {
    /// Its 16 bytes, as they are stored.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// One that was stored; `None` unless it has 16 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u128::from_be_bytes).map(Self)
    }
}

impl fmt::Display for StateDigest {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SipHash-1-3 with 128 bits, written down once more from its specification, in the plainest way.
    fn sip13_128(key: [u8; 16], bytes: &[u8]) -> u128 {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        let (k0, k1) = (word(&key[..8]), word(&key[8..]));
        let mut v = [k0 ^ 0x736f_6d65_7073_6575, k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee, 0, 0];
        (v[2], v[3]) = (k0 ^ 0x6c79_6765_6e65_7261, k1 ^ 0x7465_6462_7974_6573);
        let round = |v: &mut [u64; 4]| {
            v[0] = v[0].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(13) ^ v[0];
            v[0] = v[0].rotate_left(32);
            v[2] = v[2].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(16) ^ v[2];
            v[0] = v[0].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(21) ^ v[0];
            v[2] = v[2].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(17) ^ v[2];
            v[2] = v[2].rotate_left(32);
        };
        let whole = bytes.len() / 8 * 8;
        let last = word(&bytes[whole..]) | (bytes.len() as u64) << 56;
        for m in bytes[..whole].chunks(8).map(word).chain([last]) {
            v[3] ^= m;
            round(&mut v);
            v[0] ^= m;
        }
        v[2] ^= 0xee;
        (0..3).for_each(|_| round(&mut v));
        let low = v[0] ^ v[1] ^ v[2] ^ v[3];
        v[1] ^= 0xdd;
        (0..3).for_each(|_| round(&mut v));
        u128::from(v[0] ^ v[1] ^ v[2] ^ v[3]) << 64 | u128::from(low)
    }

    #[test]
    fn the_hash_is_the_one_that_is_specified() {
        let key: [u8; 16] = std::array::from_fn(|at| at as u8);
        for length in 0..70_u8 {
            let bytes: Vec<u8> = (0..length).collect();
            // In pieces or at once.
            let (front, back) = bytes.split_at(usize::from(length) / 3);
            let mut expected = vec![Kind::Request as u8];
            expected.extend(&bytes);
            assert_eq!(Key(key).hash(Kind::Request, &[front, back]).0, sip13_128(key, &expected), "{length} bytes");
        }
        let bytes = [Kind::Post as u8, 8, 7, 6, 5, 4, 3, 2, 1];
        assert_eq!(Key(key).holds_post(0x0102_0304_0506_0708).0, sip13_128(key, &bytes));
    }

    #[test]
    fn elements_come_and_go_in_any_order() {
        let element = |n: u64| Key::STATE.holds_account(n);
        let (mut one, mut other) = (Fingerprint::default(), Fingerprint::default());
        (1..=100).for_each(|n| one.add(element(n)));
        (1..=200).rev().for_each(|n| other.add(element(n)));
        assert_ne!(one, other);
        (101..=200).for_each(|n| other.remove(element(n)));
        assert_eq!(one, other);
        // A multiset: what is there twice is not there once, nor gone.
        one.add(element(7));
        assert_ne!(one, other);
    }

    #[test]
    fn a_digest_is_stored_and_shown_whole() {
        let digest = StateDigest(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        assert_eq!(digest.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(StateDigest::from_slice(&digest.to_bytes()), Some(digest));
        assert_eq!(StateDigest::from_slice(&[0; 15]), None);
    }
}
