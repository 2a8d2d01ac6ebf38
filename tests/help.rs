//! Help that fits a screen, and answers to what was typed wrongly.

mod support;

use serde_json::Value;
use support::agent::PATIENCE;
use support::consul_lock;
use support::running::{Ended, Running};

fn typed(args: &[&str]) -> Ended {
    // Whatever a mistake says, nothing may ask a Consul.
    Running::start(consul_lock().env("COLUMNS", "80").env("CONSUL_HTTP_ADDR", "127.0.0.1:1").args(args)).wait(PATIENCE)
}

/// Every command that somebody is to know, and none for the program itself.
fn commands() -> Vec<Option<String>> {
    let top = typed(&["--help"]).stdout;
    let (_, commands) = top.split_once("Commands:\n").expect("a list of commands");
    let names = commands.lines().map_while(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<_> = names.filter(|name| !["", "help"].contains(name)).map(str::to_owned).collect();
    assert!(names.len() > 8 && names.contains(&"run".to_owned()), "{top}");
    names.into_iter().map(Some).chain([None]).collect()
}

/// The names of the groups in the long help that have a flag in the short one.
fn groups<'a>(long: &'a str, short: &str) -> Vec<&'a str> {
    let mut group = "";
    let mut groups = Vec::new();
    for line in long.lines().take_while(|line| *line != "Examples:") {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            group = name;
        }
        let flag = line.split([' ', ',', '[']).find(|word| word.starts_with("--"));
        let is_flag =
            line.trim_start().starts_with('-') && !["--help", "--version"].contains(&flag.unwrap_or_default());
        if is_flag && flag.is_some_and(|flag| is_shown(short, flag)) && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// Whether a flag has a line.
fn is_shown(help: &str, flag: &str) -> bool {
    let mut lines = help.lines().map(|line| line.split("  ").find(|cell| cell.trim_start().starts_with('-')));
    lines.any(|cell| cell.is_some_and(|cell| cell.split([' ', '[', '.']).any(|word| word == flag)))
}

#[test]
fn the_short_help_of_each_command_fits_a_screen_and_is_grouped() {
    for command in commands() {
        let name = command.as_ref().map_or_else(|| "consul-lock".to_owned(), |name| format!("consul-lock {name}"));
        let [short, long] = ["-h", "--help"].map(|flag| {
            let args: Vec<_> = command.as_deref().into_iter().chain([flag]).collect();
            let ended = typed(&args);
            assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{args:?}");
            ended.stdout
        });
        let lines: Vec<_> = short.lines().collect();
        // One line less than a terminal has: the prompt needs one.
        assert!(lines.len() <= 23, "{name} -h has {} lines\n{short}", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 80 && *line == line.trim_end()), "{short}");
        assert!(!short.contains('\x1b'), "{short:?}");
        assert!(lines.last().is_some_and(|line| line.ends_with(&format!(": {name} --help"))), "{short}");
        assert!(lines.iter().any(|line| line.starts_with(&format!("Usage: {name} "))), "{short}");
        for group in groups(&long, &short) {
            assert!(lines.iter().any(|line| line.starts_with(&format!("{group}  "))), "{group}\n{short}");
        }
        if command.is_none() {
            for command in commands().into_iter().flatten() {
                let is_named = |line: &&str| line.get(10..).is_some_and(|row| row.starts_with(&format!("{command}  ")));
                assert!(lines.iter().any(is_named), "{command}\n{short}");
            }
        }
    }
}

