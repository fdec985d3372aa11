//! Who the broker is: its certificate and key, and whose certificates of clients it takes. They are read again when their files
//! change.

use super::{Mapping, subject};
use crate::{
    config::TlsConfig,
    security::{Principal, Proof, stamp::Stamp},
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who the broker is.
#[derive(Debug)]
pub struct Identity {
    config: TlsConfig,
    mapping: Mapping,
    current: Mutex<Current>,
}

/// What was read, and of what.
#[derive(Debug)]
struct Current {
    server: Arc<ServerConfig>,
    stamps: Vec<Option<Stamp>>,
}

/// What was read of the files.
struct Read {
    server: Arc<ServerConfig>,
    /// Why no client will take the certificate now, if that is seen.
    fault: Option<String>,
}

impl Identity {
    /// Reads the files; an error says what is wrong with which. Beside it, what clients will find wrong with the certificate.
    pub fn open(config: TlsConfig) -> Result<(Identity, Option<String>), String> {
        let mapping =
            Mapping::read(&config.principal_rules).map_err(|why| format!("the rules of principals: {why}"))?;
        let stamps = stamps(&config);
        let Read { server, fault } = read(&config)?;
        Ok((Identity { config, mapping, current: Mutex::new(Current { server, stamps }) }, fault))
    }

    /// Whether who does not speak TLS is refused.
    pub fn is_required(&self) -> bool {
        self.config.required
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().expect("no panic while files are read")
    }

    /// Reads the files again if they are not those that were read last, or in any case if it `must`. `None`: it did not; an error
    /// says why what was read before stays.
    pub fn look(&self, must: bool) -> Option<Result<(), String>> {
        let mut current = self.current();
        let stamps = stamps(&self.config);
        if stamps == current.stamps && !must {
            return None;
        }
        // What is bad is told once, not at each connection.
        current.stamps = stamps;
        Some(match read(&self.config) {
            Ok(Read { server, fault: None }) => {
                current.server = server;
                Ok(())
            }
            Ok(Read { fault: Some(why), .. }) | Err(why) => Err(why),
        })
    }

    /// What a session that begins now goes by. Sessions are resumed only among those that began with the same.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.current().server.clone()
    }

    /// Who a client is that showed these certificates, its own first; `None`: it showed none. An error says why that is nobody.
    pub fn principal(&self, shown: Option<&[CertificateDer<'_>]>) -> Result<Option<Principal>, String> {
        let Some(certificate) = shown.and_then(|shown| shown.first()) else { return Ok(None) };
        let name = subject(certificate)?;
        let mapped = self.mapping.apply(&name).ok_or_else(|| format!("no rule of principals is about {name}"))?;
        Ok(Some(Principal::new(&mapped, Proof::Certificate)))
    }
}

fn stamps(config: &TlsConfig) -> Vec<Option<Stamp>> {
    let files = [Some(&config.certificate), Some(&config.key), config.client_ca.as_ref()];
    files.into_iter().flatten().map(|file| Stamp::of(file)).collect()
}

fn read(config: &TlsConfig) -> Result<Read, String> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&config.certificate)?;
    let key = key(&config.key)?;
    let fault = fault(&chain[0]).map(|why| format!("{}: {why}", config.certificate.display()));
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(file)?), provider);
            let verifier = if config.client_certificate_required { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier.build().map_err(|error| format!("{}: {error}", file.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(|error| {
        format!("the certificate {} with the key {}: {error}", config.certificate.display(), config.key.display())
    })?;
    if config.client_ca.is_some() {
        // Whoever resumed a session would not be asked again, though the certificate has run out or its issuer was taken out.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
    }
    Ok(Read { server: Arc::new(server), fault })
}

/// The certificates in a file, of which there is at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the certificate {}: {error}", file.display());
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    if found.is_empty() { Err(wrong(&"there is none in the file")) } else { Ok(found) }
}

/// The private key in a file.
pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("the key {}: {error}", file.display()))
}

/// The certificates in a file as those that others are issued by.
pub(super) fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| format!("the certificate {}: {error}", file.display()))?;
    }
    Ok(roots)
}

/// Why clients will not take a certificate now, if that is seen.
fn fault(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    if validity.is_valid() {
        return None;
    }
    Some(format!("the certificate holds from {} to {}, which is not now", validity.not_before, validity.not_after))
}
