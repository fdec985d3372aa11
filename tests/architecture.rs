//! What uses what: the direction of imports, no circles of files, leaves that use nothing, and that every module opens with
//! documentation.
//!
//! Every path of every file is read, in tests too: those of its `use`s, and those that begin with `crate`, `super`,
//! `self`, a module of the file's or a name that it imported. A name that a module hands on counts as a use of the file
//! that has it. Only for circles a file's tests do not count: they may look at whatever uses the file.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Rooms in the order of the data path; each may use what stands to the right of it, and the leaves.
const DATA_PATH: [&str; 8] = ["streams", "client", "server", "protocol", "backend", "cluster", "broker", "log"];

/// Rooms that all may use and that use nothing of the others.
const LEAVES: [&str; 4] = ["config", "metrics", "security", "tell"];

#[test]
fn imports_point_from_the_socket_to_the_disk() {
    let library = Crate::read("src", "lib.rs");
    let rooms: BTreeSet<&str> = library.files.keys().filter_map(|module| module.first()).map(|room| &**room).collect();
    assert_eq!(rooms, DATA_PATH.into_iter().chain(LEAVES).collect(), "the rooms of src");
    let place = |room: &str| DATA_PATH.iter().position(|one| *one == room).unwrap_or(DATA_PATH.len());
    for Use { from, to, in_test } in library.uses() {
        let (Some(room), Some(used)) = (from.first(), to.first()) else { continue };
        let leaf = LEAVES.contains(&&**room);
        // What was asked for is known to whoever does it.
        let configured = room == "security" && used == "config";
        let right = if leaf { room == used || configured } else { place(room) <= place(used) };
        // The cluster of its tests is a server of this broker's.
        let right = right || in_test && room == "cluster";
        assert!(right, "{} uses {}", shown(&from), shown(&to));
        assert!(room != "client" || used != "server", "{} uses {}", shown(&from), shown(&to));
    }
}

/// What answers the verbs shall have a second form, which has neither partitions nor logs.
#[test]
fn whoever_asks_the_broker_gets_handles_and_batches_and_never_a_partition_or_a_chunk_of_a_log() {
    let below = [["broker", "Partition"], ["broker", "Topic"], ["log", "Chunk"], ["log", "Log"]];
    let library = Crate::read("src", "lib.rs");
    let asks = |module: &[String]| ["client", "server", "protocol"].iter().any(|room| module[0] == *room);
    for (module, file) in library.files.iter().filter(|(module, _)| !module.is_empty() && asks(module)) {
        let is_test = (1..=module.len()).any(|length| library.is_test(&module[..length]));
        for path in file.paths.iter().filter(|path| !path.in_test && !is_test) {
            let names = library.absolute(module, &path.names).unwrap_or_default();
            assert!(!below.iter().any(|below| names.starts_with(&below.map(String::from))), "{}", shown(module));
        }
        let text = ["broker.topic(", "broker.topics("].iter().find(|call| !is_test && file.text.contains(**call));
        assert_eq!(text, None, "{}", shown(module));
    }
}

#[test]
fn files_form_no_circles() {
    for (dir, root) in CRATES {
        let read = Crate::read(dir, root);
        // Files and folders that stand beside each other: which uses which, and where.
        let mut levels: BTreeMap<Module, BTreeMap<String, BTreeMap<String, Use>>> = BTreeMap::new();
        for one in read.uses().into_iter().filter(|one| !one.in_test) {
            let common = one.from.iter().zip(&one.to).take_while(|(a, b)| a == b).count();
            // What a folder's mod.rs and the files in it use of each other is no circle: it is a folder.
            if let (Some(from), Some(to)) = (one.from.get(common), one.to.get(common)) {
                let level = levels.entry(one.from[..common].to_vec()).or_default();
                level.entry(from.clone()).or_default().entry(to.clone()).or_insert(one.clone());
            }
        }
        let circles: Vec<String> = levels.values().filter_map(circle).collect();
        assert!(circles.is_empty(), "{dir}/{root}: {}", circles.join("\nand "));
    }
}

#[test]
fn only_programs_know_flags_and_end_the_process() {
    for (module, file) in &Crate::read("src", "lib.rs").files {
        for path in &file.paths {
            let names: Vec<&str> = path.names.iter().map(|name| &**name).collect();
            assert_ne!(names[0], "clap", "{}", shown(module));
            assert!(!names.ends_with(&["process", "exit"]), "{}", shown(module));
        }
    }
}