#[test]
fn the_short_help_of_run_has_all_groups_and_a_line_a_flag() {
    let [short, long] = ["-h", "--help"].map(|flag| typed(&["run", flag]).stdout);
    let expected = ["Options", "Waiting", "Session", "On loss", "One machine", "Connection", "Output"];
    let lines: Vec<_> = short.lines().collect();
    for group in expected {
        assert_eq!(lines.iter().filter(|line| line.starts_with(&format!("{group}  "))).count(), 1, "{group}\n{short}");
    }
    assert_eq!(groups(&long, &short), expected[1..]);
    // Nothing is wrapped: beside its group's name each line has a flag and what it does.
    let column = "Connection   ".len();
    let first = lines.iter().position(|line| line.starts_with("Arguments")).expect("the key");
    let rows = &lines[first..lines.len() - 2];
    assert!(rows.len() > 14, "{short}");
    for row in rows {
        let (flag, text) = row[column..].split_once("  ").unwrap_or_else(|| panic!("{row:?} has no text\n{short}"));
        assert!(flag.starts_with(['-', '<']), "{row:?}");
        assert!(text.trim_start().starts_with(|c: char| c.is_uppercase()), "{row:?}");
    }
    for text in
        ["--ttl <DURATION>       The session's TTL, 10s to 24h [15s]", "  --local[=<DIR>]  ", "  -n, --no-wait  "]
    {
        assert!(short.contains(text), "{text}\n{short}");
    }
    let page = include_str!("../docs/terminal.md");
    assert!(
        page.contains(&format!("\n$ consul-lock run -h\n{short}```\n")),
        "docs/terminal.md shows another one than\n{short}"
    );
    // Coloured where clap's is.
    let mut command = consul_lock();
    let coloured = Running::start(command.env("CLICOLOR_FORCE", "1").args(["run", "-h"])).wait(PATIENCE).stdout;
    assert!(coloured.contains("\x1b[1m--ttl\x1b[0m"), "{coloured:?}");
    // Without a command it is for who mistyped.
    let ended = typed(&[]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""));
    assert_eq!(ended.stderr, typed(&["-h"]).stdout);
}

#[test]
fn the_long_help_has_every_flag_and_examples() {
    for args in [&["--help"][..], &["run", "--help"], &["help", "run"]] {
        let ended = typed(args);
        assert_eq!(ended.code(), Some(0));
        let (_, examples) = ended.stdout.split_once("Examples:\n").unwrap_or_else(|| panic!("{args:?}: {ended:?}"));
        let examples: Vec<_> = examples.lines().filter(|line| line.contains("consul-lock run ")).collect();
        assert!(examples.len() >= 3, "{examples:#?}");
    }
    let commands = "acquire renew release status list wait evict doctor completions man";
    for command in commands.split(' ') {
        let long = typed(&[command, "--help"]).stdout;
        let (_, examples) = long.split_once("Examples:\n").unwrap_or_else(|| panic!("{command}: {long}"));
        assert!(examples.contains(&format!("consul-lock {command} ")), "{examples}");
    }
    let [short, long] = ["-h", "--help"].map(|flag| typed(&["run", flag]).stdout);
    assert!(!short.contains("--monitor-retries") && long.contains("--monitor-retries"), "{short}");
}

#[test]
fn a_typo_is_answered_with_what_was_meant() {
    let typos: &[(&[&str], &str)] = &[
        (&["rnu", "k", "--", "true"], "did you mean run?"),
        (&["completion", "bash"], "did you mean completions?"),
        (&["help", "rum"], "did you mean run?"),
        (&["--vresion"], "did you mean --version?"),
        (&["run", "--tll", "15s", "k", "--", "true"], "did you mean --ttl?"),
        (&["run", "--wiat", "5", "k", "--", "true"], "did you mean --wait?"),
        (&["run", "--no-wiat", "k", "--", "true"], "did you mean --no-wait?"),
        (&["run", "--lockdelay", "5", "k", "--", "true"], "did you mean --lock-delay?"),
        (&["run", "--quite", "k", "--", "true"], "did you mean --quiet?"),
        (&["run", "--behavior=relase", "k", "--", "true"], "did you mean release?"),
        (&["run", "--log-format", "JSON", "k", "--", "true"], "did you mean json?"),
        (&["completions", "zhs"], "did you mean zsh?"),
        (&["run", "-s", "TRM", "k", "--", "true"], "did you mean TERM?"),
        (&["run", "--kill-signal=sighpu", "k", "--", "true"], "did you mean HUP?"),
        (&["run", "-s", "TERMINATE", "k", "--", "true"], "write for example TERM, INT, HUP"),
        (&["run", "--ttl", "15sec", "k", "--", "true"], "the unit \"sec\": seconds are s"),
        (&["run", "--ttl", "1m 30s", "k", "--", "true"], "did you mean 1m30s?"),
        (&["run", "-w", "never", "k", "--", "true"], "no number at \"never\": write for example 15s"),
        (&["run", "k", "ls", "-la"], "\n    consul-lock run k -- ls -la\n"),
        (&["run", "-w", "10", "k", "ls", "-la"], "\n    consul-lock run -w 10 k -- ls -la\n"),
    ];
    for (args, expected) in typos {
        let ended = typed(args);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("consul-lock: ") && ended.stderr.contains(expected), "{}", ended.stderr);
        assert!(ended.stderr.ends_with("\nFor more information, try '--help'.\n"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("error:") && !ended.stderr.contains("tip:"), "{}", ended.stderr);
    }
}

