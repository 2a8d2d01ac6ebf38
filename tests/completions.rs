//! Completions in real shells at a terminal, and the manual's pages.

mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use consul_lock::lock::LOCK_FLAGS;
use support::agent::Agent;
use support::pty::Pty;
use support::running::Running;
use support::{consul_lock, consul_lock_on, hold};

const SOON: Duration = Duration::from_secs(20);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Shows what bash or zsh would have run; the question for names is let through.
const SHOW: &str =
    r#"consul-lock() { [ "$1" = names ] && { command consul-lock "$@"; return; }; local IFS="|"; echo "<$*>"; }"#;

/// A shell on a terminal that has our completions, and the agent's address.
fn shell(program: &str, args: &[&str], agent: &Agent, setup: &str) -> Pty {
    let bin = assert_cmd::cargo::cargo_bin!("consul-lock").parent().expect("a folder").to_owned();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let home = agent.dir().join(program);
    fs::create_dir_all(&home).expect("a home of its own");
    let mut command = Command::new(program);
    command.args(args).env("PATH", path).env("HOME", &home).env("CONSUL_HTTP_ADDR", agent.http_addr());
    command.env_remove("CONSUL_HTTP_TOKEN").env("PS1", "% ").env("HISTFILE", "").env("INPUTRC", "/dev/null");
    command.env("XDG_CONFIG_HOME", &home).env("XDG_DATA_HOME", &home).env("ZDOTDIR", &home);
    // What elvish keeps of its own: a history, and the socket of the process that keeps it.
    command.env("XDG_STATE_HOME", &home).env("XDG_RUNTIME_DIR", &home);
    let mut pty = Pty::spawn(&command);
    pty.send(format!("{setup}\n"));
    pty.send("echo rea''dy\n");
    pty.expect("ready", SOON);
    pty
}

fn script(name: &str) -> PathBuf {
    root().join("completions").join(name)
}

fn runs(program: &str, package: &str) {
    let found = Command::new(program).arg("--version").output();
    assert!(found.is_ok(), "{program} is not on PATH: apt-get install {package}");
}

/// What all shells must do. `space` is what is typed after a whole flag and the name of a command: nothing where the shell
/// puts a space there by itself, as all do after a key.
fn complete_everything(pty: &mut Pty, agent: &Agent, space: &str) {
    let _first = hold(agent, &[], "cron/backup");
    let _second = hold(agent, &[], "zebra");
    let mut expect = |typed: &str, words: &str| {
        pty.send(format!("{typed}\n"));
        pty.expect(&format!("<{words}>"), SOON);
    };
    // A key, a level at a time, and one with a flag's value before it.
    expect("consul-lock run cr\tback\tx", "run|cron/backup|x");
    expect("consul-lock run -w 5 --ttl 20s ze\tx", "run|-w|5|--ttl|20s|zebra|x");
    expect("consul-lock status --token 'a b' ze\tx", "status|--token|a b|zebra|x");
    // A flag and a command's name, by their definitions.
    expect(&format!("consul-lock run --keep-k\t{space}x"), "run|--keep-key|x");
    expect(&format!("consul-lock comp\t{space}x"), "completions|x");
    // The command's own words.
    expect(&format!("consul-lock run zebra -- mkno\t{space}x"), "run|zebra|--|mknod|x");
}

/// Names that a shell must quote, whose first two letters are their own.
const ODD: [&str; 12] = [
    "aa b",
    "ab  c ",
    "ac$HOME",
    "ad;id",
    "ae'f",
    "af\"g",
    "ag\\h *",
    "ah*",
    "ai`id`",
    "aj#k &",
    "ak{l,m}",
    "al!é ü(n)[o]<p>|",
];

/// Completes each of [`ODD`], where `accept` is done to have what the shell offers.
fn complete_odd_names(pty: &mut Pty, agent: &Agent, accept: impl Fn(&mut Pty)) {
    for name in ODD {
        assert_eq!(put_lock(agent, name), 200);
    }
    for name in ODD {
        pty.send(format!("consul-lock run {}\t", &name[..2]));
        accept(pty);
        pty.send("x\n");
        pty.expect(&format!("<run|{name}|x>"), SOON);
    }
}

#[test]
fn bash_completes_locks_flags_and_the_command() {
    let agent = Agent::plain();
    let setup = format!("set +o history; source {}\n{SHOW}", script("consul-lock.bash").display());
    let mut pty = shell("bash", &["--norc", "--noprofile", "-i"], &agent, &setup);
    complete_everything(&mut pty, &agent, "");
    // As bash cuts words at = and :, too.
    let _colon = hold(&agent, &[], "a:b/c");
    pty.send(format!("consul-lock run --http-addr={} a:\tc\tx\n", agent.http_addr()));
    pty.expect("|a:b/c|x>", SOON);
    // A blank that is quoted ends no word, for the end of which a key would come in place of the whole.
    pty.send("consul-lock run --value a\\ ze\tx\n");
    pty.expect("<run|--value|a zex>", SOON);
    complete_odd_names(&mut pty, &agent, |_| ());
}

