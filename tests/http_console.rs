//! The console's files as a browser asks for them. The pages themselves are tried in Chromium, in tests/interop.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::Broker;
use std::collections::BTreeMap;

/// The files that a text names behind one of these words, up to the quote that ends them.
fn named<'t>(text: &'t str, before: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).map(|rest| rest.split(['"', '\'']).next().unwrap())
}

#[test]
fn the_page_is_served_with_all_that_it_names() {
    let broker = Broker::start();
    let page = broker.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    assert_eq!(page.header("content-security-policy"), policy);

    let mut files = BTreeMap::new();
    let mut waiting: Vec<_> = named(page.text(), "\"console/").map(str::to_string).collect();
    while let Some(name) = waiting.pop() {
        if files.contains_key(&name) {
            continue;
        }
        let file = broker.get(&format!("/console/{name}"));
        assert_eq!((file.status, file.header("x-content-type-options")), (200, "nosniff"), "{name}");
        assert!(!file.body.is_empty(), "{name}");
        if name.ends_with(".js") {
            waiting.extend(named(file.text(), "from './").map(str::to_string));
        }
        files.insert(name, file.header("content-type").to_string());
    }
    assert_eq!(files["app.js"], "text/javascript; charset=utf-8");
    assert_eq!(files["style.css"], "text/css; charset=utf-8");
    assert_eq!(files["icon.svg"], "image/svg+xml");
    for page in ["topics", "messages", "groups", "connections", "wire", "try", "learn"] {
        assert!(files.contains_key(&format!("{page}.js")), "{page}");
    }
}

#[test]
fn a_browser_that_has_a_file_is_not_sent_it_again() {
    let broker = Broker::start();
    let mut http = broker.http();
    let file = http.ask("GET", "/console/app.js", "", b"");
    let tag = file.header("etag").to_string();
    assert_eq!(file.header("cache-control"), "no-cache", "it asks each time");
    for known in [tag.clone(), format!("\"other\", {tag}")] {
        let again = http.ask("GET", "/console/app.js", &format!("If-None-Match: {known}\r\n"), b"");
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, tag.as_str()));
    }
    let other = http.ask("GET", "/console/app.js", "If-None-Match: \"other\"\r\n", b"");
    assert_eq!((other.status, other.body), (200, file.body.clone()));
    let head = http.ask("HEAD", "/console/app.js", "", b"");
    assert_eq!(head.header("content-length"), file.body.len().to_string());
    let small = http.ask("GET", "/console/app.js", "Accept-Encoding: gzip\r\n", b"");
    assert_eq!(small.header("content-encoding"), "gzip");
    assert!(small.body.len() < file.body.len());
}

#[test]
fn what_is_no_file_of_the_console_is_not_there() {
    let broker = Broker::start();
    let mut http = broker.http();
    for target in [
        "/console/",
        "/console/app",
        "/console/..%2Fconsole.rs",
        "/console/../mod.rs",
        "/console/app.js/",
        "/index.html",
    ] {
        assert_eq!(http.ask("GET", target, "", b"").status, 404, "{target}");
    }
    assert_eq!(http.ask("POST", "/", "", b"").status, 405);
    assert_eq!(http.ask("GET", "/console/app.js", "Sec-Fetch-Site: cross-site\r\n", b"").status, 403);
    let followed = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n";
    assert_eq!(http.ask("GET", "/", followed, b"").status, 200, "a link to the console is followed");
}
