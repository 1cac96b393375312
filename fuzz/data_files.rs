//! Data files, and what the platform's links name by them.

use std::collections::BTreeSet;

use super::Links;
use super::Resolution;
use crate::domain::ids::Subject;
use crate::domain::policy::Policy;
use crate::domain::regime::Regimes;
use crate::domain::territory::{DataError, Groups};

crate::fuzz::target!(data_files, check_file);
crate::fuzz::target!(locators, check_locator);

fn check_file(bytes: &[u8]) {
    let Some((which, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let refused = |error: DataError| assert!(!error.why.trim().is_empty() && error.to_string().contains(error.what));
    match which % 4 {
        0 => Regimes::parse(text).map_or_else(refused, |regimes| {
            let unknown = regimes.get("\n").unwrap_err().known;
            let names: Vec<&str> = unknown.split(", ").filter(|name| !name.is_empty()).collect();
            if !text.contains(", ") {
                assert_eq!(
                    names.iter().collect::<BTreeSet<_>>().len(),
                    names.len(),
                    "which of them is meant? {names:?}"
                );
            }
            for regime in names.iter().filter_map(|name| regimes.get(name).ok()) {
                let times = [regime.comply_within, regime.review_within];
                assert!(!times.into_iter().flatten().any(|within| within.is_negative()), "{regime:?}");
            }
        }),
        1 => Groups::parse(text).map_or_else(refused, |groups| {
            let known = groups.known();
            let names: Vec<&str> = known.split(", ").filter(|name| !name.is_empty()).collect();
            if !text.contains(", ") {
                assert_eq!(
                    names.iter().collect::<BTreeSet<_>>().len(),
                    names.len(),
                    "which of them is meant? {names:?}"
                );
            }
            assert!(names.iter().filter_map(|name| groups.get(name)).all(|group| {
                !group.countries.is_empty() && !group.code.trim().is_empty() && !group.version.trim().is_empty()
            }));
        }),
        2 => Links::parse(text).map_or_else(refused, |links| {
            names_what_is_there(&links, "url", "https://x.com/i/user/7?user_id=8");
        }),
        _ => Policy::parse(text).map_or_else(refused, |policy| assert!(policy.expires_after.is_positive())),
    }
}

fn check_locator(bytes: &[u8]) {
    let Some([kind, locator]) = crate::fuzz::parts(bytes) else { return };
    names_what_is_there(&Links::builtin(), &kind, &locator);
    names_what_is_there(&Links::builtin(), "url", &format!("https://x.com/{locator}"));
}

/// **Never-guess**: an id that is found stands there, as a whole.
fn names_what_is_there(links: &Links, kind: &str, locator: &str) {
    let Resolution::Subject(subject) = links.resolve(kind, locator) else { return };
    let id = match subject {
        Subject::Account(id) => id.get(),
        Subject::Post(id) => id.get(),
    };
    let is_it = |text: &str| text.trim_start_matches('0') == id.to_string();
    let kind = kind.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if kind != "url" {
        assert!(is_it(locator.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')));
        return assert_eq!(kind == "account_id", matches!(subject, Subject::Account(_)));
    }
    // As a browser reads it.
    let url = url::Url::parse(locator.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')).unwrap();
    let host = url.host_str().unwrap();
    assert!(links.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)), "`{locator}` leads to `{host}`");
    let mut segments = url.path_segments().unwrap();
    assert!(segments.any(is_it) || url.query_pairs().any(|(_, value)| is_it(&value)), "{locator}: {id}");
}