#[test]
fn zsh_completes_locks_flags_and_the_command() {
    runs("zsh", "zsh");
    let agent = Agent::plain();
    let folder = root().join("completions");
    let setup = format!("fpath=({} $fpath); autoload -Uz compinit; compinit -u -D\n{SHOW}", folder.display());
    let mut pty = shell("zsh", &["-f", "-i"], &agent, &setup);
    complete_everything(&mut pty, &agent, "");
    complete_odd_names(&mut pty, &agent, |_| ());
    for typed in ["aa\\ ", "'aa ", "\"aa "] {
        pty.send(format!("consul-lock run {typed}\tx\n"));
        pty.expect("<run|aa b|x>", SOON);
    }
}

#[test]
fn fish_completes_locks_flags_and_the_command() {
    runs("fish", "fish");
    let agent = Agent::plain();
    let (_first, _second) = (hold(&agent, &[], "cron/backup"), hold(&agent, &[], "zebra"));
    let complete = |line: &str| {
        let mut fish = Command::new("fish");
        let bin = assert_cmd::cargo::cargo_bin!("consul-lock").parent().expect("a folder").to_owned();
        fish.args(["--no-config", "--command"]);
        fish.arg(format!("source {}; complete -C {line:?}", script("consul-lock.fish").display()));
        fish.env("CONSUL_HTTP_ADDR", agent.http_addr());
        fish.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()));
        let ended = Running::start(&mut fish).wait(SOON);
        assert_eq!(ended.stderr, "");
        ended.stdout.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(complete("consul-lock run "), ["cron/", "zebra"]);
    assert_eq!(complete("consul-lock run cron/"), ["cron/backup"]);
    assert_eq!(complete("consul-lock run -w 5 z"), ["zebra"]);
    assert_eq!(complete("consul-lock run --lock-d"), ["--lock-delay"]);
    assert!(complete("consul-lock run zebra -- mkno").contains(&"mknod".to_owned()));
    assert_eq!(complete("consul-lock run zebra -- ls /et"), ["/etc/"]);
    // It quotes what it inserts by itself.
    for name in ODD {
        assert_eq!(put_lock(&agent, name), 200);
    }
    assert_eq!(complete("consul-lock run a"), ODD);
    for typed in ["aa\\ ", "'aa ", "\"aa "] {
        assert_eq!(complete(&format!("consul-lock run {typed}")), ["aa b"], "{typed}");
    }
}

#[test]
fn no_shell_offers_the_hidden_command() {
    for name in ["consul-lock.bash", "_consul-lock", "consul-lock.fish", "consul-lock.elv", "_consul-lock.ps1"] {
        let text = fs::read_to_string(script(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Our own part asks it. In the generated one bash has a list of words alone, the others what each is for.
        let asks = |line: &&str| line.contains("names --current") || line.contains("names \"--current");
        assert!(text.lines().any(|line| asks(&line)), "{name}");
        let offers = |line: &&str| {
            let words = line.trim_start().strip_prefix("opts=\"");
            let hidden = line.contains("names of locks") && !line.starts_with('#');
            hidden || words.is_some_and(|words| words.split([' ', '"']).any(|word| word == "names"))
        };
        let offered = text.lines().find(offers);
        assert_eq!(offered, None, "{name}");
    }
}

#[test]
fn elvish_completes_locks_flags_and_the_command() {
    runs("elvish", "elvish");
    let agent = Agent::plain();
    // The script asks for names by e:consul-lock, which is never this function.
    let show = "use str; fn consul-lock { |@words| echo '<'(str:join '|' $words)'>' }";
    let setup = format!("eval (slurp <{})\n{show}", script("consul-lock.elv").display());
    let mut pty = shell("elvish", &["-norc"], &agent, &setup);
    complete_everything(&mut pty, &agent, " ");
    // It asks before it puts quotes around what was typed.
    complete_odd_names(&mut pty, &agent, |pty| {
        pty.expect("COMPLETING argument", SOON);
        pty.send("\n");
    });
}

/// What somebody who has pressed a key waits for, at most.
const BOUND: Duration = Duration::from_millis(300);

/// Runs a command that asks for names and must not find any, until it has ended within the bound: on a machine that is
/// busy with other tests some take longer, but with a longer bound all would.
fn silent_and_in_time(what: &str, command: impl Fn() -> Command) {
    let mut times = Vec::new();
    while !times.iter().any(|time| *time <= BOUND) {
        assert!(times.len() < 30, "{what}: {times:?}");
        let begun = Instant::now();
        let ended = Running::start(&mut command()).wait(SOON);
        times.push(begun.elapsed());
        assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""), "{what}");
    }
}

