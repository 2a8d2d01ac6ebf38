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

#[test]
fn the_short_help_of_each_command_fits_a_screen_and_is_grouped() {
    let top = typed(&["-h"]).stdout;
    let (_, commands) = top.split_once("Commands:\n").expect("a list of commands");
    let commands: Vec<_> = commands.lines().map_while(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.contains(&"run") && commands.contains(&"help"), "{top}");
    for command in commands.into_iter().filter(|command| !["", "help"].contains(command)).map(Some).chain([None]) {
        let mut args: Vec<_> = command.into_iter().collect();
        args.push("-h");
        let ended = typed(&args);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{args:?}");
        let lines: Vec<_> = ended.stdout.lines().collect();
        assert!(lines.len() <= 48, "{args:?} has {} lines\n{}", lines.len(), ended.stdout);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{args:?}\n{}", ended.stdout);
    }
    let help = typed(&["run", "-h"]).stdout;
    let lines: Vec<_> = help.lines().collect();
    for group in ["Waiting:", "Session:", "On loss:", "Connection:", "Output:"] {
        assert!(lines.contains(&group), "{group}\n{help}");
    }
    // A line a flag: nothing is wrapped, or put below its flag.
    let flags = lines.iter().filter(|line| line.trim_start().starts_with('-'));
    assert!(flags.clone().count() > 15, "{help}");
    for flag in flags {
        let (_, text) = flag.trim_start().split_once("  ").unwrap_or_else(|| panic!("{flag:?} has no text\n{help}"));
        assert!(text.trim_start().starts_with(|c: char| c.is_uppercase()), "{flag:?}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("          ")), "{help}");
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
    let [short, long] = ["-h", "--help"].map(|flag| typed(&["run", flag]).stdout);
    assert!(!short.contains("--monitor-retries") && long.contains("--monitor-retries"), "{short}");
    assert!(short.contains("consul-lock run --help"), "{short}");
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
