//! How servers are started: which program, and with which settings. Alike for one server, a group and a cluster.

use super::ports::Port;
use super::program::ServerProgram;
use super::tls::Certificates;

/// How servers are started: all of a group, or one.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The one that the environment asks for, unless told otherwise.
    pub program: ServerProgram,
    /// More lines of their configuration, as `"maxmemory 2mb"`; a later line replaces an earlier one.
    pub lines: &'a [&'a str],
    /// They speak TLS only, among themselves too, and refuse who has no certificate of the same authority.
    pub tls: Option<&'a Certificates>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { program: ServerProgram::from_env(), lines: &[], tls: None }
    }
}

impl Setup<'_> {
    /// The lines, and those that come of the rest.
    pub(super) fn all_lines(&self, port: &Port) -> Vec<String> {
        let mut lines: Vec<String> = self.lines.iter().map(|&line| line.to_owned()).collect();
        lines.extend(self.tls.map(|certificates| tls_lines(certificates, port, true)).into_iter().flatten());
        lines
    }
}

/// What makes a server or a Sentinel speak nothing but TLS.
pub(super) fn tls_lines(certificates: &Certificates, port: &Port, client_certificates: bool) -> Vec<String> {
    vec![
        "port 0".to_owned(),
        format!("tls-port {}", port.number()),
        "tls-replication yes".to_owned(),
        format!("tls-cert-file {}", certificates.server_cert().display()),
        format!("tls-key-file {}", certificates.server_key().display()),
        format!("tls-ca-cert-file {}", certificates.ca().display()),
        format!("tls-auth-clients {}", if client_certificates { "yes" } else { "no" }),
    ]
}
