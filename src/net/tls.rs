//! TLS for those who connect: which certificate is shown, and whether they have to show one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Whether who connects has to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientCertificate {
    /// None is asked for.
    Off,
    /// One is asked for; who has none may be known by a token.
    Optional,
    /// Without one nobody gets in.
    Required,
}

/// The oldest version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MinVersion {
    /// 1.2, for old clients.
    #[value(name = "1.2")]
    Tls12,
    /// 1.3
    #[value(name = "1.3")]
    Tls13,
}

/// The files, and what they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The service's certificate and those between it and the authority, in PEM.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who may vouch for clients.
    pub client_ca: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is not there, or not what it should be.
    #[error("the TLS file `{path}` {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The certificate and the key do not belong together, or are of no use.
    #[error("the TLS certificate `{path}` cannot be used with its key: {why}")]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl TlsFiles {
    /// The files, to be looked at for changes.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }

    /// What a listener shows and asks for.
    ///
    /// # Errors
    /// If a file cannot be used; it is named.
    pub fn config(&self, clients: ClientCertificate, protocols: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        let versions = match self.min_version {
            MinVersion::Tls12 => BOTH,
            MinVersion::Tls13 => NEW,
        };
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let pair = |why: rustls::Error| TlsError::Pair { path: self.certificate.clone(), why: why.to_string() };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = builder.map_err(pair)?;
        let builder = match (clients, &self.client_ca) {
            (ClientCertificate::Off, _) | (_, None) => builder.with_no_client_auth(),
            (_, Some(path)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unusable(path, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match clients {
                    ClientCertificate::Required => verifier,
                    ClientCertificate::Optional | ClientCertificate::Off => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(path, &error))?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable(&self.key, &error))?;
        let mut config = builder.with_single_cert(certificates(&self.certificate)?, key).map_err(pair)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

fn unusable(path: &Path, error: &dyn fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), what: format!("cannot be used: {error}") }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unusable(path, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::File { path: path.to_owned(), what: "has no certificate in it".to_owned() });
    }
    Ok(certificates)
}

/// The TLS of one listener. A clone is the same; what it shows can be replaced for those who connect from then on.
#[derive(Debug, Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// That shows this.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// From now on shows this.
    pub fn show(&self, config: ServerConfig) {
        self.0.store(Arc::new(config));
    }

    /// Shakes hands with who has connected.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.0.load_full());
        tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}
