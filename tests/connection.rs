//! How the agent is found and spoken to: each connection flag and each of Consul's variables, through the real binary.
//! TLS is in tests/tls.rs, what a token may do in tests/acl.rs.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use support::agent::{Agent, Options, free_port};
use support::proxy::{Fault, Proxy, Rule};
use support::running::{Ended, Running};
use support::{consul_lock, consul_lock_at, consul_lock_on, unique_key};

const BOUND: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Runs a command under a lock, with these flags; gives up soon where Consul is not to be reached.
#[track_caller]
fn run(command: &mut Command, flags: &[&str], key: &str) -> Ended {
    command.args(["run", "--retry-for", "1s"]).args(flags);
    command.args([key, "--", "sh", "-c", "echo \"held $CONSUL_LOCK_KEY\""]);
    Running::start(command).wait(BOUND)
}

#[track_caller]
fn expect_held(command: &mut Command, flags: &[&str]) {
    let key = unique_key("conn");
    let ended = run(command, flags, &key);
    assert_eq!((ended.code(), ended.stdout), (Some(0), format!("held {key}\n")), "{flags:?} {}", ended.stderr);
    assert_eq!(ended.stderr, "");
}

/// Expects that nothing was held, and this exit code: what was said.
#[track_caller]
fn expect_refused(command: &mut Command, flags: &[&str], code: i32) -> String {
    let ended = run(command, flags, &unique_key("conn"));
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(code), ""), "{flags:?} {}", ended.stderr);
    ended.stderr
}

/// A file in a temporary folder of its own.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("file");
    fs::write(&file, text).expect("the file can be written");
    (dir, file)
}

#[track_caller]
fn assert_nothing_left(agent: &Agent) {
    assert_eq!(agent.sessions(), [] as [serde_json::Value; 0]);
    assert_eq!(agent.keys("test/"), [] as [&str; 0]);
}

#[test]
fn every_form_of_an_address_leads_to_the_agent_by_flag_and_by_variable() {
    let agent = Agent::start(Options { unix_socket: true, ..Options::default() });
    let plain = agent.http_addr();
    for addr in [plain.clone(), format!("http://{plain}"), format!("http://{plain}/"), agent.socket_addr()] {
        expect_held(&mut consul_lock_at(&addr), &[]);
        // The flag wins, and its variable is not even read.
        expect_held(&mut consul_lock_at("ftp://nowhere:0"), &["--http-addr", &addr]);
    }
    assert_nothing_left(&agent);
}

#[test]
fn an_unfit_address_is_a_usage_error_that_names_its_origin() {
    let cases = [
        ("ftp://127.0.0.1", "the unknown scheme \"ftp\": use http, https or unix"),
        ("127.0.0.1:0", "the port \"0\": use a number from 1 to 65535"),
        ("127.0.0.1:http", "the port \"http\""),
        ("unix://", "names no socket"),
        ("http://me:secret@127.0.0.1:8500", "holds a user name: put user:password into CONSUL_HTTP_AUTH"),
    ];
    for (addr, message) in cases {
        for (mut command, flags, origin) in [
            (consul_lock_at(addr), vec![], "CONSUL_HTTP_ADDR"),
            (consul_lock(), vec!["--http-addr", addr], "--http-addr"),
        ] {
            let said = expect_refused(&mut command, &flags, 64);
            assert!(said.contains(&format!("the address of {origin} ")) && said.contains(message), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
    let said = expect_refused(&mut consul_lock(), &["--http-addr", ""], 64);
    assert!(said.contains("--http-addr is empty"), "{said}");
}

#[test]
fn a_consul_that_is_not_there_is_asked_for_retry_for_and_then_named_with_a_mend() {
    let port = free_port(Ipv4Addr::LOCALHOST);
    let message = |origin: &str| {
        format!(
            "consul-lock: connection refused at http://127.0.0.1:{port} ({origin}): start an agent, or lock on this \
             machine alone with --local"
        )
    };
    let begun = Instant::now();
    let said = expect_refused(&mut consul_lock_at(&format!("127.0.0.1:{port}")), &[], 69);
    assert!(begun.elapsed() >= SECOND, "given up after {:?}", begun.elapsed());
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.last().copied(), Some(message("CONSUL_HTTP_ADDR").as_str()), "{said}");
    // That it is being tried is told once.
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].ends_with("; trying again"), "{said}");

    let addr = format!("http://127.0.0.1:{port}");
    let said = expect_refused(&mut consul_lock(), &["-q", "--http-addr", &addr], 69);
    assert_eq!(said.trim_end(), message("--http-addr"));

    let said = expect_refused(&mut consul_lock_at("unix:///nonexistent/consul.sock"), &[], 69);
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("no such socket at unix:///nonexistent/consul.sock (CONSUL_HTTP_ADDR): "), "{said}");
}

