//! What people ask of a desk, drawn at random: few orders, accounts and countries, so that they collide.

use std::sync::Arc;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use withheld::domain::decide::Command;
use withheld::domain::digest::Digest;
use withheld::domain::event::Attribution;
use withheld::domain::ids::{AccountId, OrderId, Subject};
use withheld::domain::item::{Item, ItemChunk, Locator};
use withheld::domain::locator::Resolution;
use withheld::domain::plan::{ItemSource, OrderRequest};
use withheld::domain::protection::Category;
use withheld::domain::spec::Instrument;
use withheld::domain::territory::TerritorySpec;

/// Accounts there are: 1 up to this.
pub const ACCOUNTS: u64 = 4;
/// Countries that orders name.
pub const COUNTRIES: [&str; 3] = ["DE", "FR", "IN"];
const ORDERS: u64 = 5;

/// An account.
pub fn account(id: u64) -> AccountId {
    AccountId::try_from(id).unwrap()
}

/// Something somebody asks for at a time, by the date that they know.
pub fn draw(rng: &mut Rng, now: Timestamp) -> Command {
    let order: OrderId = format!("order-{}", rng.u64(1..=ORDERS)).parse().unwrap();
    match rng.u32(0..100) {
        0..50 => {
            let items = ItemSource::Inline(items(rng));
            Command::ApplyOrder { order: Box::new(request(rng, order, now)), items, preview: None }
        }
        50..59 => Command::LiftOrder(order),
        59..68 => Command::LiftItems { order, items: ItemSource::Inline(items(rng)) },
        68..76 => Command::StayOrder(order),
        76..86 => Command::ResumeOrder(order),
        86..94 => Command::ProtectAccounts(vec![(account(rng.u64(1..=ACCOUNTS)), Category::ALL[rng.usize(0..2)])]),
        _ => Command::UnprotectAccounts(vec![account(rng.u64(1..=ACCOUNTS))]),
    }
}

fn items(rng: &mut Rng) -> Arc<ItemChunk> {
    let mut items = ItemChunk::default();
    for line in 1..=rng.u32(1..=3) {
        let id = rng.u64(1..=ACCOUNTS);
        let resolution = Resolution::Subject(Subject::Account(account(id)));
        let locator = Locator::Digits(id);
        items.push(Item { line, locator_type: "account_id", locator, resolution, decline_reason: None });
    }
    Arc::new(items)
}

fn request(rng: &mut Rng, order_id: OrderId, now: Timestamp) -> OrderRequest {
    let code = |at: usize| COUNTRIES[at].parse().unwrap();
    let mut soon = |chance: f64, from: i64, upto: i64| {
        (rng.f64() < chance).then(|| now + SignedDuration::from_millis(rng.i64(from..upto)))
    };
    let (effective_from, expires_at) = (soon(0.35, -500, 3_000), soon(0.35, -200, 6_000));
    let territory = match rng.usize(0..6) {
        at @ 0..3 => TerritorySpec::Countries(vec![code(at)]),
        3 => TerritorySpec::Countries(vec![code(0), code(2)]),
        4 => TerritorySpec::Group("EU".to_owned()),
        _ => TerritorySpec::Worldwide,
    };
    OrderRequest {
        order_id,
        instrument: Instrument::CourtOrder,
        issuing_authority: "A court".to_owned(),
        legal_basis: vec!["An act, s. 1".to_owned()],
        external_ref: String::new(),
        regime: None,
        territory,
        confidentiality: None,
        specified_items: None,
        basis: None,
        issued_at: None,
        received_at: None,
        comply_by: None,
        review_due_at: None,
        effective_from,
        expires_at,
        public_notice_url: None,
        confidential_reason: String::new(),
        redress: String::new(),
        protected_override: None,
    }
}

/// Who asks for the n-th thing.
pub fn attribution(number: usize) -> Attribution {
    let request = format!("request-{number}");
    Attribution {
        actor: "desk@example.org".into(),
        identity: None,
        reason: "".into(),
        request_digest: Digest::of(request.as_bytes()),
        request_id: request.parse().unwrap(),
    }
}
