//! TLS, and who may do what.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::values::Contradiction;
use crate::net::{ClientCertificate, MinVersion, TlsFiles};

/// TLS, and who may do what.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Who may do what")]
pub struct AccessArgs {
    /// The service's certificate, and those between it and the authority: every listener speaks TLS then
    #[arg(long, env = "WITHHELD_TLS_CERT", value_name = "PEM FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "WITHHELD_TLS_KEY", value_name = "PEM FILE")]
    pub tls_key: Option<PathBuf>,
    /// Who may vouch for clients' certificates
    #[arg(long, env = "WITHHELD_TLS_CLIENT_CA", value_name = "PEM FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// The oldest version of TLS that is spoken
    #[arg(long, env = "WITHHELD_TLS_MIN_VERSION", default_value = "1.3", value_name = "VERSION")]
    pub tls_min_version: MinVersion,
    /// Whether timeline services have to show a certificate
    #[arg(long, env = "WITHHELD_CLIENT_CERT", default_value = "optional", value_name = "WHETHER")]
    pub client_cert: ClientCertificate,
    /// Whether operators have to; who shows none can be known by a token
    #[arg(long, env = "WITHHELD_ADMIN_CLIENT_CERT", default_value = "optional", value_name = "WHETHER")]
    pub admin_client_cert: ClientCertificate,
    /// Whether who scrapes has to
    #[arg(long, env = "WITHHELD_HTTP_CLIENT_CERT", default_value = "off", value_name = "WHETHER")]
    pub http_client_cert: ClientCertificate,
    /// Speak without TLS on other addresses than loopback: where something else encrypts
    #[arg(long, env = "WITHHELD_INSECURE", default_value_t = false, value_name = "BOOL", action = clap::ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure: bool,
    /// Who there is, and what each may do; without it nobody is asked
    #[arg(long, env = "WITHHELD_ACCESS", value_name = "FILE")]
    pub access: Option<PathBuf>,
}

impl AccessArgs {
    /// The files of TLS, if it is spoken.
    #[must_use]
    pub fn tls_files(&self) -> Option<TlsFiles> {
        let (certificate, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        let (client_ca, min_version) = (self.tls_client_ca.clone(), self.tls_min_version);
        Some(TlsFiles { certificate, key, client_ca, min_version })
    }

    /// That they go together, for listeners on these addresses.
    pub(super) fn check(
        &self,
        mut listeners: impl Iterator<Item = (&'static str, SocketAddr)>,
        admin: SocketAddr,
    ) -> Result<(), Contradiction> {
        let [cert, key] = ["tls-cert", "tls-key"];
        let half = |given, missing| Err(Contradiction::HalfIdentity { given, missing });
        match (&self.tls_cert, &self.tls_key, &self.tls_client_ca) {
            (Some(_), None, _) => return half(cert, key),
            (None, Some(_), _) => return half(key, cert),
            (None, None, Some(_)) => return half("tls-client-ca", cert),
            _ => {}
        }
        let required = [
            ("client-cert", self.client_cert),
            ("admin-client-cert", self.admin_client_cert),
            ("http-client-cert", self.http_client_cert),
        ];
        let missing = match (&self.tls_cert, &self.tls_client_ca) {
            (None, _) => Some("TLS is not spoken"),
            (Some(_), None) => Some("nobody vouches for clients"),
            (Some(_), Some(_)) => None,
        };
        let required = required.into_iter().find(|(_, whether)| *whether == ClientCertificate::Required);
        if let (Some(why), Some((setting, _))) = (missing, required) {
            return Err(Contradiction::NobodyVouches { setting, why });
        }
        let on_loopback = |address: SocketAddr| address.ip().is_loopback();
        if self.tls_cert.is_none()
            && !self.insecure
            && let Some((setting, address)) = listeners.find(|(_, address)| !on_loopback(*address))
        {
            return Err(Contradiction::Plaintext { setting, address });
        }
        if self.access.is_none() && !on_loopback(admin) {
            return Err(Contradiction::NobodyAsked { address: admin });
        }
        Ok(())
    }
}