#[test]
fn no_wait_does_not_retry_an_agent_that_is_not_there() {
    let addr = format!("127.0.0.1:{}", free_port(Ipv4Addr::LOCALHOST));
    let said = expect_refused(&mut consul_lock_at(&addr), &["-n"], 69);
    // Nor does it say that it will.
    assert!(said.starts_with("consul-lock: connection refused at http://127.0.0.1:"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_proxy_in_front_may_have_consul_below_a_path_and_ask_for_a_password() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start_below("/front/consul", &agent.http_addr());
    let addr = format!("{}/front/consul/", proxy.addr());
    expect_held(consul_lock_at(&addr).env("CONSUL_HTTP_AUTH", "anna:pa:ss"), &[]);
    let seen = proxy.requests();
    assert!(seen.len() >= 4, "{seen:?}");
    for request in &seen {
        assert!(request.target.starts_with("/front/consul/v1/"), "{request:?}");
        // base64 of anna:pa:ss
        assert_eq!(request.header("authorization"), Some("Basic YW5uYTpwYTpzcw=="), "{request:?}");
    }
    assert_nothing_left(&agent);

    // Without the password nobody is denied by Consul.
    proxy.rules(vec![Rule::new(Fault::Status(401, "who is there?".into()))]);
    let said = expect_refused(&mut consul_lock_at(&addr), &[], 78);
    assert!(
        said.contains("401 who is there?") && said.contains("CONSUL_HTTP_AUTH") && !said.contains("policy"),
        "{said}"
    );
    proxy.rules(Vec::new());

    // Without the path nobody who answers is Consul.
    let said = expect_refused(&mut consul_lock_at(&proxy.addr()), &[], 78);
    assert!(said.contains(&proxy.addr()) && said.contains("404 page not found; give the path"), "{said}");
}

#[test]
fn a_redirect_is_an_error_and_the_token_does_not_go_along() {
    let agent = Agent::plain();
    let elsewhere = Proxy::start(&agent.http_addr());
    let mut front = Proxy::start(&agent.http_addr());
    front.rules(vec![Rule::new(Fault::Redirect(format!("http://{}/v1/session/create", elsewhere.addr())))]);
    let said = expect_refused(consul_lock_at(&front.addr()).env("CONSUL_HTTP_TOKEN", "s3cret"), &[], 78);
    assert!(said.contains("redirects (307) to http://") && said.contains("give the address of an agent"), "{said}");
    assert!(front.requests().iter().all(|request| request.header("x-consul-token") == Some("s3cret")));
    assert!(elsewhere.requests().is_empty() && !said.contains("s3cret"), "{said}");
}

#[test]
fn a_token_comes_from_flag_file_or_variable_in_this_order() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let (_first, by_flag) = file("  file-flag\n");
    let (_second, by_variable) = file("file-variable");
    let by_flag = by_flag.display().to_string();
    let cases: [(&[&str], &[&str], Option<&str>); 7] = [
        (&["--token", "flag", "--token-file", &by_flag], &["TOKEN", "FILE"], Some("file-flag")),
        (&["--token", "flag"], &["TOKEN", "FILE"], Some("flag")),
        (&[], &["TOKEN", "FILE"], Some("file-variable")),
        (&[], &["TOKEN"], Some("variable")),
        (&[], &["EMPTY"], None),
        (&["--token", ""], &["TOKEN"], None),
        (&[], &[], None),
    ];
    for (flags, variables, expected) in cases {
        let mut command = consul_lock_at(&proxy.addr());
        for variable in variables {
            match *variable {
                "TOKEN" => command.env("CONSUL_HTTP_TOKEN", "variable"),
                "FILE" => command.env("CONSUL_HTTP_TOKEN_FILE", &by_variable),
                _ => command.env("CONSUL_HTTP_TOKEN", "").env("CONSUL_HTTP_TOKEN_FILE", ""),
            };
        }
        let before = proxy.requests().len();
        // Consul without ACLs takes any token.
        expect_held(&mut command, flags);
        let seen = proxy.requests();
        assert!(seen.len() > before);
        for request in &seen[before..] {
            assert_eq!(request.header("x-consul-token"), expected, "{flags:?} {variables:?} {request:?}");
        }
    }
}

#[test]
fn an_unfit_token_file_is_an_error_of_configuration_before_anything_is_asked() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let (folder, empty) = file(" \n");
    let (two_lines, no_text) = (folder.path().join("two-lines"), folder.path().join("no-text"));
    std::fs::write(&two_lines, "one\ntwo\n").unwrap();
    std::fs::write(&no_text, b"one\xff\n").unwrap();
    let cases = [
        (empty.display().to_string(), "is empty: put the token into it, or leave it out"),
        (folder.path().display().to_string(), "is a directory"),
        ("/nonexistent/token".to_owned(), "no such file"),
        (two_lines.display().to_string(), "holds more than a token"),
        (no_text.display().to_string(), "holds more than a token"),
    ];
    for (path, message) in cases {
        let said = expect_refused(&mut consul_lock_at(&proxy.addr()), &["--token-file", &path], 78);
        assert!(said.contains(&path) && said.contains("--token-file"), "{said}");
        assert!(said.to_lowercase().contains(message), "{said}");
        let said = expect_refused(consul_lock_at(&proxy.addr()).env("CONSUL_HTTP_TOKEN_FILE", &path), &[], 78);
        assert!(said.contains("CONSUL_HTTP_TOKEN_FILE"), "{said}");
    }
    let said = expect_refused(consul_lock_at(&proxy.addr()).env("CONSUL_HTTP_TOKEN", "se\ncret"), &[], 64);
    assert!(said.contains("CONSUL_HTTP_TOKEN") && !said.contains("cret\""), "{said}");
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn a_variable_that_is_no_text_is_an_error_and_not_passed_over() {
    use std::os::unix::ffi::OsStrExt as _;
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let no_text = std::ffi::OsStr::from_bytes(b"a\xff");
    for variable in
        ["CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_AUTH", "CONSUL_NAMESPACE"]
    {
        let said = expect_refused(consul_lock_at(&proxy.addr()).env(variable, no_text), &[], 64);
        assert!(said.contains(&format!("the value of {variable} is no UTF-8 text")), "{said}");
    }
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn a_token_is_in_no_message_and_in_nobodys_arguments() {
    let agent = Agent::plain();
    let (_dir, token) = file("s3cret-token");
    let mut command = consul_lock_on(&agent);
    command.env("CONSUL_HTTP_AUTH", "anna:s3cret-word").args(["run", "-vv", "--token-file"]).arg(token);
    // Its parent is lock-guard, which was forked with the arguments of consul-lock itself.
    let script = "cat /proc/$PPID/cmdline /proc/self/cmdline | tr '\\0' ' '";
    let ended = Running::start(command.args([&unique_key("conn"), "--", "sh", "-c", script])).wait(BOUND);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("cmdline"), "{}", ended.stdout);
    assert!(!(ended.stdout + &ended.stderr).contains("s3cret"));
}

#[test]
fn namespaces_and_partitions_that_this_consul_does_not_have_are_refused_with_nothing_left() {
    let agent = Agent::plain();
    let (namespace, partition) = ("Consul Enterprise", "Partition");
    let by_flag =
        |flag: &str, says: &str| (consul_lock_on(&agent), vec![flag.to_owned(), "team".to_owned()], says.to_owned());
    let by_variable = |variable: &str, says: &str| {
        let mut command = consul_lock_on(&agent);
        command.env(variable, "team");
        (command, vec![], says.to_owned())
    };
    let cases = [
        by_flag("--namespace", namespace),
        by_variable("CONSUL_NAMESPACE", namespace),
        by_flag("--partition", partition),
        by_variable("CONSUL_PARTITION", partition),
    ];
    for (mut command, flags, says) in cases {
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let said = expect_refused(&mut command, &flags, 78);
        assert!(said.contains(&says), "{said}");
        assert!(said.contains("leave out --namespace and --partition"), "{said}");
        assert_nothing_left(&agent);
    }
    // An empty variable is unset, an empty flag means none.
    expect_held(consul_lock_on(&agent).env("CONSUL_NAMESPACE", ""), &[]);
    expect_held(consul_lock_on(&agent).env("CONSUL_NAMESPACE", "team"), &["--namespace", ""]);
}

#[test]
fn a_datacenter_is_named_in_every_request_and_must_be_known() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    expect_held(&mut consul_lock_at(&proxy.addr()), &["--datacenter", "dc1"]);
    assert!(proxy.requests().iter().all(|request| request.target.contains("dc=dc1")), "{:?}", proxy.requests());
    let said = expect_refused(&mut consul_lock_on(&agent), &["--datacenter", "dc9"], 78);
    assert!(said.contains("No path to datacenter") && said.contains("consul catalog datacenters"), "{said}");
    assert_nothing_left(&agent);
}