fn names_at(addr: &str) -> Command {
    let mut names = consul_lock();
    names.args(["names", "--current=c", "--", "run", "--http-addr", addr]);
    names
}

#[test]
fn names_are_silent_and_in_time_when_consul_is_not() {
    // Takes connections and never answers, as it would in clear or in TLS.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    for addr in [
        &format!("http://127.0.0.1:{port}"),
        &format!("https://127.0.0.1:{port}"),
        "http://127.0.0.1:1",
        "http://no-such-host.invalid:8500",
        "nonsense://x",
    ] {
        silent_and_in_time(addr, || names_at(addr));
    }
}

/// Its own view of two files: names are looked up in the DNS alone, at the server in `folder`.
fn with_dns_of(folder: &Path, command: &Command) -> Command {
    let mut unshared = Command::new("unshare");
    unshared.args(["--mount", "sh", "-euc"]);
    unshared.arg("for file in resolv nsswitch; do mount --bind \"$0/$file.conf\" /etc/$file.conf; done; exec \"$@\"");
    unshared.arg(folder).arg(command.get_program()).args(command.get_args());
    unshared
}

#[test]
fn names_are_silent_and_in_time_when_the_dns_is_not() {
    // A port of root's, on a loopback address of this test's own.
    let server = Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255));
    let Ok(dns) = UdpSocket::bind((server, 53)) else { return eprintln!("skipped: only root can be a DNS server") };
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("resolv.conf"), format!("nameserver {server}\n")).expect("a file");
    fs::write(folder.path().join("nsswitch.conf"), "hosts: dns\n").expect("a file");
    let unshares = with_dns_of(folder.path(), &Command::new("true")).stderr(Stdio::null()).status();
    if !unshares.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: no mount namespace, or no such files, to be had here");
    }
    silent_and_in_time("a DNS that does not answer", || {
        with_dns_of(folder.path(), &names_at("http://consul.example:8500"))
    });
    let mut question = [0; 512];
    dns.set_nonblocking(true).expect("a socket");
    let length = dns.recv(&mut question).expect("it was asked");
    assert!(question[..length].windows(15).any(|bytes| bytes == b"\x06consul\x07example"), "{question:?}");
}

/// Writes a key that no path could carry.
fn put_lock(agent: &Agent, key: &str) -> u16 {
    let set = serde_json::json!([{ "KV": { "Verb": "set", "Key": key, "Value": "", "Flags": LOCK_FLAGS } }]);
    agent.ask("PUT", "/v1/txn", set.to_string().as_bytes(), SOON).expect("an answer").status
}

#[test]
fn names_are_those_of_locks() {
    let agent = Agent::plain();
    let _held = hold(&agent, &[], "team/job");
    agent.put("/v1/kv/team/data", "mine");
    // A name that would be two in a shell, with the flags of a lock.
    let other = put_lock(&agent, "team/one\nteam/two");
    assert_eq!(other, 200);
    let names = |current: &str| {
        let args = [&format!("--current={current}"), "--", "run"];
        let ended = Running::start(consul_lock_on(&agent).arg("names").args(args)).wait(SOON);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
        ended.stdout
    };
    assert_eq!(names(""), "team/\n");
    assert_eq!(names("team/"), "team/job\n");
    assert_eq!(names("none"), "");
}

#[test]
fn every_command_has_a_page_that_mandoc_reads_without_a_warning() {
    runs("mandoc", "mandoc");
    let pages: Vec<PathBuf> = fs::read_dir(root().join("docs/man"))
        .expect("scripts/generate writes docs/man")
        .map(|entry| entry.expect("a page").path())
        .collect();
    assert!(pages.len() >= 4, "{pages:?}");
    for page in &pages {
        let mut lint = Command::new("mandoc");
        let ended = Running::start(lint.args(["-T", "lint", "-W", "warning"]).arg(page)).wait(SOON);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), ""), "{}", page.display());
    }
    let ended = Running::start(consul_lock().args(["man", "no-such"])).wait(SOON);
    assert_eq!(ended.code(), Some(64));
    assert!(ended.stderr.contains("no command \"no-such\""), "{}", ended.stderr);
}

#[test]
fn whoever_closes_the_output_has_read_enough() {
    for args in [&["completions", "zsh"][..], &["man"], &["man", "run"]] {
        let mut sh = Command::new("sh");
        let program = consul_lock().get_program().to_owned();
        sh.args(["-c", "\"$@\" | :; \"$@\" >&-", "sh"]).arg(program).args(args);
        let ended = Running::start(&mut sh).wait(SOON);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}
