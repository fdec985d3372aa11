//! The options of TLS, and the signal by which its files are read again.

use crate::common::say;
use clap::{Args, ValueEnum};
use plainlog::{
    config::{Address, Config, TlsConfig},
    security::tls::SelfSigned,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{io, path::PathBuf, process, thread};

/// TLS on the port.
#[derive(Args)]
#[group(id = "on_the_port")]
pub(crate) struct Options {
    /// Speak TLS with this certificate, and those that lead from it to one that clients trust (PEM); it is read again when it
    /// changes, and on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Speak TLS with a certificate that is made for this host, and kept in the data directory with its issuer
    #[arg(long, conflicts_with_all = ["tls_cert", "in_memory"])]
    tls_self_signed: bool,
    /// Whether those who do not speak TLS are served, too
    #[arg(long, value_enum, default_value = "required", value_name = "required|optional")]
    tls: Plain,
    /// Ask clients for certificates, which one of these has issued (PEM); whom they name is who they are
    #[arg(long, value_name = "FILE", requires = "users")]
    tls_client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is served, too
    #[arg(long, value_enum, default_value = "required", value_name = "required|requested", requires = "tls_client_ca")]
    tls_client_auth: ClientAuth,
    /// What becomes of the name in a client's certificate (Kafka: ssl.principal.mapping.rules)
    #[arg(long, default_value = "DEFAULT", value_name = "RULE,...", requires = "tls_client_ca")]
    tls_principal_rules: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Plain {
    Required,
    Optional,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClientAuth {
    Required,
    Requested,
}

impl Options {
    /// TLS, if there is to be any.
    pub(super) fn read(&self, config: &Config, listen: &Address) -> Result<Option<TlsConfig>, String> {
        let (certificate, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            _ if self.tls_self_signed => {
                let data_dir = config.data_dir.as_ref().ok_or("--tls-self-signed needs a --data-dir")?;
                let hosts = [Some(listen), config.advertise.as_ref()].into_iter().flatten();
                let is_name = |host: &String| !["0.0.0.0", "::"].contains(&host.as_str());
                let hosts: Vec<String> = hosts.map(|address| address.host.clone()).filter(is_name).collect();
                let made = SelfSigned::in_data_dir(data_dir, &hosts)?;
                (made.certificate, made.key)
            }
            _ if self.tls_client_ca.is_some() => {
                return Err("--tls-client-ca needs --tls-cert and --tls-key, or --tls-self-signed".into());
            }
            _ => return Ok(None),
        };
        Ok(Some(TlsConfig {
            required: self.tls == Plain::Required,
            client_ca: self.tls_client_ca.clone(),
            client_certificate_required: self.tls_client_auth == ClientAuth::Required,
            principal_rules: self.tls_principal_rules.clone(),
            ..TlsConfig::new(certificate, key)
        }))
    }
}

impl Options {
    /// Tells how each client is told to trust the certificate that was made, if one was.
    pub(super) fn tell_clients(&self, config: &Config, address: &Address) {
        let Some(data_dir) = config.data_dir.as_ref().filter(|_| self.tls_self_signed) else { return };
        let ca = data_dir.join("tls/ca.pem");
        let ca = std::path::absolute(&ca).unwrap_or(ca);
        let ca = ca.display();
        say(format_args!("TLS with a certificate of its own. Clients trust it by {ca}:"));
        say(format_args!("  openssl s_client -quiet -CAfile {ca} -connect {address}"));
        say(format_args!("  producer --broker {address} --ca {ca}"));
        say(format_args!("  curl --cacert {ca} https://{address}/health"));
        say(format_args!("  kcat -b {address} -X security.protocol=SSL -X ssl.ca.location={ca} -L"));
        say(format_args!("  Java: security.protocol=SSL ssl.truststore.type=PEM ssl.truststore.location={ca}"));
    }
}

/// Passes on SIGINT and SIGTERM, of which the second ends the process, and SIGHUP.
pub(crate) fn on_signals(stop: impl Fn() + Send + 'static, reload: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let watch = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => reload(),
                _ if std::mem::replace(&mut stopping, true) => process::exit(130),
                _ => stop(),
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map(drop)
}
