//! The country file against an independent list.

use std::collections::BTreeSet;

use withheld::domain::country::{CountryCode, ParseCountryError};

/// The codes that orders could name in the first versions of this program.
const FIRST: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ \
    BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR \
    CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR \
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU \
    ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ \
    LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ \
    MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF \
    PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI \
    SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR \
    TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

#[test]
fn the_assigned_countries_are_those_of_iso_3166() {
    let ours: BTreeSet<&str> = CountryCode::all().map(CountryCode::as_str).filter(|code| *code != "XK").collect();
    let theirs: BTreeSet<&str> =
        rust_iso3166::ALL.iter().map(|country| country.alpha2).filter(|code| *code != "XK").collect();
    assert_eq!(ours, theirs);
    assert!("XK".parse::<CountryCode>().is_ok());
}

/// Orders have been made in each of these. One that becomes another's alias would no longer be held there for viewers who
/// are said to be in it, and one that becomes unknown could not be read at all: a code is retired, and stays what it was.
#[test]
fn a_code_that_was_ever_assigned_is_assigned_or_retired() {
    assert_eq!(FIRST.split(' ').count(), 250);
    for code in FIRST.split(' ') {
        let recorded = CountryCode::recorded(code).unwrap_or_else(|| panic!("{code} cannot be read any more"));
        assert_eq!(recorded.as_str(), code);
        match code.parse::<CountryCode>() {
            Ok(today) => assert_eq!(today, recorded, "{code} stands for another"),
            Err(ParseCountryError::Retired { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
