//! The console: the page at `/`, for who opens the broker's address in a browser.
//!
//! ```text
//! console/*.html, *.css, *.js, *.svg ── compiled in ──► GET /, GET /console/{file} ──► a page that asks the API like anybody else
//! ```
//!
//! Plain files as they stand in the folder `console`, without a framework and without a step that builds them. Scripts and styles
//! are files of their own, because the policy that each answer carries allows no others.

use super::{
    exchange::Exchange,
    refusal::{Refusal, Stop},
};
use crate::log::{batches::crc32c, record::shown};

/// A file of the console.
struct File {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal $content_type:expr;)*) => {
        &[$(File { name: $name, content_type: $content_type, bytes: include_bytes!(concat!("console/", $name)) }),*]
    };
}

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const STYLE: &str = "text/css; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";
pub(super) const PICTURE: &str = "image/svg+xml";

/// All of them.
static FILES: &[File] = files! {
    "index.html" HTML;
    "icon.svg" PICTURE;
    "style.css" STYLE;
    "api.js" SCRIPT;
    "app.js" SCRIPT;
    "bytes.js" SCRIPT;
    "connections.js" SCRIPT;
    "dom.js" SCRIPT;
    "exchange.js" SCRIPT;
    "format.js" SCRIPT;
    "groups.js" SCRIPT;
    "kept.js" SCRIPT;
    "learn.js" SCRIPT;
    "list.js" SCRIPT;
    "login.js" SCRIPT;
    "messages.js" SCRIPT;
    "rules.js" SCRIPT;
    "stream.js" SCRIPT;
    "topics.js" SCRIPT;
    "try.js" SCRIPT;
    "users.js" SCRIPT;
    "wire.js" SCRIPT;
};

/// `GET /`
pub(super) fn page(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    serve(exchange, "index.html")
}

/// `GET /console/{file}`
pub(super) fn file(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let name = exchange.parameters[0].clone();
    serve(exchange, &name)
}

/// Answers with a file, or says that the browser has it already. It asks each time, so that a new broker is never shown an
/// older one's page.
fn serve(exchange: &mut Exchange<'_, '_>, name: &str) -> Result<(), Stop> {
    let file = FILES.iter().find(|file| file.name == name);
    let missing = || Refusal::new(404, format!("the console has no file '{}'", shown(name.as_bytes())));
    let file = file.ok_or_else(missing)?;
    let tag = format!("W/\"{:08x}\"", crc32c(file.bytes));
    let headers = format!("ETag: {tag}\r\nCache-Control: no-cache\r\n");
    if exchange.head.lists("if-none-match", &tag) {
        return exchange.answer(304, "", &headers, b"");
    }
    exchange.answer(200, file.content_type, &headers, file.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, path::Path};

    const BYTES_MAX: usize = 150 << 10;

    fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
        FILES.iter().map(|file| (file.name, std::str::from_utf8(file.bytes).unwrap()))
    }

    #[test]
    fn every_file_of_the_folder_is_served_and_together_they_are_small() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol/http/console");
        let there: BTreeSet<_> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let served: BTreeSet<_> = FILES.iter().map(|file| file.name.to_string()).collect();
        assert_eq!(served, there);
        assert_eq!(served.len(), FILES.len(), "none is there twice");
        let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(bytes < BYTES_MAX, "{bytes} bytes");
    }

    #[test]
    fn a_file_has_the_type_of_its_name() {
        for file in FILES {
            let expected = match file.name.rsplit_once('.').unwrap().1 {
                "html" => HTML,
                "css" => STYLE,
                "js" => SCRIPT,
                "svg" => PICTURE,
                other => panic!("{other}"),
            };
            assert_eq!(file.content_type, expected, "{}", file.name);
        }
    }

    #[test]
    fn no_script_or_style_stands_within_a_page() {
        for (name, text) in texts().filter(|(name, _)| name.ends_with(".html") || name.ends_with(".svg")) {
            assert_eq!(text.matches("<script").count(), text.matches("<script type=\"module\" src=").count(), "{name}");
            for inline in ["<style", " style=", " onclick=", " onload=", " onerror=", "javascript:"] {
                assert!(!text.contains(inline), "{name} has {inline}");
            }
        }
    }

    #[test]
    fn no_script_makes_markup_of_text() {
        for (name, text) in texts().filter(|(name, _)| name.ends_with(".js")) {
            let makers = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "srcdoc"];
            for maker in makers.into_iter().chain(["eval(", "new Function", "createContextualFragment", "setHTML"]) {
                assert!(!text.contains(maker), "{name} has {maker}");
            }
        }
    }

    #[test]
    fn what_a_file_names_is_served_and_relative() {
        for (name, text) in texts() {
            for quoted in text.split(['"', '\'', '`']).skip(1) {
                let Some(file) = quoted.strip_prefix("console/").or_else(|| quoted.strip_prefix("./")) else {
                    continue;
                };
                assert!(FILES.iter().any(|known| known.name == file), "{name} names {file}");
            }
            for absolute in ["=\"/", "'/api", "`/api", "\"/api", "https://"] {
                assert!(!text.contains(absolute), "{name} has {absolute}");
            }
        }
    }
}
