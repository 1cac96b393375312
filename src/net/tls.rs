//! TLS for those who connect: which certificate is shown, and whether they have to show one.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::pem;

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
    /// It does not hold any more.
    #[error("the TLS certificate `{path}` has expired, at {end}: clients turn it away; put a new one in its place")]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// Since when.
        end: Timestamp,
    },
}

/// What the files have, for all listeners.
#[derive(Debug)]
pub struct TlsIdentity {
    files: TlsFiles,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Option<Vec<CertificateDer<'static>>>,
}

impl TlsFiles {
    /// The files, to be looked at for changes.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }

    /// Reads them.
    ///
    /// # Errors
    /// If a file cannot be used; it is named.
    pub fn read(&self) -> Result<TlsIdentity, TlsError> {
        Ok(TlsIdentity {
            files: self.clone(),
            certificates: pem::certificates(&self.certificate)?,
            key: pem::key(&self.key)?,
            roots: self.client_ca.as_deref().map(pem::certificates).transpose()?,
        })
    }
}

impl TlsIdentity {
    /// When the service's certificate, or one between it and the authority, ends to hold.
    #[must_use]
    pub fn expiry(&self) -> Option<Timestamp> {
        pem::expiry(&self.certificates)
    }

    /// When the first of those ends to hold who may vouch for clients.
    #[must_use]
    pub fn client_ca_expiry(&self) -> Option<Timestamp> {
        self.roots.as_deref().and_then(pem::expiry)
    }

    /// That the certificate holds.
    ///
    /// # Errors
    /// If it has ended.
    pub fn check(&self, now: Timestamp) -> Result<(), TlsError> {
        match self.expiry() {
            Some(end) if end <= now => Err(TlsError::Expired { path: self.files.certificate.clone(), end }),
            Some(_) | None => Ok(()),
        }
    }

    /// What a listener shows and asks for.
    ///
    /// # Errors
    /// If the certificate cannot be used with the key, or those who vouch for clients cannot be.
    pub fn config(&self, clients: ClientCertificate, protocols: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        let versions = match self.files.min_version {
            MinVersion::Tls12 => BOTH,
            MinVersion::Tls13 => NEW,
        };
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = builder.map_err(|error| self.pair(&error))?;
        let builder = match (clients, &self.roots) {
            (ClientCertificate::Off, _) | (_, None) => builder.with_no_client_auth(),
            (_, Some(certificates)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots.add(certificate.clone()).map_err(|error| self.unusable_ca(&error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match clients {
                    ClientCertificate::Required => verifier,
                    ClientCertificate::Optional | ClientCertificate::Off => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| self.unusable_ca(&error))?)
            }
        };
        let built = builder.with_single_cert(self.certificates.clone(), self.key.clone_key());
        let mut config = built.map_err(|error| self.pair(&error))?;
        if clients != ClientCertificate::Off {
            // Who comes back by a ticket is not asked for a certificate again, which may have ended, or be nobody's, by then.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// Why the certificate and the key are of no use together.
    fn pair(&self, error: &rustls::Error) -> TlsError {
        let fault = self.certificates.first().and_then(pem::fault_of_key);
        let why = match (fault, error) {
            (Some(fault), _) => fault,
            (None, rustls::Error::InconsistentKeys(_)) => {
                format!("the key `{}` is another one's: a certificate goes with the key it was made for", self.files.key.display())
            }
            (None, rustls::Error::General(why)) if why.contains("private key") => {
                "of its kind of key none is supported: RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384, and Ed25519 are"
                    .to_owned()
            }
            (None, error) => error.to_string(),
        };
        TlsError::Pair { path: self.files.certificate.clone(), why }
    }

    fn unusable_ca(&self, error: &dyn fmt::Display) -> TlsError {
        let path = self.files.client_ca.clone().unwrap_or_default();
        TlsError::File { path, what: format!("has nobody in it who can vouch for clients: {error}") }
    }
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