#[test]
fn a_line_without_run_is_answered_with_the_right_line() {
    let lines: &[(&[&str], &str)] = &[
        (&["deploy/web", "--", "ls", "-la"], "consul-lock run deploy/web -- ls -la"),
        (&["deploy/web", "ls"], "consul-lock run deploy/web -- ls"),
        (&["-n", "-w", "k", "ls"], ""),
        (&["-n", "deploy/web", "--", "echo", "it's"], "consul-lock run -n deploy/web -- echo 'it'\\''s'"),
        (&["-w", "5", "k", "-c", "a && b"], "consul-lock run -w 5 k -c 'a && b'"),
        (&["runs", "--", "ls"], "consul-lock run runs -- ls"),
        (&["deploy/web"], "consul-lock run deploy/web -- COMMAND"),
        (&["deploy/web", "--ttl", "20s"], "consul-lock run deploy/web --ttl 20s -- COMMAND"),
        (&["deploy/web", "ls", "-la"], "consul-lock run deploy/web -- ls -la"),
        // Slips in flags as well.
        (&["--sesion-name", "x", "k", "--", "ls"], "consul-lock run --session-name x k -- ls"),
        (&["k", "--wiat=5", "--tll", "20s", "--", "ls", "--tll"], "consul-lock run k --wait=5 --ttl 20s -- ls --tll"),
        (&["--sesion-name=x", "k", "ls", "-l"], "consul-lock run --session-name=x k -- ls -l"),
        (&["--tokn=s3cret", "k", "--", "ls"], "consul-lock run --token=TOKEN k -- ls"),
        (&["--token", "s3cret", "k", "--", "ls"], "consul-lock run --token TOKEN k -- ls"),
    ];
    for (args, expected) in lines {
        let ended = typed(args);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("\n    {expected}\n")) || expected.is_empty(), "{}", ended.stderr);
        assert!(ended.stderr.starts_with("consul-lock: ") && !ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
}

#[test]
fn a_page_that_there_is_not_is_answered_with_the_nearest() {
    for (name, expected) in [("staus", "\"staus\" that could have a page: did you mean status?\n"), ("x", "a page\n")] {
        let ended = typed(&["man", name]);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""));
        assert!(ended.stderr.ends_with(expected), "{}", ended.stderr);
    }
}

#[test]
fn a_mistake_is_an_object_for_who_reads_json() {
    let mistakes: [(&[&str], &str); 4] = [
        (&["run", "--log-format=json", "--tll", "5", "k", "--", "x"], "did you mean --ttl?"),
        (&["run", "--log-format", "json", "--", "x"], "<KEY>"),
        (&["k", "--log-format=json", "--", "x"], "did you mean: consul-lock run k --log-format=json -- x"),
        (&["run", "k", "--log-format=json", "-w", "never", "--", "x"], "\"never\""),
    ];
    for (args, expected) in mistakes {
        let ended = typed(args);
        let object: Value = serde_json::from_str(&ended.stderr).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        assert_eq!((ended.code(), &object["event"], &object["exit_code"]), (Some(64), &"error".into(), &64.into()));
        let message = object["message"].as_str().unwrap();
        assert!(message.contains(expected) && !message.contains('\n') && !message.contains("Usage"), "{message}");
    }
    // Behind `--` it is the command's business.
    assert!(typed(&["run", "--nope", "k", "--", "x", "--log-format=json"]).stderr.starts_with("consul-lock: "));
}