#[test]
fn every_module_opens_with_what_it_owns() {
    for file in ["src", "tests", "benches", "examples"].iter().flat_map(|dir| sources(Path::new(dir))) {
        let text = fs::read_to_string(&file).unwrap();
        let opens = text.starts_with("//!") || text.starts_with("#![doc");
        assert!(opens, "{} does not say what it owns", file.display());
    }
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = r##"
        //! use crate::comment::A;
        use crate::{a::{self, B}, c as d};
        pub(in super::e) const TEXT: &str = "crate::text::C"; /* crate::block::D */
        fn f<'a>(quote: char) -> crate::g::G<'a> { match quote { '"' => super::h::i(), '\'' => d::J::k::<u8>() } }
        #[cfg(test)]
        mod tests { use super::*; mod inner { use super::super::l; } }
        #[cfg(all(test, feature = "x"))]
        mod more_tests;
        mod no_tests;
        const RAW: &str = r#"crate::raw::M"#;
    "##;
    let file = File::parse(text, &["x".into(), "y".into()]);
    let found: BTreeSet<String> = file.paths.iter().map(|path| path.names.join("::")).collect();
    let expected = ["crate::a", "crate::a::B", "crate::c", "crate::x::e", "crate::g::G", "crate::x::h::i", "d::J::k"];
    let mut expected: BTreeSet<String> = expected.iter().map(|path| path.to_string()).collect();
    expected.extend(["crate::x::y".into(), "crate::x::y::l".into()]);
    assert_eq!(found, expected);
    assert_eq!(file.imports["d"], ["crate", "c"]);
    let in_tests: Vec<_> = file.paths.iter().filter(|path| path.in_test).map(|path| path.names.join("::")).collect();
    assert_eq!(in_tests, ["crate::x::y", "crate::x::y::l"]);
    assert_eq!(file.test_modules, ["more_tests".to_string()].into());
}

