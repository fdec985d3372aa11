//! Certificates for tests.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::{fs, path::Path, sync::Arc};

/// Somebody who issues certificates.
pub(crate) struct Issuer {
    issuer: rcgen::Issuer<'static, KeyPair>,
    pub(crate) certificate: rcgen::Certificate,
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Issuer {
    pub(crate) fn new(name: &str) -> Issuer {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Issuer { issuer: rcgen::Issuer::new(params, key), certificate }
    }

    /// For localhost, with this common name.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, 2100)
    }

    pub(crate) fn issue_until(&self, name: &str, year: i32) -> Issued {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.distinguished_name = named(name);
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { ca: self.certificate.der().clone(), certificate, key }
    }
}

impl Issued {
    pub(crate) fn server(&self) -> ServerConnection {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![self.certificate.der().clone()], key).unwrap();
        ServerConnection::new(Arc::new(config)).unwrap()
    }

    /// One that trusts it and shows nothing.
    pub(crate) fn client(&self) -> ClientConnection {
        client(&self.ca, None)
    }

    pub(crate) fn save(&self, certificate: &Path, key: &Path) {
        fs::write(certificate, self.certificate.pem()).unwrap();
        fs::write(key, self.key.serialize_pem()).unwrap();
    }
}

/// One that trusts whom `ca` issued, and shows a certificate.
pub(crate) fn client(ca: &CertificateDer<'static>, shown: Option<&Issued>) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let key = PrivateKeyDer::try_from(shown.key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![shown.certificate.der().clone()], key).unwrap()
        }
    };
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}
