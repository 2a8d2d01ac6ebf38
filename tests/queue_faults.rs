//! The line of waiters where something is amiss: a token that may not use it, other clients of the same key, a proxy that
//! answers too soon, an agent without a connection to spare.

mod support;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use support::agent::{Agent, Options, PATIENCE, consul_binary};
use support::hold::diary;
use support::line::{line, queue, waiter};
use support::proxy::{Fault, Proxy, Rule};
use support::running::Running;
use support::{consul_lock_at, consul_lock_on, eventually, hold, unique_key};

const BOUND: Duration = Duration::from_secs(60);

/// Runs three waiters with a token of these rules, and expects each to say once that it has no place in the line, and to
/// get the lock all the same.
#[track_caller]
fn expect_contention(rules: impl Fn(&str) -> String) {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let key = unique_key("acl");
    let least =
        format!("session_prefix \"\" {{ policy = \"write\" }}\nkey_prefix \"{key}/.read/\" {{ policy = \"write\" }}");
    let token = agent.token_with(&format!("{least}\n{}", rules(&key)));
    let with_token = |script: &str| {
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", &token).args(["run", &key, "-c", script]);
        Running::start(&mut command)
    };
    let mut holder = with_token("echo started; exec sleep 1000");
    holder.expect_stdout("started", PATIENCE);
    let waiters = [(); 3].map(|()| with_token("echo mine"));
    for waiter in &waiters {
        waiter.expect_stderr("no place in the line", PATIENCE);
    }
    eventually("nothing of theirs is in the line", PATIENCE, || (agent.keys("") == [key.clone()]).then_some(()));
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
    for mut waiter in waiters {
        let ended = waiter.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "mine\n"), "{}", ended.stderr);
        assert_eq!(ended.stderr.matches("no place in the line").count(), 1, "{}", ended.stderr);
    }
    agent.expect_nothing_left();
}

#[test]
fn a_token_for_the_key_alone_competes_without_a_place_in_the_line() {
    expect_contention(|key| format!("key \"{key}\" {{ policy = \"write\" }}"));
}

#[test]
fn a_token_that_may_not_list_the_line_has_its_place_in_it_all_the_same() {
    let hcl = "acl { enable_key_list_policy = true }".to_owned();
    let agent = Agent::start(Options { acl: true, hcl, ..Options::default() });
    let key = unique_key("unlisted");
    // It may write every entry there can be, and list none.
    let mut rules: String =
        (0..16).map(|digit| format!("key_prefix \"{key}/.queue/{digit:x}\" {{ policy = \"write\" }}\n")).collect();
    for rule in ["session_prefix \"\"", &format!("key \"{key}\""), &format!("key_prefix \"{key}/.read/\"")] {
        rules += &format!("{rule} {{ policy = \"write\" }}\n");
    }
    let token = agent.token_with(&rules);
    let dir = tempfile::tempdir().unwrap();
    let turns = dir.path().join("turns");
    let with_token = |script: &str| {
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", &token).args(["run", &key, "-c", script]);
        Running::start(&mut command)
    };
    let mut holder = with_token("echo started; exec sleep 1000");
    holder.expect_stdout("started", PATIENCE);
    let mut waiters = Vec::new();
    for number in 0..4 {
        waiters.push(with_token(&format!("echo {number} >>{}", turns.display())));
        let there = || (agent.keys(&format!("{key}/.queue/")).len() == number + 1).then_some(());
        eventually("it is in the line", PATIENCE, there);
    }
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
    for waiter in &mut waiters {
        let ended = waiter.wait(PATIENCE);
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains("no place in the line"), "{}", ended.stderr);
    }
    assert_eq!(fs::read_to_string(turns).unwrap(), "0\n1\n2\n3\n");
    agent.expect_nothing_left();

    // Who may read and not list is told what a list takes, and with that has it.
    let read = agent.token_with(&format!("key_prefix \"{key}\" {{ policy = \"read\" }}"));
    let list = agent.token_with(&format!("key_prefix \"{key}\" {{ policy = \"list\" }}"));
    let look = |token: &str, arguments: &[&str]| {
        Running::start(consul_lock_on(&agent).env("CONSUL_HTTP_TOKEN", token).args(arguments)).wait(PATIENCE)
    };
    assert_eq!(look(&read, &["status", &key]).code(), Some(1));
    for (arguments, prefix) in [(&["list", &key][..], key.clone()), (&["status", "--watch", &key], format!("{key}/."))]
    {
        let ended = look(&read, arguments);
        assert_eq!(ended.code(), Some(77), "{arguments:?}: {}", ended.stderr);
        let rule = format!("denied listing (\"Permission denied\"): the token needs key_prefix \"{prefix}");
        assert!(ended.stderr.contains(&rule) && ended.stderr.contains("policy = \"list\""), "{}", ended.stderr);
    }
    assert_eq!(look(&list, &["list", &key]).code(), Some(0));
}