#[test]
fn a_circle_is_told_with_its_files() {
    let one =
        |from: &str, to: &str| (to.to_string(), Use { from: vec![from.into()], to: vec![to.into()], in_test: false });
    let level = |uses: &[(&str, &str)]| {
        let mut level: BTreeMap<String, BTreeMap<String, Use>> = BTreeMap::new();
        uses.iter().for_each(|(from, to)| level.entry((*from).into()).or_default().extend([one(from, to)]));
        level
    };
    assert_eq!(circle(&level(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
    let found = circle(&level(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")])).unwrap();
    assert_eq!(found, "b uses c, c uses d, d uses b");
}

/// The crates of src: their folder, and the file at their root.
const CRATES: [(&str, &str); 4] =
    [("src", "lib.rs"), ("src/bin", "broker.rs"), ("src/bin", "producer.rs"), ("src/bin", "consumer.rs")];

/// A module by the names that lead to it from the crate's root.
type Module = Vec<String>;

fn shown(module: &[String]) -> String {
    if module.is_empty() { "the root".into() } else { module.join("/") }
}

/// A file of `to` is used in one of `from`.
#[derive(Clone, Debug)]
struct Use {
    from: Module,
    to: Module,
    in_test: bool,
}

/// The files of a crate.
struct Crate {
    files: BTreeMap<Module, File>,
}

impl Crate {
    fn read(dir: &str, root: &str) -> Crate {
        let dir = Path::new(dir);
        let mut files = BTreeMap::new();
        for path in sources(dir) {
            let name = path.strip_prefix(dir).unwrap();
            let beside_the_root = name.components().count() == 1;
            if name == Path::new(root) {
                files.insert(Vec::new(), File::parse(&fs::read_to_string(&path).unwrap(), &[]));
            } else if dir != Path::new("src") && beside_the_root || name.starts_with("bin") {
                // The root of another crate.
            } else {
                let name = name.with_extension("");
                let mut module: Module = name.iter().map(|part| part.to_str().unwrap().into()).collect();
                module.pop_if(|last| last == "mod");
                let file = File::parse(&fs::read_to_string(&path).unwrap(), &module);
                files.insert(module, file);
            }
        }
        assert!(files.contains_key([].as_slice()), "{} has no {root}", dir.display());
        Crate { files }
    }

    /// Every use of a file in another.
    fn uses(&self) -> Vec<Use> {
        let mut found = Vec::new();
        for (from, file) in &self.files {
            let is_test = (1..=from.len()).any(|length| self.is_test(&from[..length]));
            for Named { names, in_test } in &file.paths {
                let to = self.absolute(from, names).map(|names| self.home(&names, 0));
                let used = |to| Use { from: from.clone(), to, in_test: *in_test || is_test };
                found.extend(to.filter(|to| to != from).map(used));
            }
        }
        found
    }

    /// Whether the module is there for tests only.
    fn is_test(&self, module: &[String]) -> bool {
        let (name, parent) = module.split_last().unwrap();
        self.files.get(parent).is_some_and(|parent| parent.test_modules.contains(name))
    }

    /// A path from the crate's root, if it does not lead into another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        if path[0] == "crate" {
            return Some(path[1..].to_vec());
        }
        let child = [module, &path[..1]].concat();
        if self.files.contains_key(&child) {
            return Some([child.as_slice(), &path[1..]].concat());
        }
        let imported = self.files[module].imports.get(&path[0]).filter(|target| target[0] != path[0])?;
        let target = self.absolute(module, imported)?;
        Some([target.as_slice(), &path[1..]].concat())
    }

    /// The file that has what `path` names: the last module on the way, or where that one has it from.
    fn home(&self, path: &[String], depth: usize) -> Module {
        assert!(depth < 20, "{path:?} leads in a circle");
        let known = (0..=path.len()).rev().find(|&length| self.files.contains_key(&path[..length])).unwrap();
        let (module, rest) = path.split_at(known);
        let import = rest.first().and_then(|name| self.files[module].imports.get(name));
        match import.and_then(|target| self.absolute(module, target)) {
            Some(target) => self.home(&[target.as_slice(), &rest[1..]].concat(), depth + 1),
            None => module.to_vec(),
        }
    }
}

/// A circle among what stands side by side, if there is one.
fn circle(level: &BTreeMap<String, BTreeMap<String, Use>>) -> Option<String> {
    level.keys().find_map(|start| {
        let mut way = vec![(start, level[start].keys())];
        let mut seen = BTreeSet::from([start]);
        while let Some((_, next)) = way.last_mut() {
            match next.next() {
                Some(name) if name == start => {
                    let names: Vec<_> = way.iter().map(|(name, _)| *name).chain([start]).collect();
                    let told = names.windows(2).map(|pair| &level[pair[0]][pair[1]]);
                    let told = told.map(|one| format!("{} uses {}", shown(&one.from), shown(&one.to)));
                    return Some(told.collect::<Vec<_>>().join(", "));
                }
                Some(name) if seen.insert(name) => {
                    way.extend(level.get_key_value(name).map(|(name, to)| (name, to.keys())))
                }
                Some(_) => {}
                None => drop(way.pop()),
            }
        }
        None
    })
}

/// What a file names.
#[derive(Default)]
struct File {
    paths: Vec<Named>,
    /// What its `use`s call what, outside of its inline modules.
    imports: BTreeMap<String, Vec<String>>,
    /// Files that it opens for tests only.
    test_modules: BTreeSet<String>,
    text: String,
}

/// A path; one that began with `super` or `self` begins with `crate`.
struct Named {
    names: Vec<String>,
    in_test: bool,
}

impl File {
    /// Reads the text of the file of `module`.
    fn parse(text: &str, module: &[String]) -> File {
        let tokens = tokens(text);
        let mut file = File { text: text.into(), ..File::default() };
        let (mut inside, mut depth, mut at) = (Vec::<Inline>::new(), 0, 0);
        while at < tokens.len() {
            let here = || module.iter().chain(inside.iter().map(|inline| &inline.name)).cloned().collect::<Module>();
            let in_test = inside.iter().any(|inline| inline.is_test);
            match tokens[at].as_str() {
                "use" => {
                    let mut tree = Vec::new();
                    at = use_tree(&tokens, at + 1, &[], &mut tree);
                    for (names, alias) in tree {
                        let names = from_root(&names, &here());
                        if inside.is_empty() {
                            file.imports.insert(alias, names.clone());
                        }
                        file.paths.push(Named { names, in_test });
                    }
                    continue;
                }
                "mod" => {
                    let (name, is_test) = (tokens[at + 1].clone(), is_for_tests(&tokens[..at]));
                    match tokens[at + 2].as_str() {
                        "{" => inside.push(Inline { name, depth, is_test }),
                        _ if is_test => drop(file.test_modules.insert(name)),
                        _ => {}
                    }
                    at += 1;
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inside.pop_if(|inline| inline.depth == depth);
                }
                name if is_name(name) && tokens.get(at + 1).is_some_and(|next| next == "::") => {
                    let mut names = vec![tokens[at].clone()];
                    while tokens[at + 1] == "::" && is_name(&tokens[at + 2]) {
                        names.push(tokens[at + 2].clone());
                        at += 2;
                    }
                    if names.len() > 1 {
                        file.paths.push(Named { names: from_root(&names, &here()), in_test });
                    }
                }
                _ => {}
            }
            at += 1;
        }
        file
    }
}

/// A module within a file, and how deep in braces it stands.
struct Inline {
    name: String,
    depth: usize,
    is_test: bool,
}

/// Whether an attribute such as `#[cfg(test)]` ends the tokens.
fn is_for_tests(tokens: &[String]) -> bool {
    let begins = tokens.iter().rposition(|token| token == "#").unwrap_or(tokens.len());
    let attribute: Vec<_> = tokens[begins..].iter().map(|token| token.as_str()).collect();
    attribute.starts_with(&["#", "[", "cfg", "("]) && attribute.ends_with(&["]"]) && attribute.contains(&"test")
}

/// Reads one branch of a `use`, with what it is called here; answers where the next token is.
fn use_tree(tokens: &[String], mut at: usize, stem: &[String], found: &mut Vec<(Vec<String>, String)>) -> usize {
    let mut names = stem.to_vec();
    loop {
        match tokens[at].as_str() {
            "{" => {
                while tokens[at] != "}" {
                    at = use_tree(tokens, at + 1, &names, found);
                }
                return at + 1;
            }
            "::" => {}
            "as" => {
                found.push((names, tokens[at + 1].clone()));
                return at + 2;
            }
            "," | "}" | ";" => {
                if let Some(last) = names.last().filter(|_| names.len() > stem.len()) {
                    let alias = last.clone();
                    found.push((names, alias));
                }
                return at;
            }
            "*" => {
                found.push((names, "*".into()));
                return at + 1;
            }
            "self" if !names.is_empty() => {
                let alias = names.last().unwrap().clone();
                found.push((names, alias));
                return at + 1;
            }
            name => names.push(name.into()),
        }
        at += 1;
    }
}

/// The path from the crate's root, where it begins with `super` or `self`.
fn from_root(names: &[String], module: &[String]) -> Vec<String> {
    let relative = names.iter().take_while(|name| *name == "super" || *name == "self").count();
    if relative == 0 {
        return names.to_vec();
    }
    let up = names[..relative].iter().filter(|name| *name == "super").count();
    let stem = ["crate".to_string()].into_iter().chain(module[..module.len() - up].iter().cloned());
    stem.chain(names[relative..].iter().cloned()).collect()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::`, and single characters; without comments, texts and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let (mut rest, mut found) = (text, Vec::new());
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").unwrap() + 2,
            '"' => quoted(rest, '"'),
            '\'' => match rest.chars().nth(2) {
                Some('\'') => quoted(rest, '\''),
                _ if rest.starts_with("'\\") => quoted(rest, '\''),
                _ => 1 + name_length(&rest[1..]),
            },
            _ if is_raw(rest) => {
                let hashes = rest.find('"').unwrap() - rest.find(['#', '"']).unwrap();
                let end = format!("\"{}", "#".repeat(hashes));
                let start = rest.find('"').unwrap() + 1;
                start + rest[start..].find(&end).unwrap() + end.len()
            }
            _ if name_length(rest) > 0 => {
                found.push(rest[..name_length(rest)].into());
                name_length(rest)
            }
            _ if rest.starts_with("::") => {
                found.push("::".into());
                2
            }
            _ => {
                found.extend((!first.is_whitespace()).then(|| first.to_string()));
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    found
}

fn name_length(text: &str) -> usize {
    text.find(|one: char| !one.is_alphanumeric() && one != '_').unwrap_or(text.len())
}

/// `r"`, `br#"`, and so on.
fn is_raw(text: &str) -> bool {
    let text = text.strip_prefix(['b', 'c']).unwrap_or(text);
    text.strip_prefix('r').is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
}

/// Length of a text in quotes, escapes and all.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = text[1..].find(|one| {
        let ends = one == quote && !escaped;
        escaped = one == '\\' && !escaped;
        ends
    });
    end.unwrap() + 2
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
