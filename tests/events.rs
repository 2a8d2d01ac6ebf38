//! Every JSON event of a set of runs against the tables in docs/events.md: names, fields, types.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::agent::{Agent, Options, PATIENCE};
use support::line::queue;
use support::proxy::{Fault, Proxy};
use support::running::Running;
use support::{consul_lock_at, consul_lock_on, eventually, hold, unique_key};

/// The rows of the table below a heading of the page.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.md")).unwrap();
    let (_, chapter) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let rows = chapter.lines().skip_while(|line| !line.starts_with("|--")).skip(1);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

fn is_of_type(value: &Value, types: &str) -> bool {
    types.split(" or ").any(|name| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        other => panic!("the page has the type {other:?}"),
    })
}

/// Checks each line against the page, and returns the names of the events.
#[track_caller]
fn check(said: &str) -> BTreeSet<String> {
    let mut events: BTreeMap<String, BTreeMap<String, String>> =
        table("Events").into_iter().map(|row| (row[0].clone(), BTreeMap::new())).collect();
    for row in table("Fields") {
        events.get_mut(&row[0]).unwrap_or_else(|| panic!("{row:?}")).insert(row[1].clone(), row[2].clone());
    }
    let common: BTreeMap<_, _> = table("Every event").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let record: BTreeMap<_, _> =
        table("The holder record").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let mut told = BTreeSet::new();
    for line in said.lines() {
        let object: BTreeMap<String, Value> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let name = object["event"].as_str().unwrap();
        let own = events.get(name).unwrap_or_else(|| panic!("the page has no event {name:?}: {line}"));
        for (field, value) in &object {
            let types = own.get(field).or(common.get(field)).unwrap_or_else(|| panic!("no field {field:?}: {line}"));
            assert!(is_of_type(value, types), "{field} is no {types}: {line}");
        }
        assert!(own.keys().all(|field| object.contains_key(field)), "a field is missing: {line}");
        humantime::parse_rfc3339(object["ts"].as_str().unwrap()).unwrap();
        if name == "waiting" {
            let holder = &object["holder"];
            assert!(holder["session"].is_string() || holder["session"].is_null(), "{line}");
            for (field, value) in holder["record"].as_object().into_iter().flatten() {
                assert!(is_of_type(value, &record[field]), "{field}: {line}");
            }
        }
        told.insert(name.to_owned());
    }
    told
}