/// A port that tells the first line of whatever connects, and then makes a tunnel to `upstream`.
fn tunnel(upstream: String) -> (String, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let addr = listener.local_addr().expect("it is bound").to_string();
    let (tell, told) = channel();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(client.try_clone().expect("a descriptor")).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            let end = lines.find(String::is_empty);
            let _ = tell.send(first);
            let (Some(_), Ok(mut server)) = (end, TcpStream::connect(&upstream)) else { continue };
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            let ends = (client.try_clone(), server.try_clone());
            let (Ok(mut from_client), Ok(mut to_server)) = ends else { continue };
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    });
    (addr, told)
}

const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

#[test]
fn proxy_variables_are_for_other_machines_and_never_for_this_one() {
    let agent = Agent::start(Options { unix_socket: true, ..Options::default() });
    let (proxy, told) = tunnel(agent.http_addr());
    let through = |addr: &str| {
        let mut command = consul_lock_at(addr);
        command.envs(PROXY_VARIABLES.map(|name| (name, format!("http://{proxy}"))));
        command
    };
    let port = agent.http_addr().rsplit_once(':').expect("host:port").1.to_owned();
    for addr in [agent.http_addr(), format!("http://localhost:{port}"), agent.socket_addr()] {
        expect_held(&mut through(&addr), &[]);
        assert!(told.try_recv().is_err(), "{addr} went through the proxy");
    }
    // A name that nobody but the proxy could find.
    expect_held(&mut through("consul.invalid:8500"), &[]);
    assert_eq!(told.recv_timeout(SECOND).as_deref(), Ok("CONNECT consul.invalid:8500 HTTP/1.1"));
    let said = expect_refused(through("consul.invalid:8500").env("NO_PROXY", "a.example, .invalid"), &[], 69);
    assert!(said.contains("the name cannot be resolved"), "{said}");
    assert_nothing_left(&agent);
}

#[test]
fn connection_flags_have_no_meaning_for_a_lock_on_this_machine_and_variables_do_no_harm() {
    for flag in ["--http-addr", "--token", "--token-file", "--ca-file", "--datacenter", "--namespace", "--partition"] {
        let ended = Running::start(consul_lock().args(["run", "--local", flag, "x", "k", "--", "true"])).wait(BOUND);
        assert_eq!(ended.code(), Some(64), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("{flag} has no meaning with --local")), "{}", ended.stderr);
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let local = format!("--local={}", dir.path().display());
    let mut command = consul_lock_at("ftp://nowhere");
    command.args(["run", &local, "conn", "--", "echo", "held"]);
    let ended = Running::start(&mut command).wait(BOUND);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "held\n"), "{}", ended.stderr);
}
