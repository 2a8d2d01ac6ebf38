//! Several keys for one command: all or none, in one transaction where that can be, else in the order of their bytes.

mod support;

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::agent::{Agent, LOCK_FLAGS, Options, PATIENCE};
use support::line::line;
use support::proxy::Proxy;
use support::running::{Ended, Running};
use support::{consul_lock_at, consul_lock_on, eventually, hold, run_on, unique_key};

/// Keys below a prefix of their own, in the order of their bytes.
fn keys<const N: usize>() -> [String; N] {
    let prefix = unique_key("several");
    std::array::from_fn(|number| format!("{prefix}/{number:02}"))
}

fn run_through(proxy: &Proxy, args: &[&str]) -> Ended {
    Running::start(consul_lock_at(&proxy.addr()).arg("run").args(args)).wait(PATIENCE)
}

/// What came through the proxy: the method and the path, whether it blocks, and of a transaction its operations.
fn asked(proxy: &Proxy) -> Vec<String> {
    let show = |seen: support::proxy::Seen| {
        let path = seen.target.split('?').next().unwrap_or_default();
        let watch = if seen.target.contains("index=") { "?index" } else { "" };
        let ops: Value = serde_json::from_str(&seen.body).unwrap_or_default();
        let ops = ops.as_array().into_iter().flatten().map(|op| {
            let text = |name: &str| op["KV"][name].as_str().unwrap_or_default();
            format!(" {} {}", text("Verb"), text("Key"))
        });
        format!("{} {path}{watch}", seen.method) + &ops.collect::<String>()
    };
    proxy.requests().into_iter().map(show).collect()
}

#[test]
fn free_keys_are_taken_in_one_transaction_and_given_back_in_one() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let [a, b, c] = keys();
    let script = "echo \"$CONSUL_LOCK_KEY/$CONSUL_LOCK_FENCE/$CONSUL_LOCK_INDEX/$CONSUL_LOCK_SESSION\"";
    let ended = run_through(&proxy, &["--log-format=json", &c, &a, &b, &a, "-c", script]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);

    let events: Vec<Value> = ended.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let acquired = events.iter().find(|event| event["event"] == "acquired").expect("it was acquired");
    assert_eq!(acquired["keys"], json!([a, b, c]));
    assert!(acquired.get("key").is_none() && acquired.get("fence").is_none(), "{acquired}");
    let fences: Vec<_> = acquired["fences"].as_array().expect("fences").iter().map(Value::to_string).collect();
    let session = acquired["session"].as_str().expect("a session");
    let expected = format!("{a}\n{b}\n{c}/{}/1\n1\n1/{session}\n", fences.join("\n"));
    assert_eq!(ended.stdout, expected);

    // A slow machine makes the command last, so that it is confirmed and watched.
    let keeps = |request: &String| request.contains(" get .nonce/") || request.ends_with("?index");
    let asked: Vec<_> = asked(&proxy).into_iter().filter(|request| !keeps(request)).collect();
    let count = |wanted: &str| asked.iter().filter(|request| request.starts_with(wanted)).count();
    let lock = |key| format!(" check-not-exists {key} lock {key}");
    let give = |key| format!(" check-session {key} delete {key}");
    assert_eq!(count(&format!("PUT /v1/txn{}{}{}", lock(&a), lock(&b), lock(&c))), 1, "{asked:#?}");
    assert_eq!(count(&format!("PUT /v1/txn{}{}{}", give(&a), give(&b), give(&c))), 1, "{asked:#?}");
    let reads = [&a, &b, &c].map(|key| count(&format!("GET /v1/kv/{key}")));
    assert_eq!((count("PUT /v1/session/create"), reads, asked.len()), (1, [1; 3], 7), "{asked:#?}");
    agent.expect_nothing_left();
}

#[test]
fn as_many_keys_as_one_transaction_can_take_are_taken_confirmed_and_given_back() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let many: [String; 33] = keys();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let ended = run_through(&proxy, &[&many[..], &["-c", "echo ran"]].concat());
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("33 keys are too many: one lock holds 32 at most"), "{}", ended.stderr);
    assert_eq!(asked(&proxy), [] as [&str; 0]);

    let mut command = consul_lock_at(&proxy.addr());
    command.args(["run", "-vv"]).args(&many[1..]).args(["-c", "echo started; read line"]);
    let mut run = Running::start_with_stdin(&mut command, std::process::Stdio::piped());
    run.expect_stdout("started", PATIENCE);
    let session = agent.holder(many[1]).expect("it is held");
    assert!(many[1..].iter().all(|key| agent.holder(key).as_deref() == Some(session.as_str())));
    assert_eq!(agent.sessions()[0]["Name"], json!(format!("consul-lock {} and 31 more", many[1])));
    run.expect_stderr(&format!("{}, {}, {} and 29 more confirmed", many[1], many[2], many[3]), PATIENCE);
    drop(run.take_stdin());
    assert_eq!(run.wait(PATIENCE).code(), Some(1));
    agent.expect_nothing_left();
}

