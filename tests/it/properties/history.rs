//! Random histories: what desks ask for over some hours, sense and nonsense, on a few subjects that orders fight over.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use withheld::domain::decide::Command;
use withheld::domain::digest::Digest;
use withheld::domain::event::Attribution;
use withheld::domain::ids::{AccountId, OrderId, PostId, Subject, UploadId};
use withheld::domain::item::ItemChunk;
use withheld::domain::locator::Links;
use withheld::domain::plan::{ItemSource, OrderRequest};
use withheld::domain::protection::Category;
use withheld::domain::regime::Confidentiality;
use withheld::domain::spec::{Correspondence, CorrespondenceKind, Instrument, ProtectedOverride};
use withheld::domain::territory::TerritorySpec;

/// Subjects there are: this many accounts and as many posts.
pub const SUBJECTS: u64 = 6;

/// A line: what it is written as, which subject, whether the desk declines it.
#[derive(Clone, Copy)]
pub struct Line(u8, u64, bool);

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, locator, declined) = written(*self);
        write!(f, "{kind} {locator}{}", if declined { " declined" } else { "" })
    }
}

/// What somebody asks for.
#[derive(Debug, Clone)]
pub enum Ask {
    Stage {
        upload: u8,
        lines: Vec<Line>,
    },
    Discard {
        minutes: i64,
    },
    Apply {
        order: u8,
        upload: Option<u8>,
        lines: Vec<Line>,
        own: bool,
        place: u8,
        secret: u8,
        from: Option<i64>,
        until: Option<i64>,
        /// Withhold protected accounts all the same.
        over: bool,
    },
    Approve {
        order: u8,
        /// By whoever proposed it, under a name that only looks like another.
        own: bool,
    },
    Reject {
        order: u8,
    },
    Lift {
        order: u8,
    },
    LiftItems {
        order: u8,
        lines: Vec<Line>,
    },
    Stay {
        order: u8,
    },
    Resume {
        order: u8,
    },
    Note {
        order: u8,
    },
    Protect {
        account: u64,
        category: u8,
    },
    Unprotect {
        account: u64,
    },
}

/// One step: time passes, then somebody asks for something.
#[derive(Clone)]
pub struct Step {
    /// Minutes; times are whole minutes, so that many steps fall exactly on a start or an end.
    pub minutes: i64,
    pub ask: Ask,
}

/// One line a step, so that a failing history can be read.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("+{} min {:?}", self.minutes, self.ask))
    }
}

fn line() -> impl Strategy<Value = Line> {
    let kind = prop_oneof![6 => Just(0_u8), 3 => Just(1), 2 => Just(2), 1 => 3..8_u8];
    (kind, 1..=SUBJECTS, prop::bool::weighted(0.1)).prop_map(|(kind, subject, declined)| Line(kind, subject, declined))
}

fn ask() -> impl Strategy<Value = Ask> {
    // Changes are asked for of the first few orders, which are there soon.
    let (order, upload) = (0..3_u8, 0..3_u8);
    let known = (prop_oneof![2 => Just(0_u8), 1 => Just(2)], 1..=SUBJECTS).prop_map(|(kind, id)| Line(kind, id, false));
    let apply = (
        0..4_u8,
        option::weighted(0.3, upload.clone()),
        vec(line(), 0..8),
        prop::bool::weighted(0.2),
        0..6_u8,
        0..4_u8,
        option::weighted(0.4, -3..12_i64),
        option::weighted(0.3, -1..30_i64),
        prop::bool::weighted(0.2),
    );
    prop_oneof![
        3 => (upload, vec(line(), 0..7)).prop_map(|(upload, lines)| Ask::Stage { upload, lines }),
        1 => (0..60_i64).prop_map(|minutes| Ask::Discard { minutes }),
        10 => apply.prop_map(|(order, upload, lines, own, place, secret, from, until, over)| {
            Ask::Apply { order, upload, lines, own, place, secret, from, until, over }
        }),
        12 => (order.clone(), prop::bool::weighted(0.1)).prop_map(|(order, own)| Ask::Approve { order, own }),
        2 => order.clone().prop_map(|order| Ask::Reject { order }),
        4 => order.clone().prop_map(|order| Ask::Lift { order }),
        9 => (order.clone(), vec(known, 1..2)).prop_map(|(order, lines)| Ask::LiftItems { order, lines }),
        1 => (order.clone(), vec(line(), 0..4)).prop_map(|(order, lines)| Ask::LiftItems { order, lines }),
        3 => order.clone().prop_map(|order| Ask::Stay { order }),
        4 => order.clone().prop_map(|order| Ask::Resume { order }),
        1 => order.prop_map(|order| Ask::Note { order }),
        3 => (1..=SUBJECTS, 0..5_u8).prop_map(|(account, category)| Ask::Protect { account, category }),
        1 => (1..=SUBJECTS).prop_map(|account| Ask::Unprotect { account }),
    ]
}

/// A history of up to so many steps.
pub fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    vec((0..8_i64, ask()).prop_map(|(minutes, ask)| Step { minutes, ask }), 1..most)
}

pub fn noon() -> Timestamp {
    "2021-02-01T12:00:00Z".parse().unwrap()
}

