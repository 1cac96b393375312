//! Certificate authorities for tests, and what they vouch for.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};

/// A certificate and its key, in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn mk() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a service on this machine.
    pub fn for_service(&self) -> Issued {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        self.issue(params, "withheld", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a service on this machine, and over since February 2021.
    pub fn expired_for_service(&self) -> Issued {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 2, 1);
        self.issue(params, "withheld", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For somebody with a SPIFFE ID.
    pub fn for_spiffe(&self, id: &str) -> Issued {
        self.for_uris(&[id])
    }

    /// The same, for so many seconds from now.
    pub fn for_spiffe_until(&self, id: &str, seconds: u64) -> Issued {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id).unwrap())];
        params.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(seconds)).into();
        self.issue(params, "somebody", ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// For somebody with any URIs among the alternative names.
    pub fn for_uris(&self, uris: &[&str]) -> Issued {
        let mut params = CertificateParams::default();
        let uri = |uri: &&str| SanType::URI(Ia5String::try_from(*uri).unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        self.issue(params, "somebody", ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// For somebody by the subject alone.
    pub fn for_subject(&self, name: &str) -> Issued {
        self.issue(CertificateParams::default(), name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// For somebody, and over since February 2021.
    pub fn expired(&self, id: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id).unwrap())];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 2, 1);
        self.issue(params, "somebody", ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, name: &str, usage: ExtendedKeyUsagePurpose) -> Issued {
        params.distinguished_name.push(DnType::CommonName, name);
        params.insert_extended_key_usage(usage);
        let keys = KeyPair::generate().unwrap();
        Issued { certificate: params.signed_by(&keys, &self.0).unwrap().pem(), key: keys.serialize_pem() }
    }
}