#[test]
fn keys_whose_values_are_too_long_for_one_transaction_are_taken_one_by_one() {
    let agent = Agent::plain();
    let keys: [String; 4] = keys();
    // Each may have it, all four together are over the 512 KB that Consul takes in a request.
    let value = "x".repeat(120_000);
    let run = |flags: &[&str]| {
        let script = "for key in $CONSUL_LOCK_KEY; do echo $key; done";
        let mut args = vec!["run", "--value", &value];
        args.extend(flags.iter().copied().chain(keys.iter().map(String::as_str)));
        run_on(&agent, &[&args[..], &["-c", script]].concat())
    };
    for flags in [&[][..], &["-n"]] {
        let ended = run(flags);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
        assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), keys, "{flags:?}");
        agent.expect_nothing_left();
    }
    // One of them is held: none is kept.
    let mut holder = hold(&agent, &[], &keys[2]);
    let ended = run(&["-n"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    assert_eq!(agent.keys(""), [keys[2].clone()]);
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
    // They could not be given back at once, and nothing is taken that could not.
    let ended = run(&["--keep-key"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("413"), "{}", ended.stderr);
}

#[test]
fn of_keys_that_cannot_all_be_had_none_is_taken() {
    let agent = Agent::plain();
    let [a, b, c, data] = keys();
    let expect_untouched = |keys: &[&String]| {
        assert!(keys.iter().all(|key| agent.kv(key).is_none()), "{:?}", agent.keys(""));
    };

    agent.put(&format!("/v1/kv/{data}"), "somebody's");
    let ended = run_on(&agent, &["run", &a, &data, &b, "-c", "echo ran"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("{data} at http")), "{}", ended.stderr);
    expect_untouched(&[&a, &b]);
    assert_eq!(agent.get(&format!("/v1/kv/{data}?raw")).text(), "somebody's");

    // One is held, then two are, by two holders.
    let first = hold(&agent, &[], &b);
    let ended = run_on(&agent, &["run", "-n", &a, &b, &c, "-c", "echo ran"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("{b} is held by sh (pid {}", first.pid())), "{}", ended.stderr);
    expect_untouched(&[&a, &c]);
    let second = hold(&agent, &[], &c);
    let ended = run_on(&agent, &["run", "-n", &a, &b, &c, "-c", "echo ran"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    for (key, holder) in [(&b, &first), (&c, &second)] {
        assert!(ended.stderr.contains(&format!("{key} is held by sh (pid {}", holder.pid())), "{}", ended.stderr);
    }
    expect_untouched(&[&a]);

    // A time that is over while some are held already.
    let ended = run_on(&agent, &["run", "-w", "1", &a, &b, "-c", "echo ran"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("{b} is held by sh")), "{}", ended.stderr);
    expect_untouched(&[&a]);
    drop((first, second));

    // What other tools' users type.
    for (args, message) in [
        (["-n", "3", &a], "did you mean --limit 3?"),
        (["--local", "/tmp", &a], "did you mean --local=/tmp"),
        ([&a, &b, "a//b"], "has an empty segment"),
    ] {
        let ended = run_on(&agent, &[&["run"], &args[..], &["--", "true"]].concat());
        assert_eq!(ended.code(), Some(64), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn the_key_that_the_token_may_not_have_is_named() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let [a, b, c] = keys();
    let session = "session_prefix \"\" { policy = \"write\" }";
    let rule = |key: &str, policy: &str| format!(" key \"{key}\" {{ policy = \"{policy}\" }}");
    for policy in ["deny", "read"] {
        let token =
            agent.token_with(&(session.to_owned() + &rule(&a, "write") + &rule(&b, policy) + &rule(&c, "write")));
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", token).args(["run", &a, &b, &c, "-c", "echo ran"]);
        let ended = Running::start(&mut command).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(77), ""), "{}", ended.stderr);
        let mend = format!("the token needs key \"{b}\" {{ policy = \"write\" }}");
        assert!(ended.stderr.contains(&mend), "{}", ended.stderr);
        agent.expect_nothing_left();
    }
}

#[test]
fn where_one_is_held_they_are_taken_in_order_and_each_is_waited_for_in_its_line() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let [a, b, c] = keys();
    let mut holder = hold(&agent, &[], &b);
    let mut command = consul_lock_at(&proxy.addr());
    command.args(["run", "-v", "--keep-key", &c, &b, &a, "-c", "echo ran; read line"]);
    let mut waiter = Running::start_with_stdin(&mut command, std::process::Stdio::piped());
    waiter.expect_stderr(&format!("waiting for {b}, held by sh"), PATIENCE);
    let session = eventually("it waits for the second in line", PATIENCE, || line(&agent, &b).pop());
    assert_eq!((agent.holder(&a).as_ref(), agent.kv(&c)), (Some(&session), None));
    // It is behind for the one that it holds, too.
    let mut other = Running::start(consul_lock_on(&agent).args(["run", &a, &c, "-c", "echo ran"]));
    other.expect_stderr(&format!("waiting for {a}, held by sh"), PATIENCE);

    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
    waiter.expect_stdout("ran", PATIENCE);
    assert!([&a, &b, &c].iter().all(|key| agent.holder(key).as_ref() == Some(&session)));
    let locks = |key: &String| format!("lock {key}");
    let asked = asked(&proxy);
    let first = |key| asked.iter().position(|request| request.ends_with(&locks(key)) || request.contains(&locks(key)));
    assert!(first(&a) < first(&b) && first(&b) < first(&c) && first(&a).is_some(), "{asked:#?}");
    // Confirmed all together, after the last was taken and before the command ran.
    let all = [&a, &b, &c].map(|key| format!(" check-session {key}")).concat();
    assert!(asked.iter().any(|request| request.starts_with(&format!("PUT /v1/txn{all} get .nonce/"))), "{asked:#?}");

    drop(waiter.take_stdin());
    let ended = waiter.wait(PATIENCE);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("waiting for").count(), 1, "{}", ended.stderr);
    let ended = other.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{}", ended.stderr);
    // --keep-key leaves them, and the other run takes them away.
    assert_eq!(agent.keys(""), [b.as_str()]);
    let kept = agent.kv(&b).expect("it was kept");
    assert_eq!((&kept["Flags"], kept.get("Session")), (&json!(LOCK_FLAGS), None));
    assert_eq!(agent.sessions(), [] as [Value; 0]);
}

#[test]
fn ten_philosophers_with_five_forks_all_eat() {
    const MEALS: usize = 20;
    let agent = Agent::plain();
    let table = tempfile::tempdir().expect("a folder");
    let forks: [String; 5] = keys();
    // A fork that is in use is a folder.
    let eat = "n=0; for fork in $CONSUL_LOCK_KEY; do n=$((n + 1)); mkdir \"${fork##*/}\" || echo overlap >>meals; done
        for fork in $CONSUL_LOCK_KEY; do rmdir \"${fork##*/}\"; done; echo $n >>meals";
    let mut philosophers: Vec<_> = (0..10)
        .map(|seat| {
            let command = consul_lock_on(&agent);
            let binary = command.get_program().to_owned();
            // Each takes the forks beside him, in whatever order; half of them need a third one.
            let wanted =
                (0..2 + seat / 5).map(|number| forks[(seat + number) % 5].as_str()).collect::<Vec<_>>().join(" ");
            let dine = format!("for meal in $(seq {MEALS}); do \"$0\" run -q {wanted} -c \"$1\" || exit 1; done");
            let mut shell = std::process::Command::new("sh");
            shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            shell.env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(table.path());
            Running::start(shell.args(["-c", &dine]).arg(binary).arg(eat))
        })
        .collect();
    for philosopher in &mut philosophers {
        let ended = philosopher.wait(Duration::from_secs(100));
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    }
    let meals = fs::read_to_string(table.path().join("meals")).expect("they have eaten");
    let with = |forks: &str| meals.lines().filter(|line| *line == forks).count();
    assert_eq!((with("2"), with("3"), meals.lines().count()), (5 * MEALS, 5 * MEALS, 10 * MEALS));
    agent.expect_nothing_left();
}
