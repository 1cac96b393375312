//! Reads an order file: TOML with the field names of the domain.

use std::path::Path;

use serde::Deserialize;

use super::error::CliError;
use crate::domain::ids::AccountId;
use crate::pb::v1 as pb;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderFile {
    order_id: String,
    instrument: String,
    issuing_authority: String,
    legal_basis: Vec<String>,
    territory: Territory,
    #[serde(default)]
    external_ref: String,
    #[serde(default)]
    regime: String,
    confidentiality: Option<String>,
    specified_items: Option<u64>,
    basis: Option<String>,
    issued_at: Option<Time>,
    received_at: Option<Time>,
    comply_by: Option<Time>,
    review_due_at: Option<Time>,
    effective_from: Option<Time>,
    expires_at: Option<Time>,
    #[serde(default)]
    public_notice_url: String,
    #[serde(default)]
    confidential_reason: String,
    #[serde(default)]
    redress: String,
    protected_override: Option<Override>,
}

/// Protected accounts to withhold all the same.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    /// As text: TOML's numbers are too small for some of them.
    accounts: Vec<String>,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Territory {
    countries: Option<Vec<String>>,
    group: Option<String>,
    worldwide: Option<bool>,
}

/// A TOML date-time, or a text like one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Time {
    Toml(toml::value::Datetime),
    Text(String),
}

/// The order of a file.
pub(super) fn read(path: &Path) -> Result<pb::OrderSpec, CliError> {
    let bytes = std::fs::read(path)
        .map_err(|error| CliError::usage(format!("the order file `{}` cannot be read: {error}", path.display())))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::usage(format!("the order file `{}` is not UTF-8: save it as UTF-8", path.display())))?;
    parse(&text).map_err(|why| CliError::usage(format!("the order file `{}` is not right: {why}", path.display())))
}

/// A word as an enum's number, by the names of the public API.
fn number<E: TryFrom<i32>>(field: &str, word: &str, name: fn(&E) -> &'static str, prefix: &str) -> Result<i32, String> {
    let known: Vec<(i32, String)> =
        (1..16).filter_map(|n| E::try_from(n).ok().map(|e| (n, super::show::word(name(&e), prefix)))).collect();
    known.iter().find(|(_, known)| known == word).map(|(n, _)| *n).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(_, word)| word.as_str()).collect();
        format!("{field} = `{word}` is not one of {}", words.join(", "))
    })
}

fn time(field: &str, time: Option<Time>) -> Result<Option<prost_types::Timestamp>, String> {
    let text = match time {
        None => return Ok(None),
        Some(Time::Toml(time)) => time.to_string(),
        Some(Time::Text(text)) => text,
    };
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        format!("{field} = `{text}` is not a time with its offset: write it like 2021-02-01T09:00:00+05:30")
    })?;
    Ok(Some(crate::pb::time(at)))
}

fn territory(territory: Territory) -> Result<pb::Territory, String> {
    use pb::territory::Territory as Pb;
    let territory = match territory {
        Territory { countries: Some(country_codes), group: None, worldwide: None } => {
            Pb::Countries(pb::CountryList { country_codes })
        }
        Territory { countries: None, group: Some(group), worldwide: None } => Pb::Group(group),
        Territory { countries: None, group: None, worldwide: Some(true) } => Pb::Worldwide(true),
        _ => {
            let ways = "countries = [\"IN\"], group = \"EU\", or worldwide = true";
            return Err(format!("[territory] has exactly one of {ways}"));
        }
    };
    Ok(pb::Territory { territory: Some(territory) })
}

fn protected_override(over: Override) -> Result<pb::ProtectedOverride, String> {
    let id = |text: &String| {
        let id = text.parse::<AccountId>().map(AccountId::get);
        id.map_err(|why| format!("protected_override.accounts: `{text}` is not an account id: {why}"))
    };
    let account_ids: Result<Vec<u64>, String> = over.accounts.iter().map(id).collect();
    Ok(pb::ProtectedOverride { account_ids: account_ids?, reason: over.reason })
}

/// What is wrong with the TOML, in the words of who writes it.
fn explained(error: &toml::de::Error) -> String {
    let said = error.to_string();
    let mut said = said
        .trim_end()
        .replace("expected a sequence", "expected a list, like [\"this\"]")
        .replace("expected u64", "expected a number of items, like 1435");
    // A table goes on until the next one begins.
    if said.contains("expected one of `countries`, `group`, `worldwide`") {
        said.push_str("\nhint: what stands below [territory] belongs to it: write the order's own fields above");
    }
    said
}

