//! TLS on the port, as the broker was started.

use std::path::PathBuf;

/// TLS on the port.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The broker's certificate and those that lead from it to one that clients trust, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Whether who does not speak TLS is refused: yes.
    pub required: bool,
    /// The certificates of those who may say who clients are, in PEM; `None`: clients are not asked for certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused: yes.
    pub client_certificate_required: bool,
    /// What becomes of the name in a client's certificate, as Kafka's `ssl.principal.mapping.rules` say it: `DEFAULT`, which is
    /// the name as it stands.
    pub principal_rules: String,
}

impl TlsConfig {
    /// TLS for all, with this certificate, and none of clients.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> TlsConfig {
        TlsConfig {
            certificate: certificate.into(),
            key: key.into(),
            required: true,
            client_ca: None,
            client_certificate_required: true,
            principal_rules: "DEFAULT".into(),
        }
    }
}
