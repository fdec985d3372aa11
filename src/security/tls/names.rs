//! Whom a certificate names: its subject as Java's `X500Principal.getName()` prints it, which is what Kafka's principals are.
//!
//! RFC 2253, section 2: the parts from the last to the first, with commas between them; what would read as syntax stands behind
//! a backslash, so that no name can look like another.

use x509_parser::{
    asn1_rs::{Any, Tag, ToDer},
    prelude::{FromDer, X509Certificate},
};

/// The types that have names in RFC 2253, section 2.3; others are printed by their numbers.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The subject of a certificate in DER; an error says why there is none.
pub fn subject(certificate: &[u8]) -> Result<String, String> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| format!("it cannot be read: {error}"))?;
    let mut parts = Vec::new();
    for part in certificate.subject().iter() {
        let mut pairs = Vec::new();
        for pair in part.iter() {
            pairs.push(self::pair(&pair.attr_type().to_id_string(), pair.attr_value())?);
        }
        parts.push(pairs.join("+"));
    }
    parts.reverse();
    if parts.is_empty() { Err("it names nobody".into()) } else { Ok(parts.join(",")) }
}

/// A type and its value.
fn pair(kind: &str, value: &Any<'_>) -> Result<String, String> {
    let is_text =
        [Tag::PrintableString, Tag::T61String, Tag::Ia5String, Tag::GeneralString, Tag::BmpString, Tag::Utf8String]
            .contains(&value.tag());
    match KEYWORDS.iter().find(|(number, _)| *number == kind) {
        Some((_, keyword)) if is_text => Ok(format!("{keyword}={}", escaped(&String::from_utf8_lossy(value.data)))),
        known => {
            let der = value.to_der_vec_raw().map_err(|error| format!("it cannot be read: {error}"))?;
            let digits: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(format!("{}=#{digits}", known.map_or(kind, |(_, keyword)| keyword)))
        }
    }
}

/// A value with a backslash before what would read as syntax, and before spaces at its ends.
fn escaped(value: &str) -> String {
    let is_space = |character: char| character == ' ' || character == '\r';
    let core = value.trim_matches(is_space);
    let begin = value.len() - value.trim_start_matches(is_space).len();
    let mut out = String::new();
    for (at, character) in value.char_indices() {
        let at_an_end = at < begin || at >= begin + core.len();
        match character {
            '\0' => out.push_str("\\00"),
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => out.extend(['\\', character]),
            _ if at_an_end => out.extend(['\\', character]),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    /// A name that holds `, O=admin` would else be another's.
    #[test]
    fn names_are_printed_as_java_prints_them() {
        let mut checked = 0;
        for case in include_str!("subjects.txt").split("\n\n").skip(1) {
            let (name, pem) = case.split_once('\n').unwrap();
            let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            assert_eq!(subject(&certificate).as_deref(), Ok(name));
            checked += 1;
        }
        assert_eq!(checked, 10);
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        let certificate = crate::security::tls::testing::Issuer::new("a").issue("b").certificate.der().to_vec();
        for length in 0..certificate.len() {
            assert!(subject(&certificate[..length]).is_err());
        }
        for at in 0..certificate.len() {
            let mut other = certificate.clone();
            other[at] ^= 0x81;
            // Whatever it says, it does not end the thread.
            drop(subject(&other));
        }
        assert_eq!(escaped(" \r"), "\\ \\\r");
        assert_eq!(escaped(""), "");
    }
}