fn parse(text: &str) -> Result<pb::OrderSpec, String> {
    let file: OrderFile = toml::from_str(text).map_err(|error| explained(&error))?;
    let instrument = |e: &pb::Instrument| e.as_str_name();
    let confidentiality = |e: &pb::Confidentiality| e.as_str_name();
    let basis = |e: &pb::Basis| e.as_str_name();
    let or_unset = |n: Option<Result<i32, String>>| n.transpose().map(Option::unwrap_or_default);
    Ok(pb::OrderSpec {
        order_id: file.order_id,
        instrument: number::<pb::Instrument>("instrument", &file.instrument, instrument, "INSTRUMENT_")?,
        issuing_authority: file.issuing_authority,
        legal_basis: file.legal_basis,
        external_ref: file.external_ref,
        regime: file.regime,
        territory: Some(territory(file.territory)?),
        confidentiality: or_unset(
            file.confidentiality.map(|word| {
                number::<pb::Confidentiality>("confidentiality", &word, confidentiality, "CONFIDENTIALITY_")
            }),
        )?,
        specified_items: file.specified_items,
        basis: or_unset(file.basis.map(|word| number::<pb::Basis>("basis", &word, basis, "BASIS_")))?,
        issued_at: time("issued_at", file.issued_at)?,
        received_at: time("received_at", file.received_at)?,
        comply_by: time("comply_by", file.comply_by)?,
        review_due_at: time("review_due_at", file.review_due_at)?,
        effective_from: time("effective_from", file.effective_from)?,
        expires_at: time("expires_at", file.expires_at)?,
        public_notice_url: file.public_notice_url,
        confidential_reason: file.confidential_reason,
        redress: file.redress,
        protected_override: file.protected_override.map(protected_override).transpose()?,
    })
}

#[cfg(test)]
#[path = "../../fuzz/order_files.rs"]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "order_id = 'a'\ninstrument = 'court_order'\nissuing_authority = 'b'\nlegal_basis = ['c']\n";

    #[test]
    fn the_least_order_is_enough() {
        let spec = parse(&format!("{LEAST}[territory]\ncountries = ['IN']\n")).unwrap();
        assert_eq!(spec.instrument, i32::from(pb::Instrument::CourtOrder));
        assert_eq!(spec.specified_items, None);
    }

    #[test]
    fn an_override_names_accounts_and_says_why() {
        let with = |over: &str| parse(&format!("{LEAST}[territory]\ngroup = 'EU'\n[protected_override]\n{over}\n"));
        let over = with("accounts = ['18446744073709551615', '7']\nreason = 'a court said so'").unwrap();
        assert_eq!(over.protected_override.unwrap().account_ids, [u64::MAX, 7]);
        for (bad, says) in [
            ("accounts = ['1.2E+18']\nreason = 'r'", "`1.2E+18` is not an account id"),
            ("accounts = ['+7']\nreason = 'r'", "`+7` is not an account id"),
            ("accounts = ['0']\nreason = 'r'", "`0` is not an id"),
            ("accounts = [7]\nreason = 'r'", "expected a string"),
            ("accounts = ['7']", "reason"),
            ("reason = 'r'", "accounts"),
        ] {
            let error = with(bad).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn times_carry_their_offset() {
        let with = |time: &str| parse(&format!("{LEAST}received_at = {time}\n[territory]\ngroup = 'EU'\n"));
        let at = with("2021-02-01T09:00:00+05:30").unwrap().received_at.unwrap();
        assert_eq!(at.seconds, 1_612_150_200);
        assert_eq!(with("'2021-02-01T03:30:00Z'").unwrap().received_at.unwrap(), at);
        for bad in ["2021-02-01T09:00:00", "2021-02-01", "'tomorrow'"] {
            assert!(with(bad).unwrap_err().contains("received_at = `"), "{bad}");
        }
    }

    #[test]
    fn a_part_of_a_second_before_1970_is_counted_forward_as_protobuf_has_it() {
        let text = format!("{LEAST}issued_at = 1969-12-31T23:59:59.5Z\n[territory]\ngroup = 'EU'\n");
        let at = parse(&text).unwrap().issued_at.unwrap();
        assert_eq!((at.seconds, at.nanos), (-1, 500_000_000));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            (format!("{LEAST}[territory]\n"), "exactly one of"),
            (format!("{LEAST}[territory]\nworldwide = false\n"), "exactly one of"),
            (format!("{LEAST}[territory]\ncountries = ['IN']\ngroup = 'EU'\n"), "exactly one of"),
            (format!("{LEAST}expires = 1\n[territory]\ngroup = 'EU'\n"), "expires"),
            (
                LEAST.replace("court_order", "letter") + "[territory]\ngroup = 'EU'\n",
                "`letter` is not one of court_order",
            ),
            (LEAST.to_owned(), "territory"),
            (format!("{LEAST}[territory]\ngroup = 'EU'\nspecified_items = 1\n"), "hint: what stands below [territory]"),
            (format!("{LEAST}[territory]\ncountries = 'IN'\n"), "expected a list"),
            (format!("{LEAST}specified_items = -1\n[territory]\ngroup = 'EU'\n"), "expected a number of items"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
