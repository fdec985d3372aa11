//! Defence against other web pages: any page in the user's browser can reach localhost.
//!
//! ```text
//! Host              a name of this broker                      else 421: a foreign name that resolves here (DNS rebinding)
//! Sec-Fetch-Site    not cross-site, but for a link to /        else 403
//! Origin            the same host and port as Host             else 403
//! Content-Type      one that no plain form can send            else 415 (in `routes`)
//! ```

use super::{refusal::Refusal, request::Head};
use crate::{config::Config, log::record::shown};
use std::net::{IpAddr, SocketAddr};

/// By which names this broker is called, and which other pages may ask it.
#[derive(Debug)]
pub(super) struct Guard {
    names: Vec<String>,
    origins: Vec<String>,
    local: IpAddr,
}

impl Guard {
    /// For a connection that reached this broker at `local`; `name` is the host name by which it listens, if it does.
    pub(super) fn new(config: &Config, name: Option<&str>, local: SocketAddr) -> Guard {
        let advertised = config.advertise.as_ref().map(|address| address.host.as_str());
        let names = config.http_hosts.iter().map(String::as_str).chain(advertised).chain(name);
        Guard {
            names: names.map(str::to_ascii_lowercase).collect(),
            origins: config.http_allow_origins.clone(),
            local: local.ip().to_canonical(),
        }
    }

    /// Refuses what does not come from a program, a page of this broker, or a page that may ask it.
    pub(super) fn check(&self, head: &Head) -> Result<(), Refusal> {
        let host = head.header("host").unwrap_or_default();
        if head.is_1_1 && !self.is_ours(host) {
            let what = format!("'{}' is no name of this broker; --http-host takes more", shown(host.as_bytes()));
            return Err(Refusal::new(421, what));
        }
        if self.allowed_origin(head).is_some() {
            return Ok(());
        }
        let follows_link =
            head.method == "GET" && head.path == [""] && head.header("sec-fetch-mode") == Some("navigate");
        if head.header("sec-fetch-site") == Some("cross-site") && !follows_link {
            return Err(Refusal::new(403, "a page of another site may not ask this broker"));
        }
        match head.header("origin") {
            Some(origin) if !is_same(origin, host) => {
                let origin = shown(origin.as_bytes());
                let what = "may not ask this broker; --http-allow-origin names those that may";
                Err(Refusal::new(403, format!("a page of '{origin}' {what}")))
            }
            _ => Ok(()),
        }
    }

    /// The origin of a page of another server that may ask this broker.
    pub(super) fn allowed_origin<'a>(&self, head: &'a Head) -> Option<&'a str> {
        head.header("origin").filter(|origin| self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)))
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let address = name.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| ip.to_canonical());
        match address {
            Ok(ip) => {
                ip.is_loopback()
                    || ip == self.local
                    || self.names.iter().any(|known| *known == name.trim_matches(['[', ']']))
            }
            Err(_) => name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a page of this origin was served under this host and port.
fn is_same(origin: &str, host: &str) -> bool {
    let origin = origin.to_ascii_lowercase();
    let of_scheme = |scheme: &str, port: &str| {
        let Some(authority) = origin.strip_prefix(scheme) else { return false };
        let full = |authority: &str| match without_port(authority) == authority {
            true => format!("{authority}:{port}"),
            false => authority.to_owned(),
        };
        full(authority) == full(&host.to_ascii_lowercase())
    };
    of_scheme("http://", "80") || of_scheme("https://", "443")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let mut config = Config::in_memory();
        config.http_hosts = vec!["Broker.example".into()];
        config.http_allow_origins = vec!["https://shop.example".into()];
        Guard::new(&config, Some("devbox"), "10.1.2.3:9092".parse().unwrap())
    }

    fn check(head: &str) -> Result<(), u16> {
        let text = format!("{head}\r\n\r\n");
        let (head, _) = Head::parse(text.as_bytes()).unwrap().unwrap();
        guard().check(&head).map_err(|refusal| refusal.status)
    }

    #[test]
    fn only_names_of_this_broker_are_answered() {
        let ours = [
            "localhost",
            "localhost:9092",
            "LOCALHOST:1",
            "a.localhost",
            "127.0.0.1",
            "127.8.9.1:80",
            "[::1]:9092",
            "[::1]",
            "10.1.2.3:9092",
            "[::ffff:10.1.2.3]:9092",
            "broker.example",
            "BROKER.EXAMPLE:80",
            "devbox:9092",
        ];
        for host in ours {
            assert_eq!(check(&format!("GET /api HTTP/1.1\r\nHost: {host}")), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.1.2.4",
            "evil@localhost",
            "xlocalhost",
            "[::2]:9092",
            ":9092",
        ] {
            assert_eq!(check(&format!("GET /api HTTP/1.1\r\nHost: {host}")), Err(421), "{host}");
        }
        assert_eq!(check("GET /api HTTP/1.0"), Ok(()), "no browser speaks 1.0");
    }

    #[test]
    fn a_page_asks_only_the_broker_that_served_it() {
        let origin =
            |origin: &str, host: &str| check(&format!("POST /api/topics HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}"));
        assert_eq!(origin("http://localhost:9092", "localhost:9092"), Ok(()));
        assert_eq!(origin("http://LOCALHOST:9092", "localhost:9092"), Ok(()));
        assert_eq!(origin("http://localhost", "localhost"), Ok(()));
        assert_eq!(origin("https://broker.example", "broker.example"), Ok(()), "behind a proxy that speaks TLS");
        assert_eq!(origin("https://shop.example", "localhost:9092"), Ok(()), "it was allowed");
        for (page, host) in [
            ("http://localhost:8080", "localhost:9092"),
            ("http://localhost", "localhost:9092"),
            ("http://127.0.0.1:9092", "localhost:9092"),
            ("http://evil.example", "localhost:9092"),
            ("null", "localhost:9092"),
            ("", "localhost:9092"),
            ("http://shop.example", "localhost:9092"),
        ] {
            assert_eq!(origin(page, host), Err(403), "{page} {host}");
        }
    }

    #[test]
    fn a_page_of_another_site_may_link_here_and_nothing_else() {
        let with =
            |line: &str, headers: &str| check(&format!("{line}\r\nHost: localhost\r\nSec-Fetch-Site: {headers}"));
        assert_eq!(with("GET /api/topics HTTP/1.1", "same-origin"), Ok(()));
        assert_eq!(with("GET /api/topics HTTP/1.1", "none"), Ok(()));
        assert_eq!(with("GET / HTTP/1.1", "cross-site\r\nSec-Fetch-Mode: navigate"), Ok(()));
        assert_eq!(with("GET / HTTP/1.1", "cross-site\r\nSec-Fetch-Mode: no-cors"), Err(403));
        assert_eq!(with("GET /api/topics HTTP/1.1", "cross-site\r\nSec-Fetch-Mode: navigate"), Err(403));
        assert_eq!(with("POST / HTTP/1.1", "cross-site\r\nSec-Fetch-Mode: navigate"), Err(403));
    }
}
