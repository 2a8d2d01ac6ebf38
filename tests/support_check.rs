//! The ground that the other tests stand on: agents, clusters, the proxy and the terminal do what they say.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use support::agent::{Agent, Options, consul_binary};
use support::cluster::Cluster;
use support::http::{self, Reply};
use support::proxy::{Fault, Proxy, Rule};
use support::pty::Pty;
use support::running::Running;
use support::tls::Tls;
use support::{eventually, is_alive, unique_key};

const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(10);

#[test]
fn an_agent_answers_and_is_gone_with_its_folder_when_dropped() {
    let agent = Agent::plain();
    let (pid, dir) = (agent.pid(), agent.dir().to_owned());
    let key = unique_key("agent");
    let session = agent.create_session(&json!({ "Name": "mine" }));
    assert!(agent.acquire(&key, &session, "x"));
    assert_eq!(agent.holder(&key).as_deref(), Some(session.as_str()));
    assert_eq!(agent.keys("test/"), [key]);
    assert_eq!(agent.sessions().len(), 1);
    assert_eq!(agent.sessions()[0]["Name"], "mine");
    agent.destroy_session(&session);
    assert!(agent.sessions().is_empty());

    assert!(is_alive(pid) && dir.exists());
    drop(agent);
    assert!(!is_alive(pid) && !dir.exists());
}

