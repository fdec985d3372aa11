//! Addresses as people write them: `localhost:9092`, `10.0.0.5:9092`, `[::1]:9092`.
//!
//! An error is a sentence for the person who typed the address, and says what would be right.

use std::{
    fmt,
    net::{IpAddr, ToSocketAddrs},
};

/// The port of a broker, unless it is said.
const PORT: u16 = 9092;

/// A host, which is a name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The host, an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// An address to listen on; port 0 takes a free one.
    pub fn to_listen_on(text: &str) -> Result<Address, String> {
        if let Some(port) = text.strip_prefix(':') {
            return Err(format!(
                "it has no host; [::]:{port} is every address of this machine, localhost:{port} its own"
            ));
        }
        parse(text, None)
    }

    /// Whether other machines than this one can reach it, as far as what its host's name means can be looked up.
    pub fn is_open(&self) -> bool {
        let addresses = (&*self.host, self.port).to_socket_addrs();
        addresses.is_ok_and(|mut addresses| addresses.any(|address| !address.ip().to_canonical().is_loopback()))
    }

    /// An address to connect to, at port 9092 unless it says another.
    pub fn to_connect_to(text: &str) -> Result<Address, String> {
        parse(text, Some(PORT)).and_then(Address::reachable)
    }

    /// An address to advertise to clients.
    pub fn to_advertise(text: &str) -> Result<Address, String> {
        let address = parse(text, None).and_then(Address::reachable)?;
        if address.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            return Err(format!("{} is where a broker listens, not where it is found; name its host", address.host));
        }
        Ok(address)
    }

    fn reachable(self) -> Result<Address, String> {
        if self.port == 0 { Err("nobody can connect to port 0".into()) } else { Ok(self) }
    }
}

/// With brackets around an IPv6 address.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

fn parse(text: &str, default_port: Option<u16>) -> Result<Address, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("it is a host and a port without '{scheme}://', such as {}", suggestion(rest)));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("a '[' without its ']'")?;
            let address = host.split('%').next().unwrap_or(host);
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("[{host}] is not an IPv6 address"));
            }
            let after_colon = port.strip_prefix(':');
            if !port.is_empty() && after_colon.is_none() {
                return Err(format!("after [{host}] comes :PORT, not '{port}'"));
            }
            (host, after_colon)
        }
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("the host is missing, such as localhost:9092".into());
    }
    if host.contains(',') {
        return Err("it is one address, since there is one broker, such as localhost:9092".into());
    }
    let foreign = |char: &char| !(char.is_alphanumeric() || matches!(char, '.' | '-' | '_' | ':' | '%'));
    if let Some(char) = host.chars().find(foreign) {
        return Err(format!("a host has no {char:?}; write HOST:PORT, such as localhost:9092"));
    }
    if host.contains(':') && !text.starts_with('[') {
        return Err("an IPv6 address stands in brackets, such as [::1]:9092".into());
    }
    let port = match (port, default_port) {
        (Some(port), _) => {
            digits(port).ok_or_else(|| format!("'{port}' is not a port, which is a number up to 65535"))?
        }
        (None, Some(port)) => port,
        (None, None) => return Err(format!("the port is missing, such as {host}:{PORT}")),
    };
    Ok(Address { host: host.into(), port })
}

fn digits(port: &str) -> Option<u16> {
    let all = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| all)
}

/// What `rest` of a URL would be as an address.
fn suggestion(rest: &str) -> String {
    let end = rest.find(['/', ',', '?']).unwrap_or(rest.len());
    let address = parse(&rest[..end], Some(PORT));
    address.unwrap_or(Address { host: "localhost".into(), port: PORT }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for text in ["localhost:9092", "kafka-1.example_net:1", "10.0.0.5:65535", "[::1]:9092", "[fe80::1%eth0]:9092"] {
            let address = Address::to_advertise(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::to_connect_to(text), Ok(address));
        }
        assert_eq!(Address::to_listen_on("[::]:0").unwrap(), Address { host: "::".into(), port: 0 });
        assert_eq!(Address::to_listen_on("0.0.0.0:9092").unwrap().host, "0.0.0.0");
    }

    #[test]
    fn a_broker_is_at_9092_unless_it_is_said() {
        for (text, address) in [("kafka", "kafka:9092"), ("[::1]", "[::1]:9092"), ("10.0.0.5", "10.0.0.5:9092")] {
            assert_eq!(Address::to_connect_to(text).unwrap().to_string(), address);
            assert!(Address::to_listen_on(text).unwrap_err().contains("the port is missing"), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_would_be() {
        for (text, why) in [
            ("", "the host is missing"),
            (":9092", "the host is missing"),
            ("PLAINTEXT://kafka:9092", "without 'PLAINTEXT://', such as kafka:9092"),
            ("http://kafka/topics", "without 'http://', such as kafka:9092"),
            ("PLAINTEXT://:9092", "without 'PLAINTEXT://', such as localhost:9092"),
            ("kafka:", "'' is not a port"),
            ("kafka:65536", "'65536' is not a port"),
            ("kafka:9o92", "'9o92' is not a port"),
            ("kafka:-1", "'-1' is not a port"),
            ("kafka:+1", "'+1' is not a port"),
            ("kafka: 9092", "' 9092' is not a port"),
            ("kafka:9092,kafka:9093", "it is one address"),
            ("kafka:0", "port 0"),
            ("::1", "stands in brackets, such as [::1]:9092"),
            ("::1:9092", "stands in brackets, such as [::1]:9092"),
            ("[::1:9092", "a '[' without its ']'"),
            ("[::1]9092", "after [::1] comes :PORT"),
            ("[kafka]:9092", "[kafka] is not an IPv6 address"),
            ("my kafka:9092", "a host has no ' '"),
            ("kafka\n:9092", "a host has no '\\n'"),
            ("user@kafka:9092", "a host has no '@'"),
        ] {
            for error in [Address::to_advertise(text).unwrap_err(), Address::to_connect_to(text).unwrap_err()] {
                assert!(error.contains(why), "{text}: {error}");
            }
        }
        assert!(Address::to_listen_on(":9092").unwrap_err().contains("[::]:9092 is every address of this machine"));
        for text in ["0.0.0.0:9092", "[::]:9092"] {
            assert!(Address::to_advertise(text).unwrap_err().contains("not where it is found"), "{text}");
        }
    }
}
