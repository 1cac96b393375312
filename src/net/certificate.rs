//! The name in a client's certificate. Whether the certificate holds has been found out by then.

use std::sync::Arc;

use jiff::Timestamp;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

/// What a certificate says its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    name: Arc<str>,
    until: Timestamp,
}

impl Names {
    /// Of a certificate in DER; `None` if it is none that can be read, or says two things.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let until = Timestamp::from_second(certificate.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
        let names = certificate.subject_alternative_name().ok()?.map_or(&[][..], |names| &names.value.general_names);
        let uris: Vec<&str> =
            names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None }).collect();
        match uris.as_slice() {
            // The only URI among the alternative names, as the SPIFFE standard has it.
            [uri] if is_spiffe_id(uri) => Some(Self { name: Arc::from(*uri), until }),
            // Not to be told which of them is meant, or one that only looks like it.
            uris if uris.iter().any(|uri| uri.to_ascii_lowercase().starts_with("spiffe:")) => None,
            _ => subject(certificate.subject()).map(|subject| Self { name: subject.into(), until }),
        }
    }

    /// When the certificate ends to hold.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// The name that counts: the SPIFFE ID, or where there is none, the subject, its parts in the order in which they stand
    /// there and escaped as RFC 4514 has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A subject as text, so that no two subjects have the same: what stands between parts is escaped within them, or a
/// common name `alice, O=Desk` would be taken for Alice of the desk. `None` if a part is no text that can be read.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let part = |attribute: &AttributeTypeAndValue<'_>| {
        let kind = attribute.attr_type();
        let kind = oid2abbrev(kind, oid_registry()).map_or_else(|_| kind.to_id_string(), str::to_owned);
        Some(format!("{kind}={}", escaped(attribute.as_str().ok()?)))
    };
    let parts =
        |rdn: &RelativeDistinguishedName<'_>| Some(rdn.iter().map(part).collect::<Option<Vec<_>>>()?.join(" + "));
    Some(name.iter_rdn().map(parts).collect::<Option<Vec<_>>>()?.join(", "))
}

/// RFC 4514, 2.4; control characters by their bytes, too.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let at_an_end = at == 0 || at + c.len_utf8() == text.len();
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => escaped.extend(['\\', c]),
            ' ' if at_an_end => escaped.extend(['\\', c]),
            '#' if at == 0 => escaped.extend(['\\', c]),
            c if c.is_control() => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escaped.push_str(&format!("\\{byte:02X}")));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// `spiffe://TRUST-DOMAIN/PATH`, without a query, a fragment, a port or a user.
fn is_spiffe_id(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else { return false };
    let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    let is_path = |c: char| c.is_ascii_alphanumeric() || ".-_/".contains(c);
    let dots = path.split('/').any(|segment| segment == "." || segment == "..");
    uri.len() <= 2_048 && !domain.is_empty() && domain.chars().all(is_domain) && path.chars().all(is_path) && !dots
}

#[cfg(test)]
#[path = "../../fuzz/certificates.rs"]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_anothers_subject_into_a_part_of_their_own() {
        use rcgen::DnType::{CommonName, OrganizationName};
        let name = |parts: &[(rcgen::DnType, &str)]| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            parts.iter().for_each(|(kind, text)| params.distinguished_name.push(kind.clone(), *text));
            let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            Names::of(certificate.der()).map(|names| names.name().to_owned())
        };
        let alice = name(&[(CommonName, "alice"), (OrganizationName, "Desk")]);
        assert_eq!(alice.as_deref(), Some("CN=alice, O=Desk"));
        for (text, escaped) in [
            ("alice, O=Desk", r"CN=alice\, O=Desk"),
            (r"alice\, O=Desk", r"CN=alice\\\, O=Desk"),
            ("alice + O=Desk", r"CN=alice \+ O=Desk"),
            (" # ", r"CN=\ #\ "),
            ("#0500", r"CN=\#0500"),
            ("a\0b", r"CN=a\00b"),
        ] {
            assert_eq!(name(&[(CommonName, text)]).as_deref(), Some(escaped));
        }
    }
}