#[test]
fn every_event_that_is_told_is_as_the_page_has_it() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("events");
    let json = ["run", "--log-format=json", "-vv", "--lock-delay=20s"];
    let mut told = BTreeSet::new();

    // From the line, through a Consul that does not answer, to a release that nobody confirms.
    let mut holder = hold(&agent, &[], &key);
    let mut command = consul_lock_at(&proxy.addr());
    let script = "trap '' USR1; sleep 1000 & echo started; read line; exit 7";
    command.args(json).args(["-k1", "--retry-for=1s", &key, "-c", script]).stdin(Stdio::piped());
    let mut run = Running::start_with_stdin(&mut command, Stdio::piped());
    run.expect_stderr("\"place\"", PATIENCE);
    proxy.set(Fault::Status(500, "No cluster leader".into()));
    run.expect_stderr("\"retrying\"", PATIENCE);
    proxy.set(Fault::None);
    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
    run.expect_stdout("started", PATIENCE);
    run.signal(Signal::SIGUSR1);
    run.expect_stderr("\"signal\"", PATIENCE);
    proxy.set(Fault::Status(500, "No cluster leader".into()));
    run.expect_stderr("\"unconfirmed\"", PATIENCE);
    proxy.set(Fault::None);
    let confirmed = || run.stderr().lines().any(|line| line.contains("\"confirmed\"") && !line.contains(":null"));
    eventually("it is confirmed again", PATIENCE, || confirmed().then_some(()));
    drop(run.take_stdin());
    run.expect_stderr("\"killed_left_behind\"", PATIENCE);
    told.extend(check(&run.wait(PATIENCE).stderr));

    // Several keys.
    let [first, second] = [unique_key("events"), unique_key("events")];
    let mut holder = hold(&agent, &[], &second);
    let mut several = Running::start(consul_lock_on(&agent).args(json).args([&first, &second, "--", "true"]));
    several.expect_stderr("\"place\"", PATIENCE);
    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
    let several = several.wait(PATIENCE);
    assert!(several.stderr.contains("\"keys\":[\"") && several.stderr.contains("\"fences\":["), "{several:?}");
    told.extend(check(&several.stderr));

    // A loss; its lock delay; an error; a release that nobody answers.
    let key = unique_key("events");
    let mut lost = Running::start(consul_lock_on(&agent).args(json).args([&key, "-c", "echo started; sleep 1000"]));
    lost.expect_stdout("started", PATIENCE);
    agent.destroy_session(&agent.holder(&key).unwrap());
    assert_eq!(lost.wait(PATIENCE).code(), Some(76));
    told.extend(check(&lost.stderr()));
    let (mut waiter, _) = queue(&agent, consul_lock_on(&agent).args(json).args([&key, "--", "true"]), &key);
    waiter.expect_stderr("\"delayed\"", PATIENCE);
    waiter.signal(Signal::SIGTERM);
    told.extend(check(&waiter.wait(PATIENCE).stderr));
    let refused = Running::start(consul_lock_on(&agent).args(json).args(["-n", &key, "--", "true"])).wait(PATIENCE);
    told.extend(check(&refused.stderr));
    let key = unique_key("events");
    let mut command = consul_lock_at(&proxy.addr());
    command.args(json).args(["--retry-for=1s", &key, "-c", "echo started; read line; true"]);
    let mut run = Running::start_with_stdin(&mut command, Stdio::piped());
    run.expect_stdout("started", PATIENCE);
    proxy.set(Fault::Status(500, "No cluster leader".into()));
    drop(run.take_stdin());
    assert_eq!(run.wait(PATIENCE).code(), Some(0));
    told.extend(check(&run.stderr()));

    // What there is on this machine, and a keeper that is killed: the guard has the last word, in JSON too.
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("metrics");
    fs::create_dir(&metrics).unwrap();
    let key = unique_key("events");
    let mut command = consul_lock_on(&agent);
    command.args(["run", "--log-format=json", "--no-guarantee", "--lock-delay=0", "--metrics-file"]);
    command.arg(metrics.join("x.prom")).args([&key, "--", "rm", "-r"]).arg(&metrics);
    told.extend(check(&Running::start(&mut command).wait(PATIENCE).stderr));
    let mut killed = Running::start(consul_lock_on(&agent).args(json).args([&key, "-c", "echo started; sleep 1000"]));
    killed.expect_stdout("started", PATIENCE);
    killed.signal(Signal::SIGKILL);
    killed.wait(PATIENCE);
    killed.expect_stderr("\"keeper_gone\"", PATIENCE);
    let last = killed.stderr().lines().last().unwrap().to_owned();
    assert!(last.contains(&key) && last.contains("every process it started are dead"), "{last}");
    told.extend(check(&killed.stderr()));

    let documented: BTreeSet<_> = table("Events").into_iter().map(|row| row[0].clone()).collect();
    let rare = [
        "session_replaced",
        "started_again",
        "renewal_failing",
        "unkillable",
        "holding_on",
        "taking_over",
        "gone_before_release",
        "message",
        "unqueued",
        "other_limit",
    ];
    let missing: Vec<_> = documented.difference(&told).filter(|name| !rare.contains(&name.as_str())).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn a_token_without_a_line_is_told_as_the_page_has_it() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let rules = r#"session_prefix "" { policy = "write" } key "solo" { policy = "write" } key_prefix "solo" { policy = "read" }"#;
    let token = agent.token_with(rules);
    let run = |script: &str| {
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", &token);
        Running::start(command.args(["run", "--log-format=json", "solo", "-c", script]))
    };
    let mut holder = run("echo started; exec sleep 1000");
    holder.expect_stdout("started", PATIENCE);
    let mut waiter = run("true");
    waiter.expect_stderr("\"unqueued\"", PATIENCE);
    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
    let told = check(&waiter.wait(PATIENCE).stderr);
    assert!(["waiting", "unqueued", "released"].into_iter().all(|name| told.contains(name)), "{told:?}");
}
