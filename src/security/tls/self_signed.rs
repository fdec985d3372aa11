//! A certificate for a lesson and for oneself: an issuer (CA) of our own that issues the broker's certificate. Both are kept in the
//! data directory, so that what clients trust holds over restarts.
//!
//! ```text
//! tls/ca.pem       what clients are told to trust        tls/broker.pem   the broker's certificate
//! tls/ca.key       issues further certificates           tls/broker.key   its key
//! ```

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use std::{
    collections::BTreeSet,
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How long the broker's certificate must still hold when the broker starts; else it gets another.
const LEFT_SECS: i64 = 30 * 24 * 3600;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where the files are.
#[derive(Clone, Debug)]
pub struct SelfSigned {
    /// What clients are told to trust.
    pub ca: PathBuf,
    /// The broker's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl SelfSigned {
    /// The files in `tls` of a data directory. What is missing is made: the certificate is for this host by its names, and for
    /// those in `more`.
    pub fn in_data_dir(data_dir: &Path, more: &[String]) -> Result<SelfSigned, String> {
        let dir = data_dir.join("tls");
        if dir.join("topic").exists() || dir.join("0").exists() {
            return Err(format!("{} is a topic; --tls-self-signed has its files in this folder", dir.display()));
        }
        let names = names(more);
        let files =
            SelfSigned { ca: dir.join("ca.pem"), certificate: dir.join("broker.pem"), key: dir.join("broker.key") };
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let issuer = files.issuer(&dir.join("ca.key"))?;
        if !files.are_for(&names) {
            files.issue(&issuer, &names)?;
        }
        Ok(files)
    }

    /// Who issues the certificate, by a key that is made if it is missing.
    fn issuer(&self, key: &Path) -> Result<Issuer<'static, KeyPair>, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "plainlog, made for this data directory");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Until when it holds is said by the clock of whoever trusts it; it is trusted by hand, and not for ever.
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 12, 31));
        if key.exists() && self.ca.exists() {
            let text = fs::read_to_string(key).map_err(|error| format!("{}: {error}", key.display()))?;
            let pair = KeyPair::from_pem(&text).map_err(|error| format!("{}: {error}", key.display()))?;
            if is_of_key(&self.ca, &pair) {
                return Ok(Issuer::new(params, pair));
            }
        }
        let pair = KeyPair::generate().map_err(|error| error.to_string())?;
        let certificate = params.self_signed(&pair).map_err(|error| error.to_string())?;
        // In this order: a certificate whose key a crash kept from the disk would be trusted by clients for nothing.
        write(key, &pair.serialize_pem(), 0o600)?;
        write(&self.ca, &certificate.pem(), 0o644)?;
        Ok(Issuer::new(params, pair))
    }

    /// Whether the certificate that is there is of the issuer and of the key, for all of these names, and for some time yet.
    fn are_for(&self, names: &BTreeSet<String>) -> bool {
        let read = || -> Option<bool> {
            let (ca, broker) = (first(&self.ca)?, first(&self.certificate)?);
            let (_, ca) = X509Certificate::from_der(&ca).ok()?;
            let (_, broker) = X509Certificate::from_der(&broker).ok()?;
            let mut has = BTreeSet::new();
            for name in &broker.subject_alternative_name().ok()??.value.general_names {
                match name {
                    GeneralName::DNSName(name) => has.insert(name.to_string()),
                    GeneralName::IPAddress(bytes) => has.insert(address(bytes)?),
                    _ => false,
                };
            }
            let holds = broker.validity().time_to_expiration()?.whole_seconds() > LEFT_SECS;
            // The issuer's name is always the same, its key is not.
            let of_issuer = broker.verify_signature(Some(ca.public_key())).is_ok();
            let pair = KeyPair::from_pem(&fs::read_to_string(&self.key).ok()?).ok()?;
            let of_key = is_of_key(&self.certificate, &pair);
            Some(holds && of_issuer && names.is_subset(&has) && of_key)
        };
        read().unwrap_or(false)
    }

    fn issue(&self, issuer: &Issuer<'_, KeyPair>, names: &BTreeSet<String>) -> Result<(), String> {
        let wrong = |error: rcgen::Error| format!("the certificate for {names:?}: {error}");
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>()).map_err(wrong)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "plainlog");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        // Some systems take none that hold for more than 825 days.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = date_time_ymd(1970, 1, 1) + now;
        (params.not_before, params.not_after) = (now - 2 * DAY, now + 800 * DAY);
        let pair = KeyPair::generate().map_err(wrong)?;
        let certificate = params.signed_by(&pair, issuer).map_err(wrong)?;
        write(&self.key, &pair.serialize_pem(), 0o600)?;
        write(&self.certificate, &certificate.pem(), 0o644)
    }
}

