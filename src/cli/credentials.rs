//! What the command line shows to the service, and what it asks the service to show.

use std::path::{Path, PathBuf};

use clap::Args;
use http::uri::Scheme;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::error::CliError;

/// See the module.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Who you are")]
pub(super) struct Credentials {
    /// Who may vouch for the service, where it speaks TLS (https://) [default: whom the system trusts]
    #[arg(long, global = true, env = "WITHHELD_CA", value_name = "PEM FILE")]
    ca: Option<PathBuf>,
    /// Your certificate, and those between it and the authority
    #[arg(long, global = true, env = "WITHHELD_CERT", value_name = "PEM FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, global = true, env = "WITHHELD_KEY", value_name = "PEM FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Your bearer token; better in the environment or a file than on the command line, where others see it
    #[arg(long, global = true, env = "WITHHELD_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file with your bearer token
    #[arg(long, global = true, env = "WITHHELD_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| CliError::usage(format!("`{}` cannot be read: {error}", path.display())))
}

impl Credentials {
    /// Whether the service is shown who calls: the record has that then, whatever is said besides.
    pub(super) const fn are_shown(&self) -> bool {
        self.cert.is_some() || self.token.is_some() || self.token_file.is_some()
    }

    /// The header that shows a token.
    pub(super) fn header(&self) -> Result<Option<MetadataValue<Ascii>>, CliError> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => String::from_utf8_lossy(&read(path)?).into_owned(),
            (None, None) => return Ok(None),
        };
        // What is wrong with it is not printed: it is a secret.
        let bad = || CliError::usage("the token is empty, or not one line of letters, digits and punctuation");
        let mut header: MetadataValue<Ascii> = format!("Bearer {}", token.trim()).parse().map_err(|_| bad())?;
        if token.trim().is_empty() {
            return Err(bad());
        }
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// The endpoint, as it is to be connected to.
    pub(super) fn endpoint(&self, url: &str) -> Result<Endpoint, CliError> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|_| CliError::usage(format!("`{url}` is not an endpoint: write https://HOST:PORT")))?;
        let scheme = endpoint.uri().scheme();
        if scheme == Some(&Scheme::HTTPS) {
            return endpoint.tls_config(self.tls()?).map_err(|error| CliError::usage(format!("`{url}`: {error}")));
        }
        if scheme != Some(&Scheme::HTTP) {
            return Err(CliError::usage(format!("`{url}` is not an endpoint: write https://HOST:PORT")));
        }
        let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
        let on_loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if self.ca.is_some() || self.cert.is_some() {
            return Err(CliError::usage(format!("certificates are for TLS, and `{url}` is without: write https://")));
        }
        if self.are_shown() && !on_loopback {
            let why = "everybody on the way could read the token: write https://";
            return Err(CliError::usage(format!("`{url}` is without TLS, and {why}")));
        }
        Ok(endpoint)
    }

    fn tls(&self) -> Result<ClientTlsConfig, CliError> {
        let tls = match &self.ca {
            Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        Ok(match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => tls.identity(Identity::from_pem(read(cert)?, read(key)?)),
            _ => tls,
        })
    }
}
