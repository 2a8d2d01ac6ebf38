//! A command under a lock of a real cluster of three, while its servers fail.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::agent::{Agent, Options};
use support::cluster::{Cluster, ELECTION};
use support::hold::{diary, endless, hold, last, now};
use support::running::Running;
use support::{consul_lock_on, eventually, unique_key};

const BOUND: Duration = Duration::from_secs(120);

/// The command runs through an election and to its own end.
#[track_caller]
fn expect_undisturbed_by(raft_multiplier: u32, life: u64, fault: impl FnOnce(&Cluster, usize)) {
    let cluster = Cluster::start(raft_multiplier);
    let (leader, follower) = (cluster.wait_for_leader(), cluster.follower());
    let agent = cluster.server(follower);
    let key = unique_key("cluster");
    let mut run = hold(&agent.http_addr(), &[], &key, &diary(Duration::from_secs(life), true));
    let session = agent.holder(&key).expect("held");
    let begin = Instant::now();
    fault(&cluster, leader);
    let new_leader = eventually("another leader", ELECTION, || cluster.leader().filter(|new| *new != leader));
    cluster.wait_for_leader();
    println!("server {new_leader} leads after {:?}", begin.elapsed());
    assert_eq!(agent.holder(&key), Some(session));
    let end = run.wait(BOUND);
    assert_eq!((end.code(), end.term_at()), (Some(0), None), "{end:?}");
    assert!(end.stdout.ends_with("complete\n"));
    assert_eq!(agent.kv(&key), None);
}

#[test]
fn cluster_whose_leader_is_killed() {
    expect_undisturbed_by(1, 15, |cluster, leader| cluster.kill9(leader));
}

#[test]
fn cluster_whose_leader_is_stopped() {
    expect_undisturbed_by(1, 20, |cluster, leader| cluster.stop(leader));
}

#[test]
fn cluster_of_default_timing_whose_leader_is_killed() {
    expect_undisturbed_by(5, 30, |cluster, leader| cluster.kill9(leader));
}

#[test]
fn cluster_of_default_timing_whose_leader_is_stopped() {
    expect_undisturbed_by(5, 30, |cluster, leader| cluster.stop(leader));
}

#[test]
fn cluster_that_loses_one_server_for_good() {
    let cluster = Cluster::start(1);
    let (leader, follower) = (cluster.wait_for_leader(), cluster.follower());
    let third = 3 - leader - follower;
    let agent = cluster.server(follower);
    let key = unique_key("cluster");
    let mut run = hold(&agent.http_addr(), &[], &key, &diary(Duration::from_secs(12), true));
    cluster.kill9(third);
    let end = run.wait(BOUND);
    assert_eq!((end.code(), end.term_at(), end.stderr.as_str()), (Some(0), None, ""), "{end:?}");
    assert_eq!(agent.kv(&key), None);
}

#[test]
fn cluster_of_which_every_server_is_stopped() {
    let cluster = Cluster::start(1);
    let agent = cluster.server(cluster.follower());
    let flags = ["--lock-delay", "8s", "-k", "2", "--retry-for", "1s"];
    let mut run = hold(&agent.http_addr(), &flags, &unique_key("cluster"), &endless(false));
    let lost_at = now();
    for number in 0..3 {
        cluster.stop(number);
    }
    let stopped_at = now();
    let end = run.wait(BOUND);
    run.expect_no_survivors(BOUND);
    assert_eq!(end.code(), Some(76), "{end:?}");
    // A minority of the servers proves nothing, but until the second was stopped there was a majority.
    assert!(end.last_alive() < stopped_at + 8.0, "{end:?}");
    assert!(end.term_at().expect("SIGTERM came first") > lost_at + 2.5, "{end:?}");
}

/// The holder works through one server, the next in line waits through another.
#[test]
fn cluster_with_holder_and_waiter_on_different_servers() {
    let cluster = Cluster::start(1);
    let (leader, follower) = (cluster.wait_for_leader(), cluster.follower());
    let key = unique_key("cluster");
    let flags = ["--lock-delay", "8s", "-k", "2"];
    for is_lost in [false, true] {
        let mut first = hold(
            &cluster.server(follower).http_addr(),
            &flags,
            &key,
            &diary(Duration::from_secs(if is_lost { 600 } else { 2 }), false),
        );
        let session = cluster.server(leader).holder(&key).expect("held");
        let mut second = wait_for(cluster.server(leader), &key, &flags);
        let lost_at = now();
        if is_lost {
            cluster.server(leader).destroy_session(&session);
        }
        let (first, second) = (first.wait(BOUND), second.wait(BOUND));
        assert_eq!(
            (first.code(), second.code()),
            (Some(if is_lost { 76 } else { 0 }), Some(0)),
            "{first:?} {second:?}"
        );
        let started = last(&second.stdout, "started").expect("started");
        assert!(started >= first.last_alive(), "two at work: {first:?} {second:?}");
        if is_lost {
            assert!(started >= lost_at + 8.0, "{} s after the loss", started - lost_at);
        }
    }
}