/// What this host is called, and what else clients may call it.
fn names(more: &[String]) -> BTreeSet<String> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let own = ["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
    let all = own.into_iter().chain(host).chain(more.iter().cloned());
    all.filter(|name| !name.is_empty()).collect()
}

/// Whether a certificate is of this key: a crash can come between a new key and its certificate.
fn is_of_key(certificate: &Path, pair: &KeyPair) -> bool {
    first(certificate).is_some_and(|certificate| {
        let read = X509Certificate::from_der(&certificate);
        read.is_ok_and(|(_, certificate)| certificate.public_key().raw == pair.subject_public_key_info())
    })
}

fn first(file: &Path) -> Option<CertificateDer<'static>> {
    super::identity::certificates(file).ok()?.into_iter().next()
}

/// An address of 4 or 16 bytes.
fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::Ipv4Addr::from(bytes).to_string());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| std::net::Ipv6Addr::from(bytes).to_string())).ok()
}

/// Writes a file whole or not at all; nobody but who `mode` says can read it at any time.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let beside = path.with_extension("new");
    let written = || -> io::Result<()> {
        drop(fs::remove_file(&beside));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    written().map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_kept_while_it_is_for_all_names_and_its_issuer_beyond() {
        let dir = std::env::temp_dir().join(format!("plainlog-self-signed-{}", std::process::id()));
        let text = |file: &Path| fs::read_to_string(file).unwrap();
        let first = SelfSigned::in_data_dir(&dir, &[]).unwrap();
        let (ca, certificate) = (text(&first.ca), text(&first.certificate));
        SelfSigned::in_data_dir(&dir, &["localhost".into()]).unwrap();
        assert_eq!((text(&first.ca), text(&first.certificate)), (ca.clone(), certificate.clone()));
        SelfSigned::in_data_dir(&dir, &["log.example".into(), "10.1.2.3".into()]).unwrap();
        assert!(text(&first.ca) == ca && text(&first.certificate) != certificate);
        assert!(first.are_for(&names(&["log.example".into(), "10.1.2.3".into()])));
        for key in ["tls/ca.key", "tls/broker.key"] {
            assert_eq!(fs::metadata(dir.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
        }
        // A certificate that is of another key is none.
        fs::copy(dir.join("tls/ca.key"), &first.key).unwrap();
        assert!(!first.are_for(&names(&[])));
        SelfSigned::in_data_dir(&dir, &[]).unwrap();
        assert!(text(&first.ca) == ca && first.are_for(&names(&[])));
        // So is an issuer's.
        fs::copy(&first.key, dir.join("tls/ca.key")).unwrap();
        SelfSigned::in_data_dir(&dir, &[]).unwrap();
        assert!(text(&first.ca) != ca && first.are_for(&names(&[])));
        let ca = text(&first.ca);
        // Without the issuer's key there is another issuer, and the certificate is of the old one.
        fs::remove_file(dir.join("tls/ca.key")).unwrap();
        SelfSigned::in_data_dir(&dir, &[]).unwrap();
        assert!(text(&first.ca) != ca && first.are_for(&names(&[])));
        fs::create_dir(dir.join("tls/0")).unwrap();
        assert!(SelfSigned::in_data_dir(&dir, &[]).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