#[test]
fn an_agent_is_gone_when_the_test_process_is_killed() {
    const AGAIN: &str = "SUPPORT_CHECK_AGAIN";
    if std::env::var_os(AGAIN).is_some() {
        let agent = Agent::plain();
        println!("\nagent {} {}", agent.pid(), agent.dir().display());
        loop {
            std::thread::park();
        }
    }
    let this = std::env::current_exe().unwrap();
    let mut test = Command::new(this)
        .args(["an_agent_is_gone_when_the_test_process_is_killed", "--exact", "--nocapture"])
        .env(AGAIN, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(test.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("agent ")).expect("the test says its agent");
    let [_, pid, dir] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let pid = pid.parse().unwrap();
    assert!(is_alive(pid));

    test.kill().unwrap();
    test.wait().unwrap();
    eventually("the agent is gone, and its folder", SOON, || {
        (!is_alive(pid) && !Path::new(dir).exists()).then_some(())
    });
}

#[test]
fn an_agent_says_which_requests_it_got() {
    let agent = Agent::plain();
    agent.get("/v1/agent/members");
    for (method, target) in [("GET", "/v1/kv/some/key?consistent="), ("PUT", "/v1/kv/some/key?acquire=nobody")] {
        http::request(&agent.http_addr(), method, target, None, b"", SOON).unwrap();
    }
    let seen = eventually("both are in the log", SOON, || Some(agent.requests()).filter(|seen| seen.len() >= 2));
    assert_eq!(seen, ["GET /v1/kv/some/key?consistent=", "PUT /v1/kv/some/key?acquire=nobody"]);
}

#[test]
fn a_durable_agent_remembers_what_it_knew_before_it_was_killed() {
    let mut agent = Agent::start(Options { durable: true, acl: true, ..Options::default() });
    agent.put("/v1/kv/kept", "x");
    let (addr, session) = (agent.http_addr(), agent.create_session(&json!({})));
    agent.kill9();
    assert!(!agent.is_running());
    agent.restart();
    assert_eq!(agent.http_addr(), addr);
    assert_eq!(agent.keys(""), ["kept"]);
    assert_eq!(agent.sessions()[0]["ID"], session);
}

#[test]
fn a_stopped_agent_answers_nothing_until_it_goes_on() {
    let agent = Agent::plain();
    agent.stop();
    assert!(!agent.is_running());
    let ask = |bound| agent.ask("GET", "/v1/status/leader", b"", bound).map(|reply| reply.status);
    assert!(ask(SECOND / 5).is_err());
    agent.cont();
    assert_eq!(ask(SOON).unwrap(), 200);
}

#[test]
fn a_token_may_do_what_its_rules_say_and_no_more() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let token = agent.token_with(r#"key_prefix "mine/" { policy = "write" }"#);
    let put = |path: &str, token: Option<&str>| {
        http::request(&agent.http_addr(), "PUT", path, token, b"", SOON).unwrap().status
    };
    assert_eq!(put("/v1/kv/mine/key", Some(&token)), 200);
    assert_eq!(put("/v1/kv/yours/key", Some(&token)), 403);
    assert_eq!(put("/v1/session/create", Some(&token)), 403);
    assert_eq!(put("/v1/kv/mine/key", None), 403);
    assert_eq!(put("/v1/kv/yours/key", Some(agent.root_token())), 200);
}

#[test]
fn https_wants_the_right_name_and_with_mutual_tls_a_client_certificate() {
    for tls in [Tls::Server, Tls::Mutual] {
        let agent = Agent::start(Options { tls, ..Options::default() });
        let certificates = agent.certificates();
        let get = |url: &str, with_client: bool| {
            let mut client = Command::new(consul_binary());
            client.arg("members").env("CONSUL_HTTP_ADDR", url).env("CONSUL_CACERT", &certificates.ca);
            if with_client {
                client.env("CONSUL_CLIENT_CERT", &certificates.client_cert);
                client.env("CONSUL_CLIENT_KEY", &certificates.client_key);
            }
            client.output().unwrap().status.success()
        };
        assert!(get(&agent.https_addr(), true), "{tls:?}");
        assert_eq!(get(&agent.https_addr(), false), tls == Tls::Server, "{tls:?}");
        assert!(!get(&agent.https_addr_without_name(), true), "{tls:?}");

        let mut proxy = Proxy::start(agent.https_addr().strip_prefix("https://").unwrap());
        assert!(get(&format!("https://{}", proxy.addr()), true), "{tls:?} through the proxy");
        proxy.set(Fault::Refuse);
        assert!(!get(&format!("https://{}", proxy.addr()), true), "{tls:?} through the proxy");
    }
}

#[test]
fn a_unix_socket_is_served_beside_the_port() {
    let agent = Agent::start(Options { unix_socket: true, ..Options::default() });
    let addr = agent.socket_addr();
    let mut socket = std::os::unix::net::UnixStream::connect(addr.strip_prefix("unix://").unwrap()).unwrap();
    socket.write_all(b"GET /v1/status/leader HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut raw = Vec::new();
    socket.read_to_end(&mut raw).unwrap();
    assert_eq!(Reply::parse(&raw).unwrap().text(), agent.get("/v1/status/leader").text());
}

#[test]
fn a_cluster_elects_another_leader_and_takes_the_old_one_back() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client_agent();
    let session = client.create_session(&json!({ "LockDelay": "0s" }));
    assert!(client.acquire("held", &session, ""));
    for _ in 0..2 {
        let old = cluster.wait_for_leader();
        cluster.kill9(old);
        let new = cluster.wait_for_leader();
        assert_ne!(new, old);
        assert_eq!(cluster.server(new).holder("held").as_deref(), Some(session.as_str()));
        cluster.restart(old);
        eventually("the old leader follows the new one", SOON * 6, || {
            let seen = cluster.server(old).get("/v1/status/leader").text();
            (seen == cluster.server(new).get("/v1/status/leader").text() && seen.contains(':')).then_some(())
        });
    }
    let leader = cluster.wait_for_leader();
    cluster.stop(leader);
    assert_ne!(cluster.wait_for_leader(), leader);
    cluster.cont(leader);
    eventually("all three are healthy and one leads", SOON * 6, || {
        let passing = client.get("/v1/health/state/passing").json();
        (passing.as_array()?.len() == 4 && cluster.leader().is_some()).then_some(())
    });
}

/// An agent with a key `k`, a proxy before it, and what a client meets who asks the proxy for the key.
struct Proxied {
    agent: Agent,
    proxy: Proxy,
}

impl Proxied {
    fn start() -> Self {
        let agent = Agent::plain();
        agent.put("/v1/kv/k", "one");
        let proxy = Proxy::start(&agent.http_addr());
        Self { agent, proxy }
    }

    fn get(&self) -> std::io::Result<Reply> {
        self.ask("GET", "/v1/kv/k?raw")
    }

    fn ask(&self, method: &str, target: &str) -> std::io::Result<Reply> {
        self.ask_within(SOON, method, target)
    }

    fn ask_within(&self, bound: Duration, method: &str, target: &str) -> std::io::Result<Reply> {
        http::request(&self.proxy.addr(), method, target, None, b"", bound)
    }

    fn status(&self) -> u16 {
        self.get().unwrap().status
    }

    /// How many requests have come through to Consul.
    fn arrived(&self) -> usize {
        self.agent.requests().len()
    }
}

#[test]
fn a_faultless_proxy_passes_everything_on_and_keeps_connections() {
    let Proxied { agent, proxy } = Proxied::start();
    let mut stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    for value in ["two", "three"] {
        let put = format!("PUT /v1/kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{value}", value.len());
        stream.write_all(put.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"true") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert_eq!(agent.get("/v1/kv/k?raw").text(), value);
    }
    let seen = proxy.requests();
    assert_eq!(
        seen.iter().map(|seen| (seen.connection, seen.body.as_str())).collect::<Vec<_>>(),
        [(1, "two"), (1, "three")]
    );
    assert_eq!(proxy.open_connections(), 1);
    drop(stream);
    eventually("the proxy sees the end", SOON, || (proxy.open_connections() == 0).then_some(()));
}

#[test]
fn a_client_that_gives_up_a_blocking_query_leaves_nothing_behind() {
    let proxied = Proxied::start();
    let index = proxied.get().unwrap().header("X-Consul-Index").unwrap().to_owned();
    let error = proxied.ask_within(SECOND, "GET", &format!("/v1/kv/k?index={index}&wait=60s")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    eventually("the proxy sees the end", SOON, || (proxied.proxy.open_connections() == 0).then_some(()));
}

#[test]
fn faults_of_answers_do_what_they_say() {
    let mut proxied = Proxied::start();
    proxied.proxy.set(Fault::Status(500, "No cluster leader".into()));
    let reply = proxied.get().unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (500, "No cluster leader"));
    proxied.proxy.set(Fault::Malformed);
    let reply = proxied.get().unwrap();
    assert_eq!(reply.status, 200);
    assert!(serde_json::from_slice::<serde_json::Value>(&reply.body).is_err());
    proxied.proxy.set(Fault::Huge(3_000_000));
    assert_eq!(proxied.get().unwrap().json().as_str().unwrap().len(), 3_000_000);
    proxied.proxy.set(Fault::CloseUnanswered);
    assert_eq!(proxied.get().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(proxied.arrived(), 0, "none of these reaches Consul");

    proxied.proxy.set(Fault::Truncate);
    let reply = proxied.get().unwrap();
    assert_eq!(reply.text(), "one");
    assert_eq!(reply.header("content-length"), Some("67"));
    proxied.proxy.set(Fault::LoseReply);
    assert!(proxied.ask("PUT", "/v1/kv/lost").is_err());
    assert!(proxied.agent.kv("lost").is_some(), "the request was carried out");

    proxied.proxy.set(Fault::None);
    assert_eq!(proxied.get().unwrap().text(), "one");
    proxied.agent.put("/v1/kv/k", "two");
    proxied.proxy.set(Fault::Stale);
    assert_eq!(proxied.get().unwrap().text(), "one");
    proxied.proxy.set(Fault::None);
    assert_eq!(proxied.get().unwrap().text(), "two");
}

#[test]
fn faults_of_time_do_what_they_say() {
    let mut proxied = Proxied::start();
    let delay = SECOND / 2;
    for fault in [Fault::Delay(delay), Fault::DelayReply(delay)] {
        let before = proxied.arrived();
        proxied.proxy.set(fault.clone());
        let start = Instant::now();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| (proxied.status(), start.elapsed()));
            eventually("Consul has answered", SOON, || (proxied.arrived() > before).then_some(()));
            match fault {
                Fault::Delay(_) => assert!(start.elapsed() >= delay, "Consul had it at {:?}", start.elapsed()),
                _ => assert!(!client.is_finished(), "the client has its answer already"),
            }
            let (status, answered) = client.join().unwrap();
            assert_eq!(status, 200);
            assert!(answered >= delay, "{fault:?}: {answered:?}");
        });
    }
    let before = proxied.arrived();
    proxied.proxy.set(Fault::Drop);
    assert_eq!(proxied.ask_within(SECOND, "GET", "/v1/kv/k").unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    proxied.proxy.set(Fault::None);
    assert_eq!(proxied.status(), 200);
    eventually("the last request is in Consul's log", SOON, || (proxied.arrived() > before).then_some(()));
    assert_eq!(proxied.arrived(), before + 1, "what was swallowed never arrives");
}

