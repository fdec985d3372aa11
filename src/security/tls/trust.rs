//! Whom a client trusts, and what it shows of itself.

use super::identity::{certificates, key, roots};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where systems keep the certificates that all of their programs trust.
const OF_THE_SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom a client trusts, and what it shows of itself.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The certificates of those who may say who a broker is, in PEM; `None`: those of this system.
    pub ca: Option<PathBuf>,
    /// What the client shows: its certificate, and those that lead from it to one that the broker trusts, in PEM, and its key.
    pub shown: Option<(PathBuf, PathBuf)>,
    /// Whether any broker is trusted, whoever it is: no. Somebody in between can then read and change everything.
    pub anybody: bool,
}

impl Trust {
    /// Reads the files; an error says what is wrong with which.
    pub fn read(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = if self.anybody {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            let ca = self.ca.as_deref().or_else(|| of_the_system());
            builder.with_root_certificates(roots(ca.ok_or("this system has no file of certificates that it trusts")?)?)
        };
        let config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some((certificate, of)) => {
                let shown = builder.with_client_auth_cert(certificates(certificate)?, key(of)?);
                shown.map_err(|error| format!("{} with {}: {error}", certificate.display(), of.display()))?
            }
        };
        Ok(Arc::new(config))
    }
}

fn of_the_system() -> Option<&'static Path> {
    OF_THE_SYSTEM.map(Path::new).into_iter().find(|file| file.exists())
}

/// Takes any certificate whose owner has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
