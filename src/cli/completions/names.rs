//! The names of locks, for a shell that completes a key. The shell passes what was typed before the cursor; whether a
//! key stands there is read from the definitions of the flags, so that each shell's script need not know. Somebody has
//! pressed a key and waits: after 300 ms in all, name lookup included, there are no names; and nothing is ever said.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Args, Command, CommandFactory as _, FromArgMatches as _};
use consul_lock::Client;
use consul_lock::consul::Read;
use consul_lock::lock::LOCK_FLAGS;

use crate::cli::args::Cli;
use crate::cli::connection::Connection;
use crate::cli::exit::Exit;
use crate::cli::output::print;

/// From the start of this process, less what starting it takes.
const BOUND: Duration = Duration::from_millis(280);

/// No shell shows more.
const MOST: usize = 1000;

/// Prints the names of locks that fit what was typed, for the shells' completions.
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// What was typed of the word at the cursor.
    #[arg(long, allow_hyphen_values = true)]
    current: OsString,
    /// The words before it, without the program.
    #[arg(last = true)]
    before: Vec<OsString>,
}

/// Prints what fits; nothing in any doubt.
pub(crate) fn run(args: &NamesArgs) -> Exit {
    let begun = Instant::now();
    let before: Vec<&str> = args.before.iter().filter_map(|word| word.to_str()).collect();
    let Some((current, connection)) = args.current.to_str().zip(connection_of(&before)) else { return Exit::Code(0) };
    if before.len() < args.before.len() || !is_key(&before, current) {
        return Exit::Code(0);
    }
    let prefix = current.to_owned();
    let (sender, answer) = channel();
    let ask = move || {
        let names = connection.client().ok().and_then(|client| names(&client, &prefix));
        let _ = sender.send(names);
    };
    if thread::Builder::new().name("names".into()).spawn(ask).is_err() {
        return Exit::Code(0);
    }
    match answer.recv_timeout(BOUND.saturating_sub(begun.elapsed())) {
        Ok(Some(names)) => print(&names.iter().map(|name| format!("{name}\n")).collect::<String>()),
        _ => Exit::Code(0),
    }
}

/// Locks below the prefix, each up to the next slash: a tree of thousands is walked a level at a time, as files are.
fn names(client: &Client, prefix: &str) -> Option<BTreeSet<String>> {
    let listing = client.list(prefix, Read::Default, BOUND).ok()?;
    let is_lock = |flags: u64| flags == LOCK_FLAGS;
    let locks = listing.entries.iter().filter(|entry| is_lock(entry.flags)).map(|entry| lock_of(&entry.key));
    // A name with a control character in it would be two to a shell, or worse.
    let plain = locks.filter(|name| !name.chars().any(char::is_control));
    Some(plain.filter_map(|name| level(name, prefix)).take(MOST).collect())
}

/// The lock that an entry belongs to: its slots and readers are not locks of their own.
fn lock_of(key: &str) -> &str {
    let ours = ["/.slot/", "/.read/", "/.queue/"];
    ours.iter().filter_map(|part| key.find(part)).min().map_or(key, |at| &key[..at])
}

/// A name up to the next slash after the prefix.
fn level(name: &str, prefix: &str) -> Option<String> {
    let rest = name.strip_prefix(prefix)?;
    Some(rest.find('/').map_or(name, |at| &name[..=prefix.len() + at]).to_owned())
}

/// Whether a key stands at the cursor.
fn is_key(before: &[&str], current: &str) -> bool {
    let Some((name, words)) = before.split_first() else { return false };
    let cli = Cli::command();
    let Some(command) = cli.find_subcommand(name) else { return false };
    if current.starts_with('-') {
        return false;
    }
    let mut values = 0;
    let mut position = 0;
    for word in words {
        if values > 0 {
            values -= 1;
        } else if *word == "--" {
            return false;
        } else if let Some(flag) = flag(command, word) {
            values = values_of(flag, word);
        } else if !word.starts_with('-') {
            position += 1;
        }
    }
    let positionals: Vec<&Arg> = command.get_positionals().filter(|arg| !arg.is_last_set()).collect();
    let is_many = |arg: &&Arg| arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let here = positionals.get(position).or_else(|| positionals.last().filter(|arg| is_many(arg)));
    values == 0 && here.is_some_and(|arg| ["key", "keys", "prefix"].contains(&arg.get_id().as_str()))
}

