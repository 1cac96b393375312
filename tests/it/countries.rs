//! The country file against an independent list.

use std::collections::BTreeSet;

use withheld::domain::country::CountryCode;

#[test]
fn the_assigned_countries_are_those_of_iso_3166() {
    let ours: BTreeSet<&str> = CountryCode::all().map(CountryCode::as_str).filter(|code| *code != "XK").collect();
    let theirs: BTreeSet<&str> =
        rust_iso3166::ALL.iter().map(|country| country.alpha2).filter(|code| *code != "XK").collect();
    assert_eq!(ours, theirs);
    assert!("XK".parse::<CountryCode>().is_ok());
}
