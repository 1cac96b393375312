//! Order files: what is read from one is read again from a file that says the same.

use super::{parse, pb};
use toml::{Table, Value};

crate::fuzz::target!(order_files, check);

fn word(name: &str, prefix: &str) -> Value {
    name.strip_prefix(prefix).unwrap().to_lowercase().into()
}

/// A file that says the same.
fn written(spec: &pb::OrderSpec) -> Table {
    use pb::territory::Territory;
    let mut file = Table::new();
    let mut put = |key: &str, value: Option<Value>| drop(value.map(|value| file.insert(key.to_owned(), value)));
    let list = |texts: &[String]| Value::Array(texts.iter().map(|text| text.clone().into()).collect());
    put("order_id", Some(spec.order_id.clone().into()));
    put("instrument", Some(word(spec.instrument().as_str_name(), "INSTRUMENT_")));
    put("issuing_authority", Some(spec.issuing_authority.clone().into()));
    put("legal_basis", Some(list(&spec.legal_basis)));
    put("external_ref", Some(spec.external_ref.clone().into()));
    put("regime", Some(spec.regime.clone().into()));
    let confidentiality = (spec.confidentiality != 0).then(|| spec.confidentiality().as_str_name());
    put("confidentiality", confidentiality.map(|name| word(name, "CONFIDENTIALITY_")));
    put("specified_items", spec.specified_items.map(|n| i64::try_from(n).unwrap().into()));
    put("basis", (spec.basis != 0).then(|| word(spec.basis().as_str_name(), "BASIS_")));
    for (key, time) in [
        ("issued_at", spec.issued_at),
        ("received_at", spec.received_at),
        ("comply_by", spec.comply_by),
        ("review_due_at", spec.review_due_at),
        ("effective_from", spec.effective_from),
        ("expires_at", spec.expires_at),
    ] {
        put(
            key,
            time.map(|t| {
                // As protobuf has it: also before 1970 a part of a second is positive.
                assert!((0..1_000_000_000).contains(&t.nanos), "{key}: {t:?}");
                jiff::Timestamp::new(t.seconds, t.nanos).unwrap().to_string().into()
            }),
        );
    }
    put("public_notice_url", Some(spec.public_notice_url.clone().into()));
    put("confidential_reason", Some(spec.confidential_reason.clone().into()));
    put("redress", Some(spec.redress.clone().into()));
    let (key, value) = match spec.territory.clone().unwrap().territory.unwrap() {
        Territory::Countries(countries) => ("countries", list(&countries.country_codes)),
        Territory::Group(group) => ("group", group.into()),
        Territory::Worldwide(worldwide) => ("worldwide", worldwide.into()),
    };
    put("territory", Some(Table::from_iter([(key.to_owned(), value)]).into()));
    let over = spec.protected_override.as_ref().map(|over| {
        let accounts: Vec<String> = over.account_ids.iter().map(ToString::to_string).collect();
        Table::from_iter([("accounts".to_owned(), list(&accounts)), ("reason".to_owned(), over.reason.clone().into())])
    });
    put("protected_override", over.map(Into::into));
    file
}

/// Values that are the same, however they are written.
fn said(key: &str, value: &Value) -> Value {
    let text = value.as_str().map(str::to_owned).or(value.as_datetime().map(ToString::to_string));
    match text.and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(time) if key.ends_with("_at") || key.ends_with("_by") || key.ends_with("_from") => time.to_string().into(),
        _ => value.clone(),
    }
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let spec = match parse(text) {
        Ok(spec) => spec,
        Err(why) => return assert!(!why.trim().is_empty(), "{text}"),
    };
    let again = written(&spec);
    assert_eq!(parse(&toml::to_string(&again).unwrap()), Ok(spec));
    // Whatever was written is there, under its name.
    for (key, value) in text.parse::<Table>().unwrap() {
        if key == "protected_override" {
            assert_eq!(again[&key]["reason"], value["reason"]);
        } else {
            assert_eq!(again.get(&key), Some(&said(&key, &value)), "{key}");
        }
    }
}
