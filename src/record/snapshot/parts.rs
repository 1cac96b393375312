//! The records of a snapshot: a part of the state each, with its length in front.

use std::io::{self, Read, Write};

use jiff::Timestamp;
use prost::Message as _;

use super::{FORMAT, MAGIC, PART};
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::Revision;
use crate::domain::order::Order;
use crate::domain::protection::Protection;
use crate::domain::state::{Restore, State};
use crate::journal::Hash;
use crate::record::{DecodeError, decode, encode, items, pb};

pub(super) fn next_record(body: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if body.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    let [_, rest @ ..] = &mut length;
    body.read_exact(rest)?;
    // A length is only believed as far as there are bytes: memory is not taken for what is not there.
    let (length, mut record) = (u32::from_le_bytes(length), Vec::new());
    let read = body.take(length.into()).read_to_end(&mut record)?;
    if read < length as usize { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(record)) }
}

pub(super) fn put(file: &mut impl Write, record: pb::snapshot_record::Record) -> io::Result<()> {
    let bytes = pb::SnapshotRecord { record: Some(record) }.encode_to_vec();
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&bytes)
}

pub(super) fn write_all(file: &mut impl Write, state: &State, hash: Hash, journal: Option<[u8; 16]>) -> io::Result<()> {
    use pb::snapshot_record::Record;
    file.write_all(MAGIC)?;
    put(
        file,
        Record::Header(pb::SnapshotHeader {
            format: FORMAT,
            revision: state.revision().get(),
            hash: hash.as_bytes().to_vec(),
            at: Some(crate::pb::time(state.at())),
            orders: state.orders().len() as u64,
            state_digest: state.digest().to_bytes().to_vec(),
            journal_name: journal.map(Vec::from).unwrap_or_default(),
            journal_format: state.format().number(),
        }),
    )?;
    for order in state.orders() {
        put(file, Record::Order(snapshot_order(order)))?;
    }
    for (id, upload) in state.uploads() {
        let entries = upload.entries.iter().map(|(recorded, chunk)| {
            let items = Some(items::encode(chunk.iter()));
            let staged = pb::ItemsStaged { upload_id: id.to_string(), items };
            snapshot_entry(recorded, pb::entry::Event::ItemsStaged(staged))
        });
        put(file, Record::Upload(pb::SnapshotUpload { entries: entries.collect() }))?;
    }
    let protections: Vec<_> = state.protections().iter().collect();
    for part in protections.chunks(PART) {
        put(
            file,
            Record::Protections(pb::SnapshotProtections {
                account_ids: part.iter().map(|(id, _)| id.get()).collect(),
                categories: part.iter().map(|(_, p)| encode::category(p.category)).collect(),
                since_micros: part.iter().map(|(_, p)| p.since.as_microsecond()).collect(),
            }),
        )?;
    }
    let requests: Vec<_> = state.requests().collect();
    for part in requests.chunks(PART) {
        put(
            file,
            Record::Requests(pb::SnapshotRequests {
                request_ids: part.iter().map(|(id, ..)| id.to_string()).collect(),
                request_digests: part.iter().map(|(_, digest, ..)| digest.as_bytes().to_vec()).collect(),
                revisions: part.iter().map(|(_, _, revision, _)| revision.get()).collect(),
                at_micros: part.iter().map(|(.., at)| at.map_or(0, Timestamp::as_microsecond)).collect(),
            }),
        )?;
    }
    Ok(())
}

fn snapshot_entry(recorded: &Recorded, event: pb::entry::Event) -> pb::SnapshotEntry {
    let entry = encode::message(recorded.at, &recorded.by, event);
    pb::SnapshotEntry { revision: recorded.revision.get(), entry: Some(entry) }
}

fn snapshot_order(order: &Order) -> pb::SnapshotOrder {
    let all = Some(order.items());
    let first = match order.first_proposal() {
        Some(proposal) => encode::proposed(order.event(), proposal, all),
        None => pb::entry::Event::OrderApplied(encode::applied(order.event(), all)),
    };
    let first = snapshot_entry(order.recorded(), first);
    let later = order.later().iter().map(|(at, change)| snapshot_entry(at, encode::change(order.id(), change)));
    pb::SnapshotOrder { entries: std::iter::once(first).chain(later).collect() }
}

fn recorded(entry: pb::SnapshotEntry) -> Result<(Recorded, Event), DecodeError> {
    let revision = Revision::new(entry.revision);
    let entry = decode::entry(entry.entry.ok_or(DecodeError::Field("entry"))?)?;
    Ok((Recorded { revision, at: entry.at, by: entry.by }, entry.event))
}

pub(super) fn add(restore: &mut Restore, part: pb::snapshot_record::Record) -> Result<(), String> {
    use pb::snapshot_record::Record;
    let text = |error: DecodeError| error.to_string();
    match part {
        Record::Header(_) => {}
        Record::Order(order) => {
            let mut entries = order.entries.into_iter().map(recorded);
            let (first, event, proposal) = match entries.next() {
                Some(Ok((first, Event::OrderApplied(event)))) => (first, event, None),
                Some(Ok((first, Event::OrderProposed { order, proposal }))) => (first, order, Some(proposal)),
                _ => return Err("an order does not begin with its application or proposal".to_owned()),
            };
            let mut later = Vec::new();
            for entry in entries {
                match entry.map_err(text)? {
                    (at, Event::OrderChanged { change, .. }) => later.push((at, change)),
                    _ => return Err("an order has an entry that is not about it".to_owned()),
                }
            }
            restore.order(first, event, proposal, later)?;
        }
        Record::Upload(upload) => {
            for entry in upload.entries {
                let (at, event) = recorded(entry).map_err(text)?;
                restore.staged(at, &event)?;
            }
        }
        Record::Protections(part) => {
            if [part.categories.len(), part.since_micros.len()] != [part.account_ids.len(); 2] {
                return Err("the columns of its protected list have different lengths".to_owned());
            }
            for ((id, category), since) in part.account_ids.iter().zip(&part.categories).zip(&part.since_micros) {
                let since = Timestamp::from_microsecond(*since).map_err(|e| e.to_string())?;
                let category = decode::category(*category).map_err(text)?;
                restore.protection(decode::account(*id).map_err(text)?, Protection { category, since });
            }
        }
        Record::Requests(part) => {
            let length = part.request_ids.len();
            let times = [0, length].contains(&part.at_micros.len());
            if [part.request_digests.len(), part.revisions.len()] != [length; 2] || !times {
                return Err("the columns of its requests have different lengths".to_owned());
            }
            let times = part.at_micros.iter().copied().chain(std::iter::repeat(0));
            let columns = part.request_ids.iter().zip(&part.request_digests).zip(part.revisions).zip(times);
            for (((id, digest), revision), at) in columns {
                let digest = decode::digest(digest, "request_digests").map_err(text)?;
                let id = id.parse().map_err(|_| format!("request `{id}`"))?;
                let at = (at != 0).then(|| Timestamp::from_microsecond(at)).transpose().map_err(|e| e.to_string())?;
                restore.request(id, digest, Revision::new(revision), at);
            }
        }
    }
    Ok(())
}