/// The flag that a word is, or ends with: `--wait`, `-w`, `-nw`.
fn flag<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let long = word.strip_prefix("--").map(|name| name.split('=').next().unwrap_or(name));
    let takes_value = |arg: &Arg| arg.get_action().takes_values();
    if let Some(long) = long {
        return command.get_arguments().find(|arg| arg.get_long() == Some(long));
    }
    let shorts = word.strip_prefix('-')?.chars();
    let mut known = shorts.filter_map(|short| command.get_arguments().find(|arg| arg.get_short() == Some(short)));
    let first = known.next()?;
    if takes_value(first) { Some(first) } else { known.find(|arg| takes_value(arg)).or(Some(first)) }
}

/// How many words after it belong to a flag.
fn values_of(flag: &Arg, word: &str) -> usize {
    let has_own =
        word.contains('=') || (!word.starts_with("--") && flag.get_short().is_some_and(|short| !word.ends_with(short)));
    let takes = flag.get_action().takes_values() && !flag.is_require_equals_set();
    usize::from(takes && !has_own)
}

/// The connection that the flags before the cursor describe, whatever else is typed there.
fn connection_of(before: &[&str]) -> Option<Connection> {
    let own = Connection::augment_args(Command::new("names").no_binary_name(true));
    let mut typed = Vec::new();
    let mut words = before.iter();
    while let Some(word) = words.next().filter(|word| **word != "--") {
        if word.starts_with("--")
            && let Some(flag) = flag(&own, word)
        {
            typed.push(*word);
            typed.extend(words.by_ref().take(values_of(flag, word)));
        }
    }
    let matches: ArgMatches = own.try_get_matches_from(typed).ok()?;
    Connection::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_where_the_definitions_say() {
        let keys: [&[&str]; 6] = [
            &["run"],
            &["run", "-n"],
            &["run", "-w", "5"],
            &["run", "-w5", "--ttl", "20s", "--local"],
            &["run", "--http-addr=http://127.0.0.1:1", "-nq", "a"],
            &["run", "-v", "-v"],
        ];
        for before in keys {
            assert!(is_key(before, "cron/"), "{before:?}");
        }
        let others: [&[&str]; 7] = [
            &[],
            &["no-such"],
            &["run", "-w"],
            &["run", "--ttl"],
            &["run", "k", "--"],
            &["run", "k", "--", "x"],
            &["help"],
        ];
        for before in others {
            assert!(!is_key(before, "cron/"), "{before:?}");
        }
        assert!(!is_key(&["run"], "--w"));
    }

    #[test]
    fn the_connection_is_what_was_typed_so_far() {
        let typed = ["run", "-w", "5", "--http-addr", "http://127.0.0.1:1", "--datacenter=dc2", "key", "--token"];
        let connection = connection_of(&typed[..7]).expect("sound flags");
        assert_eq!(connection.http_addr.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(connection.datacenter.as_deref(), Some("dc2"));
        assert!(connection_of(&typed).is_none());
    }

    #[test]
    fn a_tree_is_completed_a_level_at_a_time() {
        assert_eq!(level("cron/db/backup", "cr").as_deref(), Some("cron/"));
        assert_eq!(level("cron/db/backup", "cron/").as_deref(), Some("cron/db/"));
        assert_eq!(level("cron/db/backup", "cron/db/b").as_deref(), Some("cron/db/backup"));
        assert_eq!(level("other", "cron"), None);
        assert_eq!(lock_of("a/b/.slot/2"), "a/b");
        assert_eq!(lock_of("a/b"), "a/b");
    }
}
