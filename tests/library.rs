//! The library by itself, as a Rust program uses it: `Lock` against a real agent.

mod support;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use consul_lock::Client;
use consul_lock::clock::Moment;
use consul_lock::consul::{Behavior, Settings};
use consul_lock::lock::{Error, Lock, LockDelay, LockOptions, Loss, Record, SessionOptions, Stop, Ttl};
use serde_json::json;
use support::agent::{Agent, free_port};
use support::proxy::{Fault, Proxy, Rule};
use support::{eventually, unique_key};

const BOUND: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn client(addr: &str) -> Client {
    let settings = Settings { http_addr: Some(addr.to_owned()), ..Settings::default() };
    Client::new(settings.resolve(&|_| None).expect("a fit address")).expect("a fit address")
}

fn options(key: &str) -> LockOptions {
    LockOptions::new(key.parse().expect("a fit key"))
}

/// A lease that is over soon: confirmed every 0.9 s, lost 3.5 s after the last confirmation.
fn short(key: &str) -> LockOptions {
    let session_opts = SessionOptions {
        lock_delay: Some(LockDelay::new(5 * SECOND).expect("at most 60 s")),
        ..SessionOptions::default()
    };
    LockOptions { session_opts, grace: SECOND, ..options(key) }
}

/// Waits for the lock in a thread.
fn lock_elsewhere(mut lock: Lock, stop: Stop) -> JoinHandle<(Lock, Result<Receiver<Loss>, Error>)> {
    thread::spawn(move || {
        let result = lock.lock(&stop);
        (lock, result)
    })
}

#[track_caller]
fn assert_no_sessions(agent: &Agent) {
    assert!(agent.sessions().is_empty(), "{:?}", agent.sessions());
}

#[test]
fn a_lock_is_held_until_it_is_unlocked() {
    let agent = Agent::plain();
    let key = unique_key("lib");
    let mut lock = client(&agent.http_addr()).lock_key(&key).expect("a fit key");
    assert!(lock.holding().is_none());
    assert!(matches!(lock.unlock(), Err(Error::NotHeld(not_held)) if not_held.as_str() == key));

    let lost = lock.lock(&Stop::new()).expect("a free lock");
    let entry = agent.kv(&key).expect("the key is there");
    let holding = lock.holding().expect("it is held");
    assert_eq!(entry["Session"], holding.session().as_str());
    // Go's LockFlagValue.
    assert_eq!(entry["Flags"], 0x2ddc_cbc0_58a5_0c18_u64);
    assert_eq!((entry["ModifyIndex"].as_u64(), entry["LockIndex"].as_u64()), (Some(holding.fence()), Some(1)));
    assert_eq!((holding.key().as_str(), holding.lock_index()), (key.as_str(), 1));
    let sessions = agent.sessions();
    assert_eq!(sessions[0]["Name"], format!("consul-lock {key}"));
    assert_eq!((&sessions[0]["TTL"], &sessions[0]["Behavior"]), (&json!("15s"), &json!("release")));
    assert_eq!(sessions[0]["LockDelay"], 30_000_000_000_u64);

    assert!(matches!(lock.lock(&Stop::new()), Err(Error::AlreadyHeld(_))));
    assert_eq!(agent.holder(&key).as_deref(), lock.holding().map(|holding| holding.session().as_str()));
    lock.unlock().expect("it is ours");
    assert!(agent.kv(&key).is_none() && lock.holding().is_none());
    assert_no_sessions(&agent);
    // The channel ends without a loss.
    assert_eq!(lost.recv_timeout(BOUND), Err(RecvTimeoutError::Disconnected));
    assert!(matches!(lock.unlock(), Err(Error::NotHeld(_))));
}