/// Starts a run that finds the key held, and returns when it waits.
#[track_caller]
fn wait_for(agent: &Agent, key: &str, flags: &[&str]) -> Running {
    let script = diary(Duration::from_millis(200), true);
    let run = Running::start(consul_lock_on(agent).arg("run").args(flags).args([key, "-c", &script]));
    run.expect_stderr("waiting for", BOUND);
    run
}

/// A new leader's first moments are when Consul gives a key away too early: the loss is in the log, and the delay is not
/// in its memory yet.
#[test]
fn cluster_whose_leader_dies_within_20_ms_of_the_loss() {
    let mut cluster = Cluster::start(1);
    let flags = ["--lock-delay", "10s", "-k", "2"];
    for pause in [0, 5, 12, 19] {
        let (leader, follower) = (cluster.wait_for_leader(), cluster.follower());
        let third = 3 - leader - follower;
        let key = unique_key("cluster");
        let mut first = hold(&cluster.server(follower).http_addr(), &flags, &key, &endless(false));
        let session = cluster.server(follower).holder(&key).expect("held");
        let mut waiters = [follower, third].map(|number| wait_for(cluster.server(number), &key, &flags));
        cluster.server(follower).destroy_session(&session);
        let lost_at = now();
        thread::sleep(Duration::from_millis(pause));
        cluster.kill9(leader);
        // Unlike the waiters they saw nobody lose the key, and they come in time for the election.
        let newcomers = [follower, third].map(|number| {
            let script = diary(Duration::from_millis(200), true);
            let command = &mut consul_lock_on(cluster.server(number));
            Running::start(command.arg("run").args(flags).args([&key, "-c", &script]))
        });
        let first = first.wait(BOUND);
        assert_eq!(first.code(), Some(76), "{first:?}");
        for run in waiters.iter_mut().chain(&mut { newcomers }) {
            let end = run.wait(BOUND);
            assert_eq!(end.code(), Some(0), "{end:?}");
            let started = last(&end.stdout, "started").expect("started");
            assert!(started > first.last_alive(), "two at work: {first:?} {end:?}");
            let after = started - lost_at;
            println!("killed {pause} ms after the loss: started {after:.1} s after it");
            // /proc/uptime counts in hundredths, and the loss came before we had its answer.
            assert!(after > 10.0 - 0.1, "started {after} s after the loss: {end:?}");
        }
        cluster.restart(leader);
        eventually("all three are at work", ELECTION, || {
            cluster.servers().iter().all(|server| server.get("/v1/status/leader").text().len() > 4).then_some(())
        });
        cluster.wait_for_leader();
    }
}

/// A restarted server lets an older and shorter delay of the same key end a newer one: then the waiter's own count is all
/// there is.
#[test]
fn a_server_that_restarts_within_the_delay_and_forgets_it() {
    let mut agent = Agent::start(Options { durable: true, ..Options::default() });
    let key = unique_key("forgotten");
    let short = agent.create_session(&json!({ "LockDelay": "3s" }));
    agent.put(
        "/v1/txn",
        json!([{ "KV": { "Verb": "lock", "Key": key, "Session": short, "Flags": 0x2ddc_cbc0_58a5_0c18_u64, "Value": "" } }])
            .to_string(),
    );
    agent.destroy_session(&short);
    let flags = ["--lock-delay", "20s", "-k", "2"];
    let mut first = hold(&agent.http_addr(), &flags, &key, &endless(true));
    let session = agent.holder(&key).expect("held");
    let mut second = wait_for(&agent, &key, &flags);
    let lost_at = now();
    agent.destroy_session(&session);
    assert_eq!(first.wait(BOUND).code(), Some(76));
    second.expect_stderr("until its lock delay is over", BOUND);
    agent.kill9();
    agent.restart();
    let end = second.wait(BOUND);
    assert_eq!(end.code(), Some(0), "{end:?}");
    let after = last(&end.stdout, "started").expect("started") - lost_at;
    println!("started {after:.1} s after the loss");
    assert!(after >= 20.0 - 0.1, "{after} s after the loss: {end:?}");
}
