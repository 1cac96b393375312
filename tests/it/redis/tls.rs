//! A certificate authority for one test, with a certificate for servers on 127.0.0.1 and one for their clients.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

/// PEM files; gone when dropped.
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    pub fn mk() -> Self {
        let mut authority = named("authority of a test", &[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let made = Self { dir: TempDir::new().unwrap() };
        std::fs::write(made.ca(), authority.pem()).unwrap();
        let server = named("redis", &["127.0.0.1", "localhost"]);
        let client = named("withheld", &[]);
        let (serves, calls) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        for (mut params, usages, cert, key) in [
            // A replica, a Sentinel and a cluster node are clients of other servers by the same certificate.
            (server, vec![serves, calls.clone()], made.server_cert(), made.server_key()),
            (client, vec![calls], made.client_cert(), made.client_key()),
        ] {
            params.extended_key_usages = usages;
            let keys = KeyPair::generate().unwrap();
            std::fs::write(cert, params.signed_by(&keys, &authority).unwrap().pem()).unwrap();
            std::fs::write(key, keys.serialize_pem()).unwrap();
        }
        made
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub fn server_cert(&self) -> PathBuf {
        self.dir.path().join("server.pem")
    }

    pub fn server_key(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }

    pub fn client_cert(&self) -> PathBuf {
        self.dir.path().join("client.pem")
    }

    pub fn client_key(&self) -> PathBuf {
        self.dir.path().join("client.key")
    }
}

fn named(name: &str, addresses: &[&str]) -> CertificateParams {
    let addresses: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
    let mut params = CertificateParams::new(addresses).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