#[test]
fn our_runs_and_those_of_consul_lock_take_turns() {
    const TURNS: usize = 15;
    let agent = Agent::plain();
    let prefix = unique_key("turns");
    let key = format!("{prefix}/.lock");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    // mkdir fails if two are inside at once.
    let critical = |who: &str| format!("mkdir {path}/in && sleep 0.02 && rmdir {path}/in && echo {who} >>{path}/turns");
    let (ours, theirs) = (critical("ours"), critical("theirs"));
    let again = |program: &str| format!("for i in $(seq {TURNS}); do {program} || exit 1; done");
    let consul_lock = |binary: &str| {
        let mut command = consul_lock_on(&agent);
        let script = again(&format!("\"{binary}\" run -q \"$0\" -c \"$1\""));
        Running::start(&mut shell(&mut command, &script, &[&key, &ours]))
    };
    let own = consul_lock_on(&agent).get_program().to_str().unwrap().to_owned();
    let consul = consul_binary().display().to_string();
    let mut runs: Vec<_> = (0..2).map(|_| consul_lock(&own)).collect();
    for _ in 0..2 {
        let mut command = consul_lock_on(&agent);
        let script = again(&format!("\"{consul}\" lock \"$0\" \"$1\""));
        runs.push(Running::start(&mut shell(&mut command, &script, &[&prefix, &theirs])));
    }
    for run in &mut runs {
        let ended = run.wait(BOUND);
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }
    let turns = fs::read_to_string(dir.path().join("turns")).unwrap();
    let turns: Vec<_> = turns.lines().collect();
    assert_eq!(turns.len(), 4 * TURNS);
    // Of each side there was always somebody who wanted it; none of them had to stand by until the other was through.
    let first_half = &turns[..2 * TURNS];
    for who in ["ours", "theirs"] {
        assert!(first_half.iter().filter(|turn| **turn == who).count() >= 5, "{turns:?}");
    }
    // `consul lock` leaves a session behind now and then.
    let ours =
        |session: &serde_json::Value| session["Name"].as_str().is_some_and(|name| name.starts_with("consul-lock"));
    assert_eq!(
        (agent.keys(&format!("{key}/")), agent.sessions().iter().filter(|each| ours(each)).count()),
        (vec![], 0)
    );
}

/// `sh -c SCRIPT ARGS…` in the environment of `command`.
fn shell(command: &mut Command, script: &str, args: &[&str]) -> Command {
    let mut shell = Command::new("sh");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.args(["-c", script]).args(args);
    shell
}

#[test]
fn a_client_as_go_has_it_competes_with_the_line() {
    let agent = Agent::plain();
    let key = unique_key("go");
    let theirs = agent.create_session(&json!({ "LockDelay": "0s" }));
    let holder = hold(&agent, &[], &key);
    let mut waiters: Vec<_> = (0..4).map(|_| waiter(&agent, &[], &key, "exec sleep 0.3").0).collect();
    drop_politely(holder);
    // It asks whenever it sees the key free, as often as it can.
    eventually("it has its turn", BOUND, || agent.acquire_as_go(&key, &theirs, "").then_some(()));
    assert!(agent.release(&key, &theirs));
    for waiter in &mut waiters {
        assert_eq!(waiter.wait(PATIENCE).code(), Some(0));
    }
    assert_eq!((agent.keys(&format!("{key}/")), agent.sessions().len()), (Vec::new(), 1));
}

#[track_caller]
fn drop_politely(mut holder: Running) {
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
}

