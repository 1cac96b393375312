//! Names in certificates: at most one, and nobody can have another's by writing it into a part of their own.

use std::sync::LazyLock;

use rcgen::{CertificateParams, DnType, KeyPair};
use x509_parser::extensions::ParsedExtension;

use super::{GeneralName, Names, X509Certificate};
use x509_parser::prelude::FromDer as _;

crate::fuzz::target!(certificates, check);
crate::fuzz::target!(certificate_subjects, check_subject);

fn check(der: &[u8]) {
    let Some(names) = Names::of(der) else { return };
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let mut uris = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(san) = extension.parsed_extension() {
            uris.extend(san.general_names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            }));
        }
    }
    let ids: Vec<_> = uris.iter().filter(|uri| uri.to_ascii_lowercase().starts_with("spiffe:")).collect();
    assert!(ids.is_empty() || uris.len() == 1, "{uris:?}");
    match ids.as_slice() {
        [id] => assert_eq!(names.name(), **id),
        _ => assert!(!names.name().starts_with("spiffe:"), "{names:?}"),
    }
}

type Attributes = Vec<(DnType, String)>;

/// The name of a certificate with these attributes for its subject, each in a part of its own.
fn name(attributes: &Attributes) -> Option<String> {
    static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    attributes.iter().for_each(|(kind, value)| params.distinguished_name.push(kind.clone(), value.as_str()));
    Names::of(params.self_signed(&*KEY).ok()?.der()).map(|names| names.name().to_owned())
}

fn check_subject(bytes: &[u8]) {
    let kinds = [DnType::CommonName, DnType::OrganizationName, DnType::OrganizationalUnitName, DnType::CountryName];
    let mut attributes = Attributes::new();
    for part in bytes.split(|byte| *byte == 0).filter(|part| part.len() > 1) {
        let kind = kinds[usize::from(part[0]) % kinds.len()].clone();
        if !attributes.iter().any(|(known, _)| *known == kind) {
            attributes.push((kind, String::from_utf8_lossy(&part[1..]).into_owned()));
        }
    }
    let Some(victim) = name(&attributes) else { return };
    // An authority vouches for whatever text somebody has as a common name.
    let Some(text) = victim.strip_prefix("CN=") else { return };
    for text in [text.to_owned(), text.replace('\\', "")] {
        let thief: Attributes = vec![(DnType::CommonName, text)];
        assert!(thief == attributes || name(&thief).as_ref() != Some(&victim), "{thief:?} is taken for {attributes:?}");
    }
}
