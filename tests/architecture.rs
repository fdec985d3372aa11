//! The direction of imports, and that every module opens with documentation.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

/// Folders in the order of the data path; each may use what stands to the right of it.
const PATH: [&str; 4] = ["server", "protocol", "broker", "log"];

fn sources(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn imports_point_from_the_socket_to_the_disk() {
    for (index, room) in PATH.iter().enumerate() {
        let mut files = Vec::new();
        sources(&Path::new("src").join(room), &mut files);
        assert!(!files.is_empty(), "{room} is empty");
        for (file, text) in files {
            let code = text.split("#[cfg(test)]").next().unwrap();
            for left in PATH[..index].iter().chain(&["client"]) {
                let used = code.contains(&format!("crate::{left}")) || code.contains(&format!("\n    {left}::"));
                assert!(!used, "{file} uses {left}, which stands to the left of it");
            }
            let outer = code.contains("clap::") || code.contains("process::exit");
            assert!(!outer, "{file}: only the programs know flags and end the process");
        }
    }
}

#[test]
fn every_module_opens_with_what_it_owns() {
    let mut files = Vec::new();
    ["src", "tests", "benches", "examples"].iter().for_each(|room| sources(Path::new(room), &mut files));
    for (file, text) in files {
        assert!(text.starts_with("//!") || text.starts_with("#![doc"), "{file} does not say what it owns");
    }
}