#[test]
fn answers_that_come_too_soon_are_not_asked_for_in_a_hurry() {
    let agent = Agent::plain();
    let key = unique_key("hurry");
    let holder = hold(&agent, &[], &key);
    let mut proxies = [(); 2].map(|()| Proxy::start(&agent.http_addr()));
    let waiters: Vec<_> = (proxies.iter())
        .map(|proxy| queue(&agent, consul_lock_at(&proxy.addr()).args(["run", &key, "--", "true"]), &key).0)
        .collect();
    let both_wait = |count: usize| {
        let blocks = |proxy: &Proxy| proxy.requests().iter().filter(|seen| seen.target.contains("index=")).count();
        move |proxies: &[Proxy; 2]| proxies.iter().all(|proxy| blocks(proxy) >= count)
    };
    eventually("both wait", PATIENCE, || both_wait(1)(&proxies).then_some(()));
    // A cache that answers reads out of its memory, once it has an answer of each.
    eventually("both have had an answer", PATIENCE, || both_wait(2)(&proxies).then_some(()));
    for proxy in &mut proxies {
        proxy.rules(vec![Rule::new(Fault::Stale).method("GET")]);
    }
    let before = proxies.each_ref().map(|proxy| proxy.requests().len());
    // The query that is under way ends within 6 s.
    std::thread::sleep(Duration::from_secs(10));
    for (proxy, before) in proxies.iter().zip(before) {
        let asked = proxy.requests().split_off(before);
        assert!(asked.len() <= 40, "{} requests in 10 s, the last {:#?}", asked.len(), asked.last());
    }
    for proxy in &mut proxies {
        proxy.set(Fault::None);
    }
    drop_politely(holder);
    for mut waiter in waiters {
        let ended = waiter.wait(PATIENCE);
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }
    agent.expect_nothing_left();
}

#[test]
fn a_place_whose_answer_was_lost_is_left_like_any_other() {
    let agent = Agent::plain();
    let key = unique_key("lost");
    let holder = hold(&agent, &[], &key);
    let mut proxy = Proxy::start(&agent.http_addr());
    proxy.rules(vec![Rule::new(Fault::LoseReply).prefix("/v1/txn")]);
    let mut command = consul_lock_at(&proxy.addr());
    let mut waiter = queue(&agent, command.args(["run", &key, "--", "true"]), &key).0;
    waiter.expect_stderr("trying again", PATIENCE);
    waiter.signal(Signal::SIGINT);
    assert_eq!(waiter.wait(PATIENCE).signal(), Some(2));
    assert_eq!((agent.keys(&format!("{key}/")), agent.sessions().len()), (Vec::new(), 1));
    drop_politely(holder);
    agent.expect_nothing_left();
}