pub fn minutes(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

/// Every account and post there is.
pub fn subjects() -> Vec<Subject> {
    let accounts = (1..=SUBJECTS).map(|id| Subject::Account(AccountId::try_from(id).unwrap()));
    accounts.chain((1..=SUBJECTS).map(|id| Subject::Post(PostId::try_from(id).unwrap()))).collect()
}

/// A line as it stands in a list.
pub fn written(line: Line) -> (String, String, bool) {
    let Line(kind, id, declined) = line;
    let (kind, locator) = match kind {
        0 => ("account_id", id.to_string()),
        1 => ("post_id", id.to_string()),
        2 => ("url", format!("https://twitter.com/x/status/{id}")),
        3 => ("handle", format!("@user{id}")),
        4 => ("hashtag", format!("#tag{id}")),
        5 => ("account_id", format!("{id}E+18")),
        6 => ("url", format!("https://example.org/{id}")),
        _ => ("street", id.to_string()),
    };
    (kind.to_owned(), locator, declined)
}

fn mk_items(lines: &[Line]) -> Arc<ItemChunk> {
    let (links, mut items) = (Links::builtin(), ItemChunk::default());
    for (number, line) in (1..).zip(lines) {
        let (kind, locator, declined) = written(*line);
        items.receive(number, &kind, &locator, declined.then_some("satire"), &links);
    }
    Arc::new(items)
}

fn order_id(order: u8) -> OrderId {
    format!("order-{order}").parse().unwrap()
}

fn upload_id(upload: u8) -> UploadId {
    format!("upload-{upload}").parse().unwrap()
}

fn mk_request(ask: &Ask, now: Timestamp) -> OrderRequest {
    let Ask::Apply { order, lines, own, place, secret, from, until, over, .. } = ask else {
        panic!("{ask:?} is no order")
    };
    let countries = |codes: &[&str]| TerritorySpec::Countries(codes.iter().map(|code| code.parse().unwrap()).collect());
    OrderRequest {
        order_id: order_id(*order),
        instrument: if *own { Instrument::OwnRules } else { Instrument::CourtOrder },
        issuing_authority: "A court".to_owned(),
        legal_basis: vec!["An act, s. 1".to_owned()],
        external_ref: String::new(),
        regime: None,
        territory: match place {
            0 => countries(&["IN"]),
            1 => countries(&["DE", "IN"]),
            2 => countries(&["FR"]),
            3 => TerritorySpec::Group("EU".to_owned()),
            4 => TerritorySpec::Group("EEA".to_owned()),
            _ => TerritorySpec::Worldwide,
        },
        confidentiality: match secret {
            0 => None,
            1 => Some(Confidentiality::Public),
            2 => Some(Confidentiality::NoticeProhibited),
            _ => Some(Confidentiality::Sealed),
        },
        specified_items: None,
        basis: None,
        issued_at: None,
        received_at: None,
        comply_by: None,
        review_due_at: None,
        effective_from: from.map(|from| now + minutes(from)),
        expires_at: until.map(|until| now + minutes(until)),
        public_notice_url: None,
        confidential_reason: String::new(),
        redress: String::new(),
        protected_override: over.then(|| mk_override(lines)).flatten(),
    }
}

/// Of every account that the lines name.
fn mk_override(lines: &[Line]) -> Option<ProtectedOverride> {
    let account = |line: &Line| (line.0 == 0).then(|| AccountId::try_from(line.1).unwrap());
    let accounts: Vec<AccountId> = lines.iter().filter_map(account).collect();
    (!accounts.is_empty()).then(|| ProtectedOverride { accounts, reason: "a court said so".to_owned() })
}

/// The command that is asked for at a time.
pub fn mk_command(ask: &Ask, now: Timestamp) -> Command {
    let account = |id: u64| AccountId::try_from(id).unwrap();
    match ask {
        Ask::Stage { upload, lines } => Command::StageItems { upload: upload_id(*upload), items: mk_items(lines) },
        Ask::Discard { minutes: age } => Command::DiscardUploads { before: now - minutes(*age) },
        Ask::Apply { upload, lines, .. } => {
            let items =
                upload.map_or_else(|| ItemSource::Inline(mk_items(lines)), |n| ItemSource::Staged(upload_id(n)));
            Command::ApplyOrder { order: Box::new(mk_request(ask, now)), items, preview: None }
        }
        Ask::Approve { order, .. } => Command::ApproveOrder { order: order_id(*order), digest: None },
        Ask::Reject { order } => Command::RejectOrder(order_id(*order)),
        Ask::Lift { order } => Command::LiftOrder(order_id(*order)),
        Ask::LiftItems { order, lines } => {
            Command::LiftItems { order: order_id(*order), items: ItemSource::Inline(mk_items(lines)) }
        }
        Ask::Stay { order } => Command::StayOrder(order_id(*order)),
        Ask::Resume { order } => Command::ResumeOrder(order_id(*order)),
        Ask::Note { order } => {
            let (kind, text, external_ref) = (CorrespondenceKind::Meeting, "they met".to_owned(), String::new());
            let correspondence = Correspondence { kind, at: now, text, external_ref };
            Command::RecordCorrespondence { order: order_id(*order), correspondence }
        }
        Ask::Protect { account: id, category } => {
            Command::ProtectAccounts(vec![(account(*id), Category::ALL[usize::from(*category)])])
        }
        Ask::Unprotect { account: id } => Command::UnprotectAccounts(vec![account(*id)]),
    }
}

/// Who asks for this, as the n-th thing: approvals are a second person's, or say so.
pub fn mk_by_of(ask: &Ask, number: usize) -> Attribution {
    let actor = match ask {
        Ask::Approve { own: false, .. } => "second@example.org",
        Ask::Approve { own: true, .. } => " DESK@example.org",
        _ => "desk@example.org",
    };
    Attribution { actor: actor.into(), ..mk_by(number) }
}

/// Who asks for the n-th thing.
pub fn mk_by(number: usize) -> Attribution {
    let request = format!("request-{number}");
    Attribution {
        actor: "desk@example.org".into(),
        identity: None,
        reason: "why".into(),
        request_digest: Digest::of(request.as_bytes()),
        request_id: request.parse().unwrap(),
    }
}
