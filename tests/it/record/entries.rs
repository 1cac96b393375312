//! What AuditService tells: entries in pages, and whether the journal is what was written.

use withheld::journal::sqlite::SqliteJournal;
use withheld::journal::{JournalReader as _, Position, StoredEntry};
use withheld::pb::v1 as pb;

use super::{ENTRIES, Record};
use crate::harness::{Service, nth, refusal};

async fn listed(service: &Service, oldest_first: bool, page_size: u32, after: u64) -> Vec<pb::JournalEntry> {
    let mut audit = service.audit().await;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListEntriesRequest { oldest_first, after_revision: after, page_size, page_token };
        let page = audit.list_entries(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= page_size as usize && !page.entries.is_empty(), "{page:?}");
        all.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_is_listed_once_with_who_why_and_on_whose_approval() {
    let record = Record::empty();
    let service = record.serve(&["key"]).await;
    record.write(&service).await;
    let stored: Vec<StoredEntry> =
        SqliteJournal::open_read_only(&record.journal()).unwrap().read(Position::START, 100).await.unwrap().entries;
    for size in [1, 2, 3, 4, 8, 9, 10, 1_000] {
        let oldest = listed(&service, true, size, 0).await;
        let hashes: Vec<_> = oldest.iter().map(|entry| entry.hash.clone()).collect();
        assert!(stored.iter().map(|entry| entry.position().hash.as_bytes().to_vec()).eq(hashes), "{size}");
        assert!(oldest.iter().map(|entry| entry.revision).eq(1..=ENTRIES), "{size}");
        let mut newest = listed(&service, false, size, 0).await;
        newest.reverse();
        assert_eq!(newest, oldest, "{size}");
        assert!(listed(&service, false, size, 4).await.iter().map(|entry| entry.revision).eq((5..=ENTRIES).rev()));
        assert!(listed(&service, true, size, 4).await.iter().map(|entry| entry.revision).eq(5..=ENTRIES));
    }
    let all = listed(&service, true, 100, 0).await;
    let kinds: Vec<&str> = all.iter().map(|entry| entry.kind.as_str()).collect();
    let expected = [
        "journal_created",
        "accounts_protected",
        "order_applied",
        "order_stayed",
        "order_resumed",
        "correspondence_recorded",
        "order_proposed",
        "order_approved",
        "order_lifted",
        "accounts_unprotected",
    ];
    assert_eq!(kinds, expected);
    let orders: Vec<&str> = all.iter().map(|entry| entry.order_id.as_str()).collect();
    assert_eq!(orders, ["", "", "order", "order", "order", "order", "two", "two", "order", ""]);
    let stayed = all.iter().find(|entry| entry.revision == nth(3)).unwrap();
    assert_eq!((stayed.actor.as_str(), stayed.reason.as_str()), ("desk@example.org", "a review"));
    assert!(!stayed.request_id.is_empty() && stayed.at.unwrap().seconds > 1_600_000_000);
    let both = pb::TwoPeople {
        proposed_by: "desk@example.org".to_owned(),
        proposed_revision: nth(6),
        decided_by: "second@example.org".to_owned(),
        decided_revision: nth(7),
        approved: true,
    };
    for entry in &all {
        let expected = [nth(6), nth(7)].contains(&entry.revision).then(|| both.clone());
        assert_eq!(entry.approval, expected, "{}", entry.revision);
    }
    // Nothing of what an order contains: this is the list, not the record itself.
    assert!(!format!("{all:?}").contains("told"), "{all:?}");
    let other = pb::ListEntriesRequest { page_token: "0.3.0123456789abcdef".to_owned(), ..Default::default() };
    let refused = service.audit().await.list_entries(other).await.unwrap_err();
    assert_eq!(refusal(&refused).1, "BAD_PAGE_TOKEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_reads_the_journal_itself_and_names_the_first_bad_entry() {
    let record = Record::empty();
    let service = record.serve(&["key"]).await;
    record.write(&service).await;
    let last = async || {
        let mut steps = service.audit().await.verify_journal(pb::VerifyJournalRequest {}).await.unwrap().into_inner();
        let mut told = Vec::new();
        while let Some(message) = steps.message().await.unwrap() {
            told.push(message.step.unwrap());
        }
        assert!(told.len() > 1, "{told:?}");
        match told.pop().unwrap() {
            pb::verify_journal_response::Step::Result(result) => result,
            pb::verify_journal_response::Step::Progress(progress) => panic!("{progress:?}"),
        }
    };
    let good = last().await;
    assert!(good.valid && good.revision == ENTRIES && good.first_bad.is_none(), "{good:?}");
    let output = service.cli(&["journal", "verify", "--remote"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("{ENTRIES} entries")), "{output:?}");

    let db = rusqlite::Connection::open(record.journal()).unwrap();
    let seventh = nth(7);
    let select = "SELECT hash FROM entries WHERE revision = ?1";
    let hash: Vec<u8> = db.query_row(select, [seventh], |row| row.get(0)).unwrap();
    let mut bent = hash.clone();
    bent[31] ^= 1;
    db.execute("UPDATE entries SET hash = ?1 WHERE revision = ?2", (&bent, seventh)).unwrap();
    let mut steps = service.audit().await.verify_journal(pb::VerifyJournalRequest {}).await.unwrap().into_inner();
    let Some(pb::verify_journal_response::Step::Result(result)) = steps.message().await.unwrap().unwrap().step else {
        panic!("nothing is good that could be told before");
    };
    let bad = result.first_bad.unwrap();
    assert_eq!((result.valid, result.revision, bad.revision), (false, seventh - 1, seventh));
    assert_eq!((bad.expected_hash, bad.found_hash), (hash, bent));
    let output = service.cli(&["journal", "verify", "--remote"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains(&format!("entry `{seventh}` of the journal is damaged")),
        "{said}"
    );
    // A page with it is refused by name; one before it is not.
    let request = pb::ListEntriesRequest { oldest_first: true, page_size: 5, ..Default::default() };
    assert_eq!(service.audit().await.list_entries(request.clone()).await.unwrap().into_inner().entries.len(), 5);
    let request = pb::ListEntriesRequest { page_size: 100, ..request };
    let refused = service.audit().await.list_entries(request).await.unwrap_err();
    assert_eq!((refused.code(), refusal(&refused).1.as_str()), (tonic::Code::DataLoss, "JOURNAL_DAMAGED"));
    assert!(refused.message().contains(&format!("entry `{seventh}`")), "{}", refused.message());
}
