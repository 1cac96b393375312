//! Certificates and keys in files, read so that who has made the file wrongly is told what it is and what to do.
//!
//! Knows files; nothing of how TLS is spoken.

use std::path::Path;

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::tls::TlsError;

/// The least bits of an RSA key that TLS is spoken with.
const LEAST_RSA_BITS: usize = 2_048;

/// What a file is to have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Certificates,
    Key,
}

/// All certificates of a file, in its order; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() && !has_mark(&bytes) => {
            for certificate in &certificates {
                let readable = X509Certificate::from_der(certificate).is_ok_and(|(rest, _)| rest.is_empty());
                if !readable {
                    return Err(unusable(path, "has a certificate in it that is damaged".to_owned()));
                }
            }
            Ok(certificates)
        }
        Ok(_) => Err(unusable(path, diagnosis(&bytes, Wanted::Certificates, None))),
        Err(error) => Err(unusable(path, diagnosis(&bytes, Wanted::Certificates, Some(&error.to_string())))),
    }
}

/// The key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) if !has_mark(&bytes) && !is_encrypted(&bytes) => Ok(key),
        Ok(_) => Err(unusable(path, diagnosis(&bytes, Wanted::Key, None))),
        Err(error) => Err(unusable(path, diagnosis(&bytes, Wanted::Key, Some(&error.to_string())))),
    }
}

/// When the first of these ends to hold.
pub(super) fn expiry(certificates: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let end = |certificate: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
    };
    certificates.iter().filter_map(end).min()
}

/// What is wrong with the key of a certificate, if that can be told from the certificate.
pub(super) fn fault_of_key(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < LEAST_RSA_BITS => Some(format!(
            "its RSA key has {} bits, and {LEAST_RSA_BITS} are the least: make a new one with `openssl genpkey -algorithm \
             RSA -pkeyopt rsa_keygen_bits:{LEAST_RSA_BITS}`, or one of a curve with `openssl genpkey -algorithm EC \
             -pkeyopt ec_paramgen_curve:P-256`",
            key.key_size()
        )),
        Ok(_) | Err(_) => None,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| unusable(path, format!("cannot be read: {error}")))
}

fn unusable(path: &Path, what: String) -> TlsError {
    TlsError::File { path: path.to_owned(), what }
}

/// Before the first line: what some editors write, and no reader of PEM takes.
fn has_mark(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xef\xbb\xbf")
}

fn has(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|at| at == words.as_bytes())
}

fn is_encrypted(bytes: &[u8]) -> bool {
    has(bytes, "BEGIN ENCRYPTED PRIVATE KEY") || has(bytes, "Proc-Type: 4,ENCRYPTED")
}

/// What a file is that is not what it should be, and what to do.
fn diagnosis(bytes: &[u8], wanted: Wanted, error: Option<&str>) -> String {
    let (what, convert) = match wanted {
        Wanted::Certificates => ("certificate", "openssl x509 -inform der -in FILE -out FILE.pem"),
        Wanted::Key => ("private key", "openssl pkey -inform der -in FILE -out FILE.pem"),
    };
    let other = match wanted {
        Wanted::Certificates if has(bytes, "PRIVATE KEY-----") => Some("a private key"),
        Wanted::Key if has(bytes, "BEGIN CERTIFICATE-----") => Some("a certificate"),
        _ if has(bytes, "BEGIN PKCS7") => Some("a PKCS #7 bundle"),
        _ if has(bytes, "BEGIN CERTIFICATE REQUEST") => Some("a request for a certificate"),
        _ if has(bytes, "BEGIN PUBLIC KEY") => Some("a public key"),
        _ => None,
    };
    if bytes.trim_ascii().is_empty() {
        "is empty".to_owned()
    } else if has_mark(bytes) {
        "begins with a byte order mark, which an editor has put there: save it as plain text without one".to_owned()
    } else if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        "is in UTF-16: save it as plain text".to_owned()
    } else if bytes.first() == Some(&0x30) && !has(bytes, "-----BEGIN") {
        format!("is DER, and PEM is wanted: `{convert}`")
    } else if wanted == Wanted::Key && is_encrypted(bytes) {
        "is encrypted, and nobody is there to be asked for the passphrase: decrypt it with `openssl pkey -in FILE -out \
         FILE.pem`, and let only the service read that"
            .to_owned()
    } else if let Some(other) = other {
        format!("has {other} in it, and no {what}: are two settings, or two files, exchanged?")
    } else if let Some(error) = error.filter(|_| has(bytes, "-----BEGIN")) {
        format!("has a damaged {what} in it: {error}")
    } else {
        format!("has no {what} in it: its lines should begin with `-----BEGIN {}-----`", what.to_uppercase())
    }
}
