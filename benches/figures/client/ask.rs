//! What is asked: messages made beforehand, in which only the ids are written anew.

use serde::{Deserialize, Serialize};
use withheld::pb::v1 as pb;

use crate::data::{Random, id, mk_stranger};
use crate::harness::{mk_accounts, mk_apply, mk_batch, mk_order};

/// Which call, with what in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    /// One account that is not withheld.
    Check,
    /// So many accounts, one in a hundred of which is withheld, of so many that are.
    Batch { size: usize, known: u64 },
    /// An order of one account, under a name that begins so.
    Apply { name: String },
    /// Every change after a revision.
    Watch { after: u64 },
}

impl Ask {
    pub const fn path(&self) -> &'static str {
        match self {
            Self::Check => "/withheld.v1.VisibilityService/Check",
            Self::Batch { .. } => "/withheld.v1.VisibilityService/BatchCheck",
            Self::Apply { .. } => "/withheld.v1.OrderService/ApplyOrder",
            Self::Watch { .. } => "/withheld.v1.VisibilityService/WatchWithholdings",
        }
    }
}

/// Makes one message after another.
pub struct Asker {
    ask: Ask,
    message: Vec<u8>,
    /// Where the first id is in it.
    ids: usize,
    random: Random,
    made: u64,
}

/// A message as it is on the wire: not compressed, and so long.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat()
}

/// The ids that a batch of queries asks for: one in a hundred is withheld.
pub fn mk_ids(random: &mut Random, size: usize, known: u64) -> impl Iterator<Item = u64> {
    (0..size).map(move |at| if at % 100 == 50 { id(random.below(known)) } else { mk_stranger(random) })
}

impl Asker {
    pub fn new(ask: Ask, seed: u64) -> Self {
        let marker = 0x1122_3344_5566_7788_u64;
        let viewer_country = "IN".to_owned();
        let message = match &ask {
            Ask::Check => framed(&pb::CheckRequest { account_id: marker, viewer_country, ..Default::default() }),
            Ask::Batch { size, .. } => framed(&mk_batch("IN", (0..*size).map(|_| marker))),
            Ask::Watch { after } => {
                framed(&pb::WatchWithholdingsRequest { after_revision: *after, ..Default::default() })
            }
            Ask::Apply { .. } => Vec::new(),
        };
        let ids = message.windows(8).position(|bytes| bytes == marker.to_le_bytes()).unwrap_or_default();
        Self { ask, message, ids, random: Random::new(seed), made: 0 }
    }

    /// How long messages are, at most.
    pub fn longest(&self) -> usize {
        self.message.len().max(512)
    }

    pub fn next(&mut self) -> &[u8] {
        self.made += 1;
        let random = &mut self.random;
        match &self.ask {
            Ask::Check => self.message[self.ids..][..8].copy_from_slice(&mk_stranger(random).to_le_bytes()),
            Ask::Batch { size, known } => {
                let places = self.message[self.ids..].chunks_exact_mut(8);
                for (place, id) in places.zip(mk_ids(random, *size, *known)) {
                    place.copy_from_slice(&id.to_le_bytes());
                }
            }
            Ask::Apply { name } => {
                let order = mk_order(&format!("{name}-{}", self.made), &["IN"]);
                self.message = framed(&mk_apply(order, mk_accounts([mk_stranger(random)])));
            }
            Ask::Watch { .. } => {}
        }
        &self.message
    }
}
