//! What `consul-lock doctor` says, taken apart.

use std::process::Command;

use super::agent::PATIENCE;
use super::running::{Ended, Running};

/// All checks in their order: programs rely on it.
pub const NAMES: [&str; 14] = [
    "machine",
    "lease",
    "address",
    "connection",
    "tls",
    "leader",
    "clock",
    "version",
    "token",
    "session",
    "key",
    "queue",
    "slots",
    "readers",
];

/// Runs `consul-lock doctor` with these arguments to its end; it says nothing on standard error.
#[track_caller]
pub fn doctor(command: &mut Command, args: &[&str]) -> Ended {
    let ended = Running::start(command.arg("doctor").args(args)).wait(PATIENCE);
    assert_eq!(ended.stderr, "", "{}", ended.stdout);
    ended
}

/// The line of a check and what is indented below it.
fn told<'a>(stdout: &'a str, name: &str) -> (&'a str, String) {
    let mut lines =
        stdout.lines().skip_while(|line| line.get(7..).is_none_or(|rest| !rest.starts_with(&format!("{name}: "))));
    let line = lines.next().unwrap_or_else(|| panic!("no {name} in {stdout}"));
    (line, lines.take_while(|line| line.starts_with("       ")).map(|line| format!("{}\n", &line[7..])).collect())
}

/// Expects this status of a check, with a detail and a mend that contain these.
#[track_caller]
pub fn expect(ended: &Ended, name: &str, status: &str, detail: &str, mend: &str) {
    let (line, below) = told(&ended.stdout, name);
    let fits = line.starts_with(&format!("{status} ")) && line.contains(detail) && below.contains(mend);
    assert!(fits, "{name} is no {status} {detail:?} {mend:?}:\n{}", ended.stdout);
}

/// Expects that all checks after `name` are skipped on its account, and this exit code.
#[track_caller]
pub fn expect_end(ended: &Ended, name: &str, code: i32) {
    let after = ended.stdout.lines().skip_while(|line| !line.contains(&format!(" {name}: "))).skip(1);
    let skipped =
        after.filter(|line| line.starts_with("skip") && line.contains(&format!("needs {name}, which failed")));
    let expected = NAMES.iter().rev().take_while(|each| **each != name).count();
    assert_eq!((ended.code(), skipped.count()), (Some(code), expected), "{}", ended.stdout);
}

/// A line as it would be at another time on another machine.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    for word in line.split(", after ").next().unwrap_or_default().split(' ') {
        let is_id = word.len() == 36 && word.matches('-').count() == 4;
        let is_node = plain.ends_with("on node ");
        let word = if is_id || is_node { "X" } else { word };
        for c in word.chars().chain([' ']) {
            let c = if c.is_ascii_digit() || c == '.' { 'N' } else { c };
            if c != 'N' || !plain.ends_with('N') {
                plain.push(c);
            }
        }
    }
    plain
}

/// Expects that a transcript of docs/doctor.md shows what was said.
#[track_caller]
pub fn expect_documented(title: &str, ended: &Ended) {
    let page = include_str!("../../docs/doctor.md");
    let section = page
        .split("\n### ")
        .find(|section| section.starts_with(title))
        .unwrap_or_else(|| panic!("no section {title} for\n{}", ended.stdout));
    let block = section.split("```").nth(1).expect("a block").lines();
    let lines: Vec<_> = block.skip(2).filter(|line| !line.starts_with('$') && *line != "…").map(plain).collect();
    let said: Vec<_> = ended.stdout.lines().map(plain).collect();
    assert_eq!(lines, said, "docs/doctor.md, {title}");
}