#[test]
fn an_unlock_whose_answer_takes_its_time_is_no_loss() {
    let agent = Agent::plain();
    let key = unique_key("lib");
    let mut proxy = Proxy::start(&agent.http_addr());
    let mut lock = client(&proxy.addr()).lock_opts(options(&key));
    let lost = lock.lock(&Stop::new()).expect("a free lock");
    let watched = |seen: &support::proxy::Seen| seen.target.contains("wait=");
    eventually("the key is watched", BOUND, || proxy.requests().iter().any(watched).then_some(()));
    // Consul has removed the key, which a watch would see, half a second before the answer.
    proxy.rules(vec![Rule::new(Fault::DelayReply(Duration::from_millis(500))).method("PUT").prefix("/v1/txn")]);
    lock.unlock().expect("it is ours");
    assert_eq!(lost.recv_timeout(BOUND), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn of_two_locks_on_a_key_one_waits_for_the_other_and_gets_a_greater_fence() {
    let agent = Agent::plain();
    let key = unique_key("lib");
    // Different clients, as in different programs.
    let [mut first, second] = [(); 2].map(|()| client(&agent.http_addr()).lock_key(&key).expect("a fit key"));
    let _lost = first.lock(&Stop::new()).expect("a free lock");
    let fence = first.holding().expect("it is held").fence();
    let waiting = lock_elsewhere(second, Stop::new());
    eventually("the waiter has made its session", BOUND, || (agent.sessions().len() == 2).then_some(()));
    assert!(!waiting.is_finished());
    first.unlock().expect("it is ours");
    let (mut second, result) = waiting.join().expect("no panic");
    let _lost = result.expect("the lock is free by now");
    assert!(second.holding().expect("it is held").fence() > fence);
    second.unlock().expect("it is ours");
    assert_no_sessions(&agent);
}

#[test]
fn lock_try_once_gives_up_after_lock_wait_time_and_names_the_holder() {
    let agent = Agent::plain();
    let key = unique_key("lib");
    let client = client(&agent.http_addr());
    let mut first = client.lock_opts(LockOptions { program: Some("first".into()), ..options(&key) });
    let _lost = first.lock(&Stop::new()).expect("a free lock");
    for wait in [Duration::ZERO, SECOND] {
        let mut second = client.lock_opts(LockOptions { lock_try_once: true, lock_wait_time: wait, ..options(&key) });
        let begun = Instant::now();
        let error = second.lock(&Stop::new()).expect_err("it is held");
        assert!(begun.elapsed() >= wait, "after {:?}", begun.elapsed());
        let Error::Held { holder, .. } = &error else { panic!("{error}") };
        assert_eq!(Some(&holder.session), first.holding().map(|holding| holding.session()));
        let record = holder.record.as_ref().expect("the holder has written its record");
        assert_eq!((record.command.as_str(), record.pid), ("first", std::process::id()));
        assert_eq!(agent.sessions().len(), 1);
    }
    first.unlock().expect("it is ours");
    let mut second =
        client.lock_opts(LockOptions { lock_try_once: true, lock_wait_time: Duration::ZERO, ..options(&key) });
    let _lost = second.lock(&Stop::new()).expect("one attempt is enough for a free lock");
    second.unlock().expect("it is ours");
}

#[test]
fn a_stop_thrown_by_another_thread_ends_the_waiting_at_once_and_leaves_no_session() {
    let agent = Agent::plain();
    let key = unique_key("lib");
    let client = client(&agent.http_addr());
    let mut first = client.lock_key(&key).expect("a fit key");
    let _lost = first.lock(&Stop::new()).expect("a free lock");
    let stop = Stop::new();
    // A blocking query of 8 hours: only the stop can end it.
    let ttl = Ttl::new(24 * 3600 * SECOND).expect("24 h is allowed");
    let waiting = lock_elsewhere(client.lock_opts(LockOptions { session_ttl: ttl, ..options(&key) }), stop.clone());
    eventually("the waiter blocks on the key", BOUND, || {
        // Its session is there, and its read has shown it the holder.
        (agent.sessions().len() == 2).then_some(())
    });
    assert!(!waiting.is_finished());
    stop.throw();
    let begun = Instant::now();
    let (_, result) = waiting.join().expect("no panic");
    assert!(matches!(result, Err(Error::Stopped)), "{result:?}");
    assert!(begun.elapsed() < 20 * SECOND, "after {:?}", begun.elapsed());
    assert_eq!(agent.sessions().len(), 1);
    // A stop stays thrown: nothing is asked for any more.
    let mut third = client.lock_key(&unique_key("lib")).expect("a fit key");
    let result = third.lock(&stop);
    assert!(matches!(result, Err(Error::Stopped)), "{result:?}");
    assert_eq!(agent.sessions().len(), 1);
    // It has cut the waiter's connection and no other of the same client.
    first.unlock().expect("it is ours");
    let _lost = third.lock(&Stop::new()).expect("a free lock");
    third.unlock().expect("it is ours");
}

#[test]
fn a_destroyed_session_is_told_by_the_channel_and_again_by_unlock() {
    let agent = Agent::plain();
    let key = unique_key("lib");
    let mut lock = client(&agent.http_addr()).lock_key(&key).expect("a fit key");
    let lost = lock.lock(&Stop::new()).expect("a free lock");
    agent.destroy_session(lock.holding().expect("it is held").session().as_str());
    assert_eq!(lost.recv_timeout(BOUND), Ok(Loss::Invalidated));
    assert!(matches!(lock.unlock(), Err(Error::LostBefore(Loss::Invalidated))));
    assert!(lock.holding().is_none());
    assert_no_sessions(&agent);
}

#[test]
fn a_key_that_goes_with_its_session_or_by_somebodys_hand_is_lost() {
    let agent = Agent::plain();
    let key = unique_key("lib");
    let client = client(&agent.http_addr());
    let session_opts = SessionOptions { behavior: Some(Behavior::Delete), ..SessionOptions::default() };
    let mut lock = client.lock_opts(LockOptions { session_opts, ..options(&key) });
    let lost = lock.lock(&Stop::new()).expect("a free lock");
    agent.destroy_session(lock.holding().expect("it is held").session().as_str());
    assert_eq!(lost.recv_timeout(BOUND), Ok(Loss::Deleted));
    assert!(agent.kv(&key).is_none());

    let mut lock = client.lock_key(&unique_key("lib")).expect("a fit key");
    let lost = lock.lock(&Stop::new()).expect("a free lock");
    let key = lock.holding().expect("it is held").key().to_string();
    let deleted = agent.ask("DELETE", &format!("/v1/kv/{key}"), b"", BOUND).expect("answered");
    assert_eq!(deleted.status, 200);
    assert_eq!(lost.recv_timeout(BOUND), Ok(Loss::Removed));
    assert!(matches!(lock.unlock(), Err(Error::LostBefore(_))));
    assert_no_sessions(&agent);
}

#[test]
fn an_agent_that_falls_silent_is_told_when_the_grace_has_to_begin() {
    let agent = Agent::plain();
    let mut lock = client(&agent.http_addr()).lock_opts(short(&unique_key("lib")));
    let lost = lock.lock(&Stop::new()).expect("a free lock");
    let terms = lock.holding().expect("it is held").lease().terms();
    assert_eq!((terms.until_term(), terms.until_deadline()), (3500 * SECOND / 1000, 4500 * SECOND / 1000));
    // Longer than a lease that nobody confirms.
    assert_eq!(lost.recv_timeout(5 * SECOND), Err(RecvTimeoutError::Timeout));
    agent.stop();
    let stopped = Moment::now();
    assert_eq!(lost.recv_timeout(BOUND), Ok(Loss::Unconfirmed));
    // The last confirmation was sent before; work that stops within the grace ends before anybody can hold the lock.
    let after = Moment::now().since(stopped);
    assert!(after < terms.delay() - terms.grace(), "told after {after:?}");
    agent.cont();
    // By doubt only: it is ours still, and given back.
    lock.unlock().expect("it was ours all the time");
    assert_no_sessions(&agent);
}

#[test]
fn monitor_retries_bound_the_failures_in_a_row() {
    let agent = Agent::plain();
    let key = unique_key("lib");
    let mut proxy = Proxy::start(&agent.http_addr());
    let fail = |times| Rule::new(Fault::Status(500, "rpc error".to_owned())).prefix("/v1/txn?consistent").times(times);
    let with = |retries| LockOptions {
        monitor_retries: Some(retries),
        monitor_retry_time: Duration::from_millis(50),
        ..options(&key)
    };
    let failures = |proxy: &Proxy| proxy.requests().iter().filter(|request| request.fault != Fault::None).count();

    let mut lock = client(&proxy.addr()).lock_opts(with(3));
    let lost = lock.lock(&Stop::new()).expect("a free lock");
    proxy.rules(vec![fail(3)]);
    eventually("three have failed", BOUND, || (failures(&proxy) == 3).then_some(()));
    assert_eq!(lost.recv_timeout(SECOND), Err(RecvTimeoutError::Timeout));
    proxy.rules(vec![fail(4)]);
    assert_eq!(lost.recv_timeout(BOUND), Ok(Loss::RetriesSpent(3)));
    assert_eq!(failures(&proxy), 3 + 4);
    lock.unlock().expect("by doubt only");
    assert_no_sessions(&agent);
}

#[test]
fn the_value_is_what_was_asked_for_and_stays_with_a_kept_key() {
    let agent = Agent::plain();
    let client = client(&agent.http_addr());
    let key = unique_key("lib");
    let value = b"\x00\xffany bytes".to_vec();
    let mut lock = client.lock_opts(LockOptions { value: Some(value), keep_key: true, ..options(&key) });
    let _lost = lock.lock(&Stop::new()).expect("a free lock");
    // base64 of the bytes
    assert_eq!(agent.kv(&key).expect("the key")["Value"], "AP9hbnkgYnl0ZXM=");
    lock.unlock().expect("it is ours");
    let entry = agent.kv(&key).expect("the key was kept");
    assert_eq!((&entry["Value"], entry["Session"].as_str()), (&json!("AP9hbnkgYnl0ZXM="), None));
    assert_eq!(entry["Flags"], 0x2ddc_cbc0_58a5_0c18_u64);
    // It is a lock and no data: the next one takes it.
    let mut next = client.lock_opts(LockOptions { keep_key: true, ..options(&key) });
    let _lost = next.lock(&Stop::new()).expect("a free lock");
    assert_eq!(next.holding().expect("it is held").lock_index(), 2);
    let record = Record::read(&client_value(&client, &key)).expect("a record by default");
    assert_eq!((record.pid, record.lock_delay.as_str()), (std::process::id(), "30s"));
    next.unlock().expect("it is ours");
    let record = Record::read(&client_value(&client, &key)).expect("a record by default");
    assert!(record.released_at.is_some());
}

fn client_value(client: &Client, key: &str) -> Vec<u8> {
    let reply = client.get(key, consul_lock::consul::Read::Consistent, BOUND).expect("answered");
    reply.entry.expect("the key is there").value
}

#[test]
fn a_given_session_is_used_renewed_and_left_alone() {
    let agent = Agent::plain();
    let client = client(&agent.http_addr());
    let key = unique_key("lib");
    let id = agent.create_session(&json!({ "TTL": "10s", "LockDelay": "20s", "Name": "given" }));
    let with = || LockOptions { session: Some(id.parse().expect("a session")), ..options(&key) };
    let mut lock = client.lock_opts(with());
    let _lost = lock.lock(&Stop::new()).expect("a free lock");
    assert_eq!(agent.holder(&key).as_deref(), Some(id.as_str()));
    assert_eq!(lock.holding().expect("it is held").lease().terms().delay(), 20 * SECOND);
    assert_eq!(agent.sessions().len(), 1);
    // A session holds a key once.
    let error = client.lock_opts(with()).lock(&Stop::new()).expect_err("held by the same session");
    assert!(matches!(error, Error::HeldBySameSession { .. }), "{error}");
    assert_eq!(agent.holder(&key).as_deref(), Some(id.as_str()));
    eventually("it is renewed", BOUND, || {
        agent.requests().iter().any(|request| *request == format!("PUT /v1/session/renew/{id}")).then_some(())
    });
    lock.unlock().expect("it is ours");
    assert!(agent.kv(&key).is_none());
    assert_eq!(agent.sessions()[0]["ID"], id);

    agent.destroy_session(&id);
    let error = client.lock_opts(with()).lock(&Stop::new()).expect_err("it is gone");
    assert!(matches!(&error, Error::NoSuchSession { session, .. } if session.as_str() == id), "{error}");
    let id = agent.create_session(&json!({ "LockDelay": "0s" }));
    let with = LockOptions { session: Some(id.parse().expect("a session")), ..options(&key) };
    let error = client.lock_opts(with).lock(&Stop::new()).expect_err("it promises nothing");
    assert!(matches!(error, Error::NoLockDelay(_)), "{error}");
    assert!(agent.kv(&key).is_none());
}

#[test]
fn the_session_is_made_as_session_opts_say() {
    let agent = Agent::plain();
    let session_opts = SessionOptions {
        name: Some("long name".into()),
        node: Some(agent.node()),
        checks: None,
        node_checks: Some(vec![]),
        service_checks: None,
        lock_delay: Some(LockDelay::new(7 * SECOND).expect("at most 60 s")),
        behavior: Some(Behavior::Delete),
        ttl: Some(Ttl::new(90 * SECOND).expect("at most a day")),
    };
    let options = LockOptions {
        session_opts,
        session_name: Some("short name".into()),
        session_ttl: Ttl::new(20 * SECOND).expect("at most a day"),
        ..options(&unique_key("lib"))
    };
    let client = client(&agent.http_addr());
    let mut lock = client.lock_opts(options.clone());
    let _lost = lock.lock(&Stop::new()).expect("a free lock");
    let session = agent.get(&format!("/v1/session/info/{}", lock.holding().expect("held").session())).json()[0].clone();
    assert_eq!((&session["Name"], &session["Node"]), (&json!("long name"), &json!(agent.node())));
    assert_eq!((&session["TTL"], &session["LockDelay"]), (&json!("90s"), &json!(7_000_000_000_u64)));
    assert_eq!((&session["Behavior"], &session["NodeChecks"]), (&json!("delete"), &json!([])));
    lock.unlock().expect("it is ours");

    let service =
        json!({ "ID": "web", "Name": "web", "Check": { "CheckID": "web-up", "TTL": "1h", "Status": "passing" } });
    agent.put("/v1/agent/service/register", service.to_string());
    let session_opts = SessionOptions {
        node_checks: None,
        service_checks: Some(vec!["web-up".into()]),
        ..options.session_opts.clone()
    };
    let mut lock = client.lock_opts(LockOptions { session_opts, ..options.clone() });
    let _lost = lock.lock(&Stop::new()).expect("a free lock");
    let session = agent.sessions()[0].clone();
    assert_eq!(session["ServiceChecks"][0]["ID"], "web-up");
    assert_eq!(session["NodeChecks"], json!(["serfHealth"]));
    lock.unlock().expect("it is ours");

    // What leaves no second to notice anything is refused before a session is made.
    let lock_delay = Some(LockDelay::new(6 * SECOND).expect("at most 60 s"));
    let session_opts = SessionOptions { lock_delay, ..options.session_opts.clone() };
    let error = client.lock_opts(LockOptions { session_opts, ..options }).lock(&Stop::new()).expect_err("too tight");
    assert!(matches!(error, Error::TooTight(_)) && error.to_string().contains("leaves 500ms"), "{error}");
    assert_no_sessions(&agent);
}

#[test]
fn destroy_deletes_a_free_lock_and_nothing_else() {
    let agent = Agent::plain();
    let client = client(&agent.http_addr());
    let key = unique_key("lib");
    let mut lock = client.lock_opts(LockOptions { keep_key: true, ..options(&key) });
    lock.destroy().expect("a lock that is not there is as good as destroyed");
    let _lost = lock.lock(&Stop::new()).expect("a free lock");
    assert!(matches!(lock.destroy(), Err(Error::InUse(_))));
    assert!(matches!(client.lock_key(&key).expect("a fit key").destroy(), Err(Error::InUse(_))));
    assert!(agent.holder(&key).is_some());
    lock.unlock().expect("it is ours");
    assert!(agent.kv(&key).is_some());
    lock.destroy().expect("it is free");
    assert!(agent.kv(&key).is_none());

    agent.put(&format!("/v1/kv/{key}"), "data");
    assert!(matches!(lock.destroy(), Err(Error::Foreign { .. })));
    assert!(matches!(lock.lock(&Stop::new()), Err(Error::Foreign { .. })));
    assert_eq!(agent.kv(&key).expect("it is there")["Value"], "ZGF0YQ==");
    assert_no_sessions(&agent);
}

#[test]
fn what_consul_could_not_carry_is_no_key() {
    let client = client("127.0.0.1:8500");
    for unfit in ["", "/a", "a/", "a//b", "a/../b", "a\nb", "a/.queue/b"] {
        assert!(client.lock_key(unfit).is_err(), "{unfit:?}");
    }
}

#[test]
fn a_consul_that_is_not_there_is_an_error_after_retry_for() {
    let client = client(&format!("127.0.0.1:{}", free_port(std::net::Ipv4Addr::LOCALHOST)));
    let mut lock = client.lock_opts(LockOptions { retry_for: SECOND, ..options("lib") });
    let begun = Instant::now();
    let error = lock.lock(&Stop::new()).expect_err("nobody is there");
    assert!(begun.elapsed() >= SECOND, "after {:?}", begun.elapsed());
    assert!(matches!(&error, Error::Consul(error) if error.is_transient()), "{error}");
    // A stop ends the retrying as well.
    let (stop, (done, result)) = (Stop::new(), channel());
    let waiter = stop.clone();
    thread::spawn(move || {
        let mut lock = client.lock_opts(LockOptions { retry_for: BOUND * 10, ..options("lib") });
        let _ = done.send(lock.lock(&waiter).map(drop));
    });
    assert!(matches!(result.recv_timeout(SECOND), Err(RecvTimeoutError::Timeout)));
    stop.throw();
    assert!(matches!(result.recv_timeout(BOUND), Ok(Err(Error::Stopped))));
}