#[test]
fn faults_of_connections_take_requests_that_are_under_way() {
    let mut proxied = Proxied::start();
    let index = proxied.get().unwrap().header("X-Consul-Index").unwrap().to_owned();
    let watch = format!("/v1/kv/k?index={index}&wait=60s");
    for (fault, expected) in [
        (Fault::Reset, std::io::ErrorKind::ConnectionReset),
        (Fault::Refuse, std::io::ErrorKind::UnexpectedEof),
        (Fault::Drop, std::io::ErrorKind::WouldBlock),
        (Fault::ResetEvery(SECOND / 5), std::io::ErrorKind::ConnectionReset),
    ] {
        proxied.proxy.set(Fault::None);
        let (addr, watch, before) = (proxied.proxy.addr(), watch.clone(), proxied.proxy.requests().len());
        let bound = if fault == Fault::Drop { SECOND } else { SOON };
        let client = std::thread::spawn(move || http::request(&addr, "GET", &watch, None, b"", bound));
        eventually("the query is on its way", SOON, || (proxied.proxy.requests().len() > before).then_some(()));
        proxied.proxy.set(fault.clone());
        assert_eq!(client.join().unwrap().unwrap_err().kind(), expected, "{fault:?}");
        match fault {
            Fault::Refuse => assert_eq!(proxied.get().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused),
            Fault::Reset => assert_eq!(proxied.get().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset),
            Fault::ResetEvery(_) => {
                eventually("a request comes through between two resets", SOON, || proxied.get().ok());
            }
            _ => {}
        }
    }
    proxied.proxy.set(Fault::None);
    assert_eq!(proxied.status(), 200);
}

