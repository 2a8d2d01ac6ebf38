//! The documentation against the program: what is in the one is in the other.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::agent::consul_binary;
use support::consul_lock;
use support::running::Running;

const BOUND: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

/// The cells of the rows of all tables in a page, without heads.
fn rows(page: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = page.lines().collect();
    let is_rule = |line: &str| line.starts_with("|--");
    let mut rows = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let is_head = lines.get(number + 1).is_some_and(|next| is_rule(next));
        if line.starts_with('|') && !is_rule(line) && !is_head {
            let line = line.replace("\\|", "\0");
            let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\0', "|"));
            rows.push(cells.collect());
        }
    }
    rows
}

/// The names of the flags in the definition of one: `-w, --wait <DURATION>` gives `-w` and `--wait`.
fn names(definition: &str) -> BTreeSet<String> {
    let words = definition.split([' ', ',', '=', '[', '<']).map(|word| word.trim_end_matches("..."));
    words.filter(|word| word.starts_with('-')).map(str::to_owned).collect()
}

/// The flags in a command's `--help`, by all their names, each with its default where it says one.
fn flags_in_help(command: &str) -> BTreeMap<BTreeSet<String>, Option<String>> {
    let ended = Running::start(consul_lock().args([command, "--help"])).wait(BOUND);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    let mut flags: Vec<(BTreeSet<String>, String)> = Vec::new();
    for line in ended.stdout.lines().map(str::trim) {
        if line.starts_with('-') && !line.starts_with("- ") {
            flags.push((names(line), String::new()));
        } else if let Some((_, text)) = flags.last_mut() {
            *text += line;
            text.push(' ');
        }
    }
    let default = |text: String| Some(text.split_once("[default: ")?.1.split_once(']')?.0.to_owned());
    flags.into_iter().map(|(names, text)| (names, default(text))).collect()
}

#[test]
fn every_flag_is_documented_with_its_default_and_no_other() {
    let in_help = flags_in_help("run");
    assert!(in_help.len() > 30, "{in_help:?}");
    let page = read("docs/flags.md");
    let mut in_page = BTreeMap::new();
    for row in rows(&page) {
        let definition = row[0].trim_matches('`').to_owned();
        assert!(in_page.insert(names(&definition), row).is_none(), "{definition} twice");
    }
    assert!(in_help.keys().eq(in_page.keys()), "{:#?}\n{:#?}", in_help.keys(), in_page.keys());
    for (names, default) in in_help {
        if let Some(default) = default {
            let cells = &in_page[&names];
            let given = cells[1] == default || cells[2].contains(&format!("efault {default}"));
            assert!(given, "{names:?} has the default {default}, and not {cells:?}");
        }
    }
}

#[test]
fn what_commands_for_scripts_have_beyond_run_is_documented_and_nothing_else() {
    let of_run = flags_in_help("run");
    let page = read("docs/detached.md");
    let table = rows(page.split_once("## Flags").expect("a chapter on flags").1);
    for command in ["acquire", "renew", "release"] {
        let is_own = |flag: &BTreeSet<String>| !of_run.contains_key(flag);
        let in_help: BTreeSet<_> = flags_in_help(command).into_keys().collect();
        let documented: BTreeSet<_> = (table.iter())
            .filter(|row| row[1].split(", ").any(|one| one == command))
            .map(|row| names(row[0].trim_matches('`')))
            .collect();
        assert!(in_help.iter().filter(|flag| is_own(flag)).all(|flag| documented.contains(flag)), "{in_help:?}");
        assert!(documented.is_subset(&in_help), "{documented:?}");
    }
}

/// The flags that another program's help has lines for.
fn flags_of(command: &mut Command) -> BTreeSet<String> {
    let ended = Running::start(command).wait(BOUND);
    let help = ended.stdout + &ended.stderr;
    let rows = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = rows.flat_map(|row| row.split("  ").next().unwrap_or_default().split([' ', ',', '=']));
    words.filter(|word| word.starts_with('-')).map(str::to_owned).collect()
}

#[test]
fn every_flag_of_consul_lock_and_of_flock_has_its_counterpart_on_the_page_for_who_comes_from_there() {
    for (page, command) in [
        ("docs/from-consul-lock.md", Command::new(consul_binary()).args(["lock", "-h"])),
        ("docs/from-flock.md", Command::new("flock").arg("--help")),
    ] {
        let flags = flags_of(command);
        assert!(flags.len() > 15, "{flags:?}");
        let text = read(page);
        // The first column, word by word.
        let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let known: BTreeSet<_> = rows.flat_map(|cell| cell.split([' ', '`', ',', '='])).collect();
        let common = ["-h", "--help", "-V", "--version"];
        let missing: Vec<_> =
            flags.iter().filter(|flag| !known.contains(flag.as_str()) && !common.contains(&flag.as_str())).collect();
        assert!(missing.is_empty(), "{page} lacks {missing:?}");
    }
}

