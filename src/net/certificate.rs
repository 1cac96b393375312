//! The name in a client's certificate. Whether the certificate holds has been found out by then.

use std::sync::Arc;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a certificate says its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The SPIFFE ID, if there is one: the only URI among its alternative names, as the SPIFFE standard has it.
    spiffe: Option<Arc<str>>,
    /// The subject, as RFC 4514 writes it, in the order in which it stands there.
    subject: Arc<str>,
}

impl Names {
    /// Of a certificate in DER; `None` if it is none that can be read, or says two things.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let names = certificate.subject_alternative_name().ok()?.map_or(&[][..], |names| &names.value.general_names);
        let uris: Vec<&str> =
            names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None }).collect();
        let spiffe = match uris.as_slice() {
            [uri] if is_spiffe_id(uri) => Some(Arc::from(*uri)),
            // Not to be told which of them is meant, or one that only looks like it.
            uris if uris.iter().any(|uri| uri.to_ascii_lowercase().starts_with("spiffe:")) => return None,
            _ => None,
        };
        Some(Self { spiffe, subject: certificate.subject().to_string().into() })
    }

    /// The name that counts: the SPIFFE ID, or where there is none, the subject.
    #[must_use]
    pub fn name(&self) -> &str {
        self.spiffe.as_deref().unwrap_or(&self.subject)
    }
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
