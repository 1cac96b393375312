//! Reads what `/metrics` tells, and holds it to Prometheus's text format: version 0.0.4, as its documentation has it.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{Service, get};

/// One scrape.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// The type of each family.
    pub families: BTreeMap<String, String>,
    /// Name and labels, as they are written, to values.
    pub samples: BTreeMap<String, f64>,
    pub text: String,
}

impl Scrape {
    pub async fn of(service: &Service) -> Self {
        let (status, text) = get(&service.http, "/metrics").await;
        assert_eq!(status, 200, "{text}");
        parse(&text)
    }

    /// Of a text that was had in another way.
    pub fn read(text: &str) -> Self {
        parse(text)
    }

    /// The value of a series, written as Prometheus does: `name{label="value"}`.
    pub fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("there is no `{series}` in:\n{}", self.text))
    }

    /// A number that is whole.
    pub fn count(&self, series: &str) -> u64 {
        let value = self.value(series);
        assert!(value >= 0.0 && value.fract() == 0.0 && value < 9e15, "{series} {value}");
        value as u64
    }

    /// The revision and the digest of the state there.
    pub fn digest(&self) -> (u64, u64) {
        (self.count("withheld_revision"), self.count("withheld_state_digest"))
    }
}

fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Label names and values of `{…}`, values with nothing in them that is escaped.
fn labels(text: &str) -> Vec<(String, String)> {
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_else(|| panic!("{text}"));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or_else(|| panic!("{text}"));
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or_else(|| panic!("{text}"));
        assert!(is_name(name) && !value.contains(['"', '\\', '\n']), "{text}");
        (name.to_owned(), value.to_owned())
    };
    inner.split(',').map(pair).collect()
}

/// # Panics
/// If it is not in the format.
pub fn parse(text: &str) -> Scrape {
    assert!(text.ends_with('\n'), "the last line has no end");
    let (mut families, mut samples) = (BTreeMap::<String, String>::new(), BTreeMap::new());
    let (mut helped, mut closed) = (BTreeSet::new(), BTreeSet::new());
    let mut family = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(name) && !help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(helped.contains(name), "no help: {line}");
            closed.insert(std::mem::replace(&mut family, name.to_owned()));
            assert!(!closed.contains(name), "a family in two places: {line}");
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (name, labelled) = series.split_at(series.find('{').unwrap_or(series.len()));
            let base = match families.get(&family).map(String::as_str) {
                Some("histogram") => ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)),
                _ => Some(name),
            };
            assert!(is_name(name) && base == Some(&family), "not of its family: {line}");
            if !labelled.is_empty() {
                labels(labelled);
            }
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    let scrape = Scrape { families, samples, text: text.to_owned() };
    histograms(&scrape);
    scrape
}

/// Buckets are cumulative, from at most 50 µs on, and the last is the count.
fn histograms(scrape: &Scrape) {
    let mut buckets = BTreeMap::<String, Vec<(f64, f64)>>::new();
    for (series, value) in &scrape.samples {
        let Some((name, labelled)) = series.split_once("_bucket{") else { continue };
        let (rest, bound): (Vec<_>, Vec<_>) =
            labels(&format!("{{{labelled}")).into_iter().partition(|(label, _)| label != "le");
        let bound = bound[0].1.replace("+Inf", "inf").parse().unwrap();
        let rest: Vec<_> = rest.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let of = if rest.is_empty() { String::new() } else { format!("{{{}}}", rest.join(",")) };
        buckets.entry(format!("{name}_count{of}")).or_default().push((bound, *value));
    }
    for (count, mut buckets) in buckets {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.windows(2).all(|two| two[0].1 <= two[1].1), "{count}: {buckets:?}");
        assert_eq!(buckets[0].0, 0.000_05, "{count}");
        assert_eq!(buckets.last().unwrap(), &(f64::INFINITY, scrape.value(&count)), "{count}");
        assert!(scrape.value(&count.replacen("_count", "_sum", 1)) >= 0.0);
    }
}