#[test]
fn rules_choose_requests_by_method_path_rate_and_number() {
    let mut proxied = Proxied::start();
    let fault = |status| Fault::Status(status, String::new());
    proxied.proxy.rules(vec![
        Rule::new(fault(501)).method("PUT").prefix("/v1/session/"),
        Rule::new(fault(502)).method("GET").one_in(5).times(2),
    ]);
    assert_eq!(proxied.ask("PUT", "/v1/session/create").unwrap().status, 501);
    assert_eq!(proxied.ask("PUT", "/v1/kv/other").unwrap().status, 200);
    let statuses: Vec<_> = (0..20).map(|_| proxied.status()).collect();
    let failed: Vec<_> = (0..20).filter(|number| statuses[*number] == 502).collect();
    assert_eq!(failed, [4, 9]);
}

#[test]
fn a_proxy_before_a_dead_agent_says_so() {
    let proxied = Proxied::start();
    proxied.agent.kill9();
    assert_eq!(proxied.status(), 502);
}

#[test]
fn everything_with_the_mark_goes_with_a_running_child() {
    let script = "setsid sleep 1000 >/dev/null 2>&1 & (sleep 1001 & exec sleep 1002) & echo out; echo err >&2; wait";
    let running = Running::start(Command::new("sh").args(["-c", script]));
    running.expect_stdout("out\n", SOON);
    running.expect_stderr("err\n", SOON);
    let mark = running.mark().to_owned();
    eventually("all four run", SOON, || {
        let names: Vec<_> = running.survivors().into_iter().map(|(_, name)| name).collect();
        (names.iter().filter(|name| *name == "sleep").count() == 3 && names.contains(&"sh".to_owned())).then_some(())
    });
    drop(running);
    assert_eq!(support::survivors(&mark), []);
}

#[test]
fn a_running_child_tells_how_it_ended() {
    let mut running = Running::start(Command::new("sh").args(["-c", "echo last; exit 7"]));
    let ended = running.wait(SOON);
    assert_eq!((ended.code(), ended.signal(), ended.stdout.as_str()), (Some(7), None, "last\n"));
    let mut running = Running::start(Command::new("sleep").arg("1000"));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(SOON).signal(), Some(15));
    running.expect_no_survivors(SOON);
}

#[test]
fn a_terminal_has_job_control_and_a_size() {
    let mut terminal = Pty::bash();
    assert_eq!(terminal.foreground(), terminal.pid());
    terminal.send("stty size\n");
    terminal.expect("24 80", SOON);
    terminal.prompt(SOON);
    terminal.send("sleep 1000; echo sta''tus $?\n");
    terminal.expect_foreground("sleep", SOON);
    terminal.send("\x1a");
    terminal.expect("Stopped", SOON);
    terminal.prompt(SOON);
    terminal.send("fg\n");
    terminal.expect_foreground("sleep", SOON);
    terminal.send("\x03");
    terminal.expect("^C", SOON);
    terminal.prompt(SOON);
    terminal.send("echo st''ill here; exit 3\n");
    terminal.expect("still here", SOON);
    assert_eq!(terminal.wait(SOON).code(), Some(3));
}

#[test]
fn a_terminal_that_hangs_up_takes_its_session_with_it() {
    let mut terminal = Pty::spawn(Command::new("sleep").arg("1000"));
    eventually("sleep runs", SOON, || support::survivors(terminal.mark()).iter().any(|p| p.1 == "sleep").then_some(()));
    terminal.hang_up();
    let status = terminal.wait(SOON);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGHUP as i32));
}
