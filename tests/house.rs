//! The map in CONTRIBUTING.md against the tree, and the sources against the map's rule of who may use whom.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use support::page;

/// A row of the map.
#[derive(Debug)]
struct Row {
    /// Whether the place is a part of the library.
    is_library: bool,
    /// What it may use of the other parts.
    uses: String,
}

/// The map: each place with its row.
fn map() -> BTreeMap<String, Row> {
    let page = page::read("CONTRIBUTING.md");
    let chapter = page.split_once("## The map of the house").expect("the chapter").1;
    let chapter = chapter.split_once("\n## ").expect("the chapter after it").0;
    let mut map = BTreeMap::new();
    for row in chapter.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [places, what, uses] = cells[..] else { panic!("not three columns: {row}") };
        for place in places.split(", ") {
            let row = Row { is_library: what.starts_with("library: "), uses: uses.to_owned() };
            assert!(map.insert(place.trim_matches('`').to_owned(), row).is_none(), "{place} twice");
        }
    }
    assert!(map.len() > 15, "{map:?}");
    map
}

/// What is in a folder of the project, as the map names it: folders end with a slash.
fn entries(folder: &str) -> BTreeSet<String> {
    let found = fs::read_dir(page::root().join(folder)).expect("the folder is there").flatten();
    let name = |entry: fs::DirEntry| {
        let slash = if entry.path().is_dir() { "/" } else { "" };
        format!("{folder}{}{slash}", entry.file_name().to_string_lossy())
    };
    found.map(name).collect()
}

#[test]
fn the_map_names_every_part_of_the_sources_and_nothing_that_is_gone() {
    let map = map();
    let unnamed: Vec<_> = entries("src/").into_iter().filter(|entry| !map.contains_key(entry)).collect();
    assert!(unnamed.is_empty(), "CONTRIBUTING.md does not name {unnamed:?}");
    let is_source = |entry: &String| entry.ends_with('/') || entry.ends_with(".rs");
    let apart = |entry: &String| entry.starts_with('.') || ["src/", "target/"].contains(&entry.as_str());
    let top = entries("").into_iter().filter(|entry| is_source(entry) && !apart(entry));
    let unnamed: Vec<_> = top.filter(|entry| !map.contains_key(entry)).collect();
    assert!(unnamed.is_empty(), "CONTRIBUTING.md does not name {unnamed:?}");
    let gone: Vec<_> = map.keys().filter(|place| !page::root().join(place).exists()).collect();
    assert!(gone.is_empty(), "CONTRIBUTING.md names {gone:?}");
}

/// The sources of a part: `src/lock/` or `src/clock.rs`.
fn sources(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let entries = fs::read_dir(place).expect("the folder is there").flatten();
    entries
        .flat_map(|entry| sources(&entry.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .collect()
}

/// The parts that a source names: `crate::lock::…`, `consul_lock::{Client, duration}`. Comments name what they like.
fn named(source: &str, parts: &BTreeSet<String>) -> BTreeSet<String> {
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let paths = code.split("crate::").skip(1).chain(code.split("consul_lock::").skip(1));
    let heads = paths.flat_map(|path| match path.strip_prefix('{') {
        Some(group) => group.split('}').next().unwrap_or_default().split(',').collect(),
        None => vec![path],
    });
    let word =
        |head: &str| head.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
    heads.filter_map(word).filter(|word| parts.contains(word)).collect()
}

/// The name of a part in a path of the sources: `lock` for `src/lock/`.
fn part(place: &str) -> Option<String> {
    let name = place.strip_prefix("src/")?;
    Some(name.trim_end_matches('/').trim_end_matches(".rs").to_owned())
}

#[test]
fn dependencies_point_downwards_only() {
    let map = map();
    let parts: BTreeSet<String> = map.keys().filter_map(|place| part(place)).collect();
    let library: BTreeSet<String> =
        map.iter().filter(|(_, row)| row.is_library).filter_map(|(place, _)| part(place)).collect();
    let mut used = 0;
    for (place, Row { uses, .. }) in &map {
        let Some(own) = part(place).filter(|_| uses != "all") else { continue };
        let mut allowed: BTreeSet<String> = uses.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        if uses.contains("the library") {
            allowed.extend(library.iter().cloned());
        }
        let mut seen = BTreeSet::new();
        for path in sources(&page::root().join(place)) {
            let source = fs::read_to_string(&path).expect("a source that can be read");
            seen.extend(named(&source, &parts));
        }
        seen.remove(&own);
        used += seen.len();
        assert_eq!(seen, allowed, "what {place} uses, and what CONTRIBUTING.md says of it");
    }
    assert!(used > 25, "{used}");
}