#[test]
fn every_exit_code_is_documented_and_no_other() {
    let source = read("src/cli/exit.rs");
    let defined: BTreeSet<u8> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub(crate) const ")?.split_once("u8 = ")?.1.strip_suffix(';'))
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert!(defined.len() >= 9, "{defined:?}");
    let first = rows(&read("docs/exit-codes.md")).into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    let documented: BTreeSet<u8> = first.iter().filter_map(|cell| cell.parse().ok()).collect();
    assert_eq!(documented, defined);
    assert_eq!(first.len(), documented.len() + 2, "{first:?}");
    assert_eq!(first[..2], ["the command's own", "128+n"]);
}

#[test]
fn every_variable_is_documented_and_no_other() {
    let named = |text: &str| {
        let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        let ours = |word: &&str| {
            // A bare prefix is somebody's prose, and the unit tests have variables of their own.
            let is_name = word.starts_with("CONSUL_") && !word.ends_with('_') && !word.starts_with("CONSUL_LOCK_TEST_");
            is_name
                || matches!(
                    *word,
                    "HTTP_PROXY" | "HTTPS_PROXY" | "NO_PROXY" | "SSL_CERT_FILE" | "SSL_CERT_DIR" | "NO_COLOR"
                )
        };
        words.filter(ours).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let used: BTreeSet<String> = files("src", ".rs").iter().flat_map(|path| named(&read(path))).collect();
    assert!(used.len() > 20, "{used:?}");
    assert_eq!(named(&read("docs/environment.md")), used);
}

#[test]
fn every_json_event_is_documented_and_no_other() {
    let source = read("src/cli/report/json.rs");
    let mut told = BTreeSet::new();
    for before in ["(Normal, \"", "(Always, \"", "(Debug, \"", "(level, \"", "object(\""] {
        told.extend(source.split(before).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    }
    assert!(told.len() > 20, "{told:?}");
    let page = read("docs/events.md");
    let events = page.split_once("## Events").expect("a chapter on events").1;
    let events = events.split_once("## Fields").expect("a chapter on fields").0;
    let documented: BTreeSet<_> = rows(events).into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(documented, told);
}

/// The name that a heading goes by in a link, as the usual Markdown viewers make it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[test]
fn no_link_in_the_documentation_is_dead() {
    let mut checked = 0;
    for page in files("docs", ".md").into_iter().chain([root().join("README.md")]) {
        let text = read(&page);
        for target in text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
            if target.contains("://") {
                continue;
            }
            let (file, heading) =
                target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
            let linked = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            assert!(linked.exists(), "{} links to {target}", page.display());
            if let Some(heading) = heading {
                let found = read(&linked).lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{} links to {target}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 15, "{checked}");
}

/// Stands for a quotation mark within a string of the source.
const QUOTE: char = '\u{1}';

/// The program's source without its unit tests, on one line: each string is whole.
fn source() -> String {
    let is_test =
        |path: &PathBuf| path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
    let sources = files("src", ".rs").into_iter().filter(|path| !is_test(path));
    let own = sources.map(|path| read(path).split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned());
    let text = own.collect::<Vec<_>>().join("\n").replace("\\\n", " ").replace("\\\"", &QUOTE.to_string());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_message_of_the_troubleshooting_page_is_one_of_the_programs() {
    let (source, page) = (source().replace(QUOTE, "\""), read("docs/troubleshooting.md"));
    let cells = rows(&page).into_iter().map(|row| row[0].clone());
    let messages: Vec<_> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(messages.len() > 100, "{messages:#?}");
    let is_ours = |message: &String| message.split('…').all(|part| source.contains(part.trim()));
    let others: Vec<_> = messages.iter().filter(|message| !is_ours(message)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn every_error_is_on_the_troubleshooting_page() {
    let (source, page) = (source(), read("docs/troubleshooting.md"));
    let texts =
        source.split("#[error(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    let texts: Vec<_> = texts.collect();
    assert!(texts.len() > 80, "{texts:#?}");
    // The longest stretch between two values tells a message from all others; the page may leave out its end.
    let is_there = |text: &&str| {
        let parts = text.split('{').map(|part| part.split_once('}').map_or(part, |(_, part)| part));
        let parts = parts.map(|part| part.trim_matches(|c: char| c == QUOTE || !c.is_alphanumeric()));
        let longest = parts.max_by_key(|part| part.len()).unwrap_or_default();
        page.contains(&longest.chars().take(25).collect::<String>())
    };
    let missing: Vec<_> = texts.iter().filter(|text| !is_there(text)).map(|text| text.replace(QUOTE, "\"")).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_first_command_of_the_readme_runs() {
    let readme = read("README.md");
    let line = readme.lines().find_map(|line| line.strip_prefix("cargo run --release -- ")).expect("the command");
    let binary = assert_cmd::cargo::cargo_bin!("consul-lock").display().to_string();
    let mut shell = std::process::Command::new("sh");
    let ended = Running::start(shell.args(["-c", &format!("{binary} {line}")])).wait(BOUND);
    let expected = (Some(0), "nobody else runs this now\n", "");
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), expected);

    let tests = readme.split_once("<!-- tests -->\n").expect("the mark").1;
    assert_eq!(tests.lines().take(3).collect::<Vec<_>>(), ["```sh", "scripts/test", "```"]);
}