#[test]
fn who_is_not_shown_his_own_place_leaves_it_and_competes() {
    let agent = Agent::plain();
    let key = unique_key("unseen");
    let holder = hold(&agent, &[], &key);
    // A Consul that lets a token write an entry lets it read the entry too; who does not see it looks through something that
    // withholds it. Asking again and again would be for ever, and an entry that stayed would stop all who come later.
    let mut proxy = Proxy::start(&agent.http_addr());
    proxy
        .rules(vec![Rule::new(Fault::Instead(r#"{"Results": [], "Errors": null}"#.into())).prefix("/v1/txn").times(1)]);
    let mut unseen = Running::start(consul_lock_at(&proxy.addr()).args(["run", &key, "-c", "echo mine"]));
    unseen.expect_stderr("no place in the line", PATIENCE);
    unseen.expect_stderr("its list does not show our own entry", PATIENCE);
    let joined = |seen: &support::proxy::Seen| matches!(seen.fault, Fault::Instead(_)) && seen.body.contains("queue");
    assert_eq!(proxy.requests().iter().filter(|seen| joined(seen)).count(), 1);
    eventually("its entry is gone", PATIENCE, || (agent.keys("") == [key.clone()]).then_some(()));
    // It watches the key itself now, behind nobody.
    let (mut next, _) = waiter(&agent, &[], &key, "echo mine");
    drop_politely(holder);
    for waiter in [&mut unseen, &mut next] {
        let ended = waiter.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "mine\n"), "{}", ended.stderr);
        assert!(ended.stderr.matches("no place in the line").count() <= 1, "{}", ended.stderr);
    }
    assert!(proxy.requests().len() < 40, "{:#?}", proxy.requests());
    agent.expect_nothing_left();
}

#[test]
fn a_line_that_somebody_deletes_forms_again() {
    let agent = Agent::plain();
    let key = unique_key("deleted");
    let holder = hold(&agent, &[], &key);
    let waiters: Vec<_> = (0..4).map(|_| waiter(&agent, &[], &key, "echo mine").0).collect();
    // The holder's, and by theirs they are in the line and see their place in it.
    let transactions = || agent.requests().iter().filter(|request| request.contains("PUT /v1/txn")).count();
    eventually("each has seen its place", PATIENCE, || (transactions() >= 5).then_some(()));
    let deleted = agent.ask("DELETE", &format!("/v1/kv/{key}/.queue/?recurse"), b"", PATIENCE).unwrap();
    assert_eq!(deleted.status, 200);
    // The first does not look any more: who comes later comes behind it.
    eventually("the others are in line again", PATIENCE, || (line(&agent, &key).len() == 3).then_some(()));
    drop_politely(holder);
    for mut waiter in waiters {
        let ended = waiter.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "mine\n"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("no place in the line"), "{}", ended.stderr);
    }
    agent.expect_nothing_left();
}

/// An agent that takes so many connections from one address.
fn crowded(connections: usize) -> Agent {
    let hcl = format!("limits {{ http_max_conns_per_client = {connections} }}");
    Agent::start(Options { hcl, ..Options::default() })
}

/// Takes every connection that an agent has to give, again and again, until it is dropped.
struct Hog(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Hog {
    fn start(addr: String) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let mut held: Vec<TcpStream> = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    // One that the agent has closed, or answered something on, is none.
                    held.retain(|mut stream| stream.read(&mut [0]).is_err());
                    if let Ok(stream) = TcpStream::connect(&addr) {
                        stream.set_nonblocking(true).unwrap();
                        held.push(stream);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        Self(over, Some(thread))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn a_holder_is_not_starved_of_connections() {
    let agent = crowded(10);
    let key = unique_key("starved");
    let holder = hold(&agent, &[], &key);
    // Without a confirmation SIGTERM comes after 2.5 s.
    let script = diary(Duration::from_secs(8), true);
    let (mut next, _) = waiter(&agent, &["--lock-delay=4s", "-k1"], &key, &script);
    // From now on there is no connection but those that are open already.
    let hog = Hog::start(agent.http_addr());
    drop_politely(holder);
    let ended = next.wait(BOUND);
    assert_eq!((ended.code(), ended.term_at()), (Some(0), None), "{}", ended.stderr);
    assert!(ended.stdout.ends_with("complete\n"), "{}", ended.stdout);
    drop(hog);
    eventually("the agent has room", PATIENCE, || agent.ask("GET", "/v1/status/leader", b"", BOUND).ok());
    agent.expect_nothing_left();
}

#[test]
fn a_holder_keeps_the_connection_that_it_releases_over() {
    let agent = crowded(10);
    let key = unique_key("kept");
    // Renewed every 20 s; the connections of the confirmations end with the command.
    let mut holder =
        Running::start(consul_lock_on(&agent).args(["run", "--ttl=60s", "--retry-for=5s", &key, "-c", "sleep 16"]));
    // The first of them took the lock.
    let txns = || agent.requests().iter().filter(|request| request.starts_with("PUT /v1/txn")).count();
    eventually("it is confirmed", PATIENCE, || (agent.holder(&key).is_some() && txns() > 2).then_some(()));
    let hog = Hog::start(agent.http_addr());
    let ended = holder.wait(BOUND);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    drop(hog);
    eventually("the agent has room", PATIENCE, || agent.ask("GET", "/v1/status/leader", b"", BOUND).ok());
    agent.expect_nothing_left();
}

#[test]
fn more_waiters_than_connections_all_get_the_lock() {
    let agent = crowded(12);
    let key = unique_key("crowd");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("order");
    let holder = hold(&agent, &[], &key);
    let script = format!("echo $CONSUL_LOCK_FENCE >>{}", file.display());
    let mut waiters: Vec<_> =
        (0..24).map(|_| Running::start(consul_lock_on(&agent).args(["run", &key, "-c", &script]))).collect();
    for waiter in &waiters {
        eventually("each has been heard or is told that there is no room", PATIENCE, || {
            let said = waiter.stderr();
            (said.contains("waiting for") || said.contains("is busy")).then_some(())
        });
    }
    drop_politely(holder);
    for waiter in &mut waiters {
        let ended = waiter.wait(BOUND);
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }
    let fences = fs::read_to_string(&file).unwrap();
    let fences: Vec<u64> = fences.lines().map(|line| line.parse().unwrap()).collect();
    assert!(fences.len() == 24 && fences.is_sorted_by(|one, next| one < next), "{fences:?}");
    agent.expect_nothing_left();
}
