//! HTTPS: whom we trust, whom we show ourselves as, and what is said when the two ends do not agree. Certificates are
//! made by `consul tls`, and in the other formats by openssl.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::agent::{Agent, Options};
use support::running::{Ended, Running};
use support::tls::Tls;
use support::{consul_lock, consul_lock_at, unique_key};

const BOUND: Duration = Duration::from_secs(60);

fn agent(tls: Tls) -> Agent {
    Agent::start(Options { tls, ..Options::default() })
}

#[track_caller]
fn run(command: &mut Command, flags: &[&str]) -> Ended {
    command.args(["run", "--retry-for", "1s"]).args(flags).args([&unique_key("tls"), "--", "echo", "held"]);
    Running::start(command).wait(BOUND)
}

#[track_caller]
fn expect_held(command: &mut Command, flags: &[&str]) {
    let ended = run(command, flags);
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "held\n", ""), "{flags:?}");
}

/// Expects that nothing was held: what was said, which is never a panic's text.
#[track_caller]
fn expect_refused(command: &mut Command, flags: &[&str], code: i32) -> String {
    let ended = run(command, flags);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(code), ""), "{flags:?} {}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended.stderr
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are UTF-8")
}

#[track_caller]
fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(dir).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run openssl ({error}): apt-get install openssl"));
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An RSA key in PKCS#1 (`rsa.pem`) and two certificates for it from the agent's own authority: one as they should be
/// (`cert.pem`), one of X.509 version 1 (`v1.pem`).
fn rsa_pair(agent: &Agent) -> PathBuf {
    let dir = agent.dir().join("rsa");
    fs::create_dir(&dir).expect("the agent's folder can be written");
    let authority = &agent.certificates().ca;
    let authority_key = authority.with_file_name("consul-agent-ca-key.pem");
    fs::write(dir.join("extensions"), "basicConstraints = CA:FALSE\nextendedKeyUsage = clientAuth\n").expect("written");
    openssl(&dir, &["genrsa", "-out", "any.pem", "2048"]);
    openssl(&dir, &["rsa", "-in", "any.pem", "-traditional", "-out", "rsa.pem"]);
    openssl(&dir, &["req", "-new", "-key", "rsa.pem", "-subj", "/CN=client", "-out", "request.pem"]);
    let sign = ["x509", "-req", "-in", "request.pem", "-CA", text(authority), "-CAkey", text(&authority_key)];
    let serial = ["-days", "2", "-set_serial"];
    openssl(&dir, &[&sign[..], &serial, &["11", "-extfile", "extensions", "-out", "cert.pem"]].concat());
    openssl(&dir, &[&sign[..], &serial, &["12", "-out", "v1.pem"]].concat());
    dir
}

#[test]
fn a_server_is_trusted_by_ca_file_or_ca_folder_by_flag_or_variable() {
    let agent = agent(Tls::Server);
    let ca = &agent.certificates().ca;
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::copy(ca, folder.path().join("our-ca.pem")).expect("copied");
    fs::write(folder.path().join("README"), "no certificate").expect("written");
    std::os::unix::fs::symlink("nowhere", folder.path().join("dangling.pem")).expect("linked");

    let addr = agent.https_addr();
    expect_held(&mut consul_lock_at(&addr), &["--ca-file", text(ca)]);
    expect_held(&mut consul_lock_at(&addr), &["--ca-path", text(folder.path())]);
    expect_held(consul_lock_at(&addr).env("CONSUL_CACERT", ca), &[]);
    expect_held(consul_lock_at(&addr).env("CONSUL_CAPATH", folder.path()), &[]);
    // The flag wins over both variables, and an empty variable is unset.
    let wrong = [("CONSUL_CACERT", "/nonexistent"), ("CONSUL_CAPATH", "/nonexistent")];
    expect_held(consul_lock_at(&addr).envs(wrong), &["--ca-file", text(ca)]);
    expect_held(consul_lock_at(&addr).env("CONSUL_CACERT", "").env("CONSUL_CAPATH", folder.path()), &[]);
    // What the machine trusts, where SSL_CERT_FILE says that is.
    expect_held(consul_lock_at(&addr).env("SSL_CERT_FILE", ca), &[]);
    // The variable makes an address without a scheme, or with http://, one with TLS.
    let bare = addr.trim_start_matches("https://");
    for addr in [bare.to_owned(), format!("http://{bare}")] {
        expect_held(consul_lock_at(&addr).env("CONSUL_HTTP_SSL", "true"), &["--ca-file", text(ca)]);
    }
    assert!(agent.sessions().is_empty());
}

#[test]
fn an_unknown_authority_is_refused_unless_verification_is_off() {
    let agent = agent(Tls::Server);
    let addr = agent.https_addr();
    let said = expect_refused(&mut consul_lock_at(&addr), &[], 78);
    assert!(said.contains(&format!("no TLS with {addr} (CONSUL_HTTP_ADDR)")), "{said}");
    assert!(said.contains("name the CA that signed its certificate (CONSUL_CACERT)"), "{said}");
    for no in ["false", "0"] {
        expect_held(consul_lock_at(&addr).env("CONSUL_HTTP_SSL_VERIFY", no), &[]);
    }
    expect_refused(consul_lock_at(&addr).env("CONSUL_HTTP_SSL_VERIFY", ""), &[], 78);
    expect_refused(consul_lock_at(&addr).env("CONSUL_HTTP_SSL_VERIFY", "true"), &[], 78);
    let said = expect_refused(consul_lock_at(&addr).env("CONSUL_HTTP_SSL_VERIFY", "no"), &[], 64);
    assert!(said.contains("CONSUL_HTTP_SSL_VERIFY is \"no\": write true or false"), "{said}");
    let said = expect_refused(consul_lock_at(&addr).env("CONSUL_HTTP_SSL", "yes"), &[], 64);
    assert!(said.contains("CONSUL_HTTP_SSL is \"yes\": write true or false"), "{said}");
    assert!(agent.sessions().is_empty());
}

#[test]
fn the_certificate_must_carry_the_hosts_name_or_the_one_that_was_given() {
    let agent = agent(Tls::Server);
    let ca = text(&agent.certificates().ca).to_owned();
    let unnamed = agent.https_addr_without_name();
    let said = expect_refused(&mut consul_lock_at(&unnamed), &["--ca-file", &ca], 78);
    assert!(said.contains("CONSUL_TLS_SERVER_NAME"), "{said}");

    let name = "server.dc1.consul";
    expect_held(&mut consul_lock_at(&unnamed), &["--ca-file", &ca, "--tls-server-name", name]);
    expect_held(consul_lock_at(&unnamed).env("CONSUL_TLS_SERVER_NAME", name), &["--ca-file", &ca]);
    let wrong = ["--ca-file", &ca, "--tls-server-name", "server.dc9.consul"];
    let said = expect_refused(consul_lock_at(&unnamed).env("CONSUL_TLS_SERVER_NAME", name), &wrong, 78);
    assert!(said.contains("name the server as its certificate does"), "{said}");
    // A right address is no help to a wrong name.
    expect_refused(&mut consul_lock_at(&agent.https_addr()), &wrong, 78);
    let said = expect_refused(&mut consul_lock_at(&unnamed), &["--tls-server-name", "a/b"], 64);
    assert!(said.contains("--tls-server-name, \"a/b\", is no host name"), "{said}");
    assert!(agent.sessions().is_empty());
}

#[test]
fn a_client_shows_its_certificate_with_a_key_in_any_of_the_three_formats() {
    let agent = agent(Tls::Mutual);
    let addr = agent.https_addr();
    let certificates = agent.certificates();
    let [ca, cert, sec1] = [&certificates.ca, &certificates.client_cert, &certificates.client_key].map(|p| text(p));
    let begins = |path: &str, with: &str| fs::read_to_string(path).expect("readable").starts_with(with);
    assert!(begins(sec1, "-----BEGIN EC PRIVATE KEY"));
    expect_held(&mut consul_lock_at(&addr), &["--ca-file", ca, "--client-cert", cert, "--client-key", sec1]);
    let variables = [("CONSUL_CACERT", ca), ("CONSUL_CLIENT_CERT", cert), ("CONSUL_CLIENT_KEY", sec1)];
    expect_held(consul_lock_at(&addr).envs(variables), &[]);

    let pkcs8 = agent.dir().join("pkcs8.pem");
    openssl(agent.dir(), &["pkcs8", "-topk8", "-nocrypt", "-in", sec1, "-out", "pkcs8.pem"]);
    assert!(begins(text(&pkcs8), "-----BEGIN PRIVATE KEY"));
    expect_held(&mut consul_lock_at(&addr), &["--ca-file", ca, "--client-cert", cert, "--client-key", text(&pkcs8)]);

    let rsa = rsa_pair(&agent);
    let [cert, pkcs1] = ["cert.pem", "rsa.pem"].map(|name| rsa.join(name));
    assert!(begins(text(&pkcs1), "-----BEGIN RSA PRIVATE KEY"));
    expect_held(
        &mut consul_lock_at(&addr),
        &["--ca-file", ca, "--client-cert", text(&cert), "--client-key", text(&pkcs1)],
    );
    assert!(agent.sessions().is_empty());

    let said = expect_refused(&mut consul_lock_at(&addr), &["--ca-file", ca], 78);
    assert!(said.contains("it wants a client certificate that it trusts (CONSUL_CLIENT_CERT"), "{said}");
}

#[test]
fn a_pair_that_does_not_fit_is_a_clear_error_and_no_panic() {
    let agent = agent(Tls::Mutual);
    let addr = agent.https_addr();
    let certificates = agent.certificates();
    let rsa = rsa_pair(&agent);
    let [ca, cert, key, server_key] =
        [&certificates.ca, &certificates.client_cert, &certificates.client_key, &certificates.server_key]
            .map(|p| text(p));
    let [v1, rsa_key] = ["v1.pem", "rsa.pem"].map(|name| text(&rsa.join(name)).to_owned());
    openssl(agent.dir(), &["pkcs8", "-topk8", "-in", key, "-passout", "pass:word", "-out", "encrypted.pem"]);
    let encrypted = text(&agent.dir().join("encrypted.pem")).to_owned();
    let cases = [
        (cert, server_key, server_key, "it does not belong to the client certificate"),
        (cert, rsa_key.as_str(), rsa_key.as_str(), "it does not belong to the client certificate"),
        (&v1, &rsa_key, &v1, "it is of X.509 version 1"),
        (cert, &encrypted, &encrypted, "holds no private key in PEM"),
        (cert, cert, cert, "holds no private key in PEM"),
        (key, key, key, "holds no certificate in PEM"),
        ("/nonexistent/cert", key, "/nonexistent/cert", "cannot read"),
        (cert, "/nonexistent/key", "/nonexistent/key", "cannot read"),
    ];
    for (cert, key, named, message) in cases {
        let flags = ["--ca-file", ca, "--client-cert", cert, "--client-key", key];
        let said = expect_refused(&mut consul_lock_at(&addr), &flags, 78);
        assert!(said.contains(named) && said.contains(message), "{said}");
    }
    for (half, other) in [("--client-cert", "--client-key"), ("--client-key", "--client-cert")] {
        let said = expect_refused(&mut consul_lock_at(&addr), &["--ca-file", ca, half, cert], 64);
        assert!(said.contains(&format!("{half} without {other}")), "{said}");
    }
    assert!(agent.sessions().is_empty());
}

#[test]
fn an_unreadable_authority_is_an_error_of_configuration_before_anything_is_asked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let no_pem = folder.path().join("no.pem");
    fs::write(&no_pem, "-----BEGIN NOTHING-----\n").expect("written");
    // Nobody listens there, which would be 69.
    let addr = "https://127.0.0.1:1";
    let cases = [
        ("--ca-file", "CONSUL_CACERT", "/nonexistent/ca", "cannot read"),
        ("--ca-file", "CONSUL_CACERT", text(&no_pem), "holds no certificate in PEM"),
        ("--ca-file", "CONSUL_CACERT", text(folder.path()), "cannot read"),
        ("--ca-path", "CONSUL_CAPATH", "/nonexistent/folder", "cannot read"),
        ("--ca-path", "CONSUL_CAPATH", text(folder.path()), "holds no certificate in PEM"),
    ];
    for (flag, variable, path, message) in cases {
        let said = expect_refused(&mut consul_lock_at(addr), &[flag, path], 78);
        assert!(said.contains(&format!("{path} ({flag})")) && said.contains(message), "{said}");
        let said = expect_refused(consul_lock_at(addr).env(variable, path), &[], 78);
        assert!(said.contains(&format!("{path} ({variable})")) && said.contains(message), "{said}");
    }
    let said = expect_refused(&mut consul_lock_at(addr), &["--ca-file", "a", "--ca-path", "b"], 64);
    assert!(said.contains("--ca-file and --ca-path together"), "{said}");
}

#[test]
fn tls_and_plain_ports_are_told_apart() {
    let agent = agent(Tls::Server);
    let https = agent.https_addr();
    let plain_to_tls = https.replace("https://", "http://");
    let said = expect_refused(&mut consul_lock_at(&plain_to_tls), &[], 78);
    assert!(said.contains("write https:// in front of the address"), "{said}");
    let tls_to_plain = format!("https://{}", agent.http_addr());
    let said = expect_refused(&mut consul_lock_at(&tls_to_plain), &["--ca-file", text(&agent.certificates().ca)], 78);
    assert!(said.contains("it seems to speak plain HTTP"), "{said}");

    let said =
        expect_refused(consul_lock().env("CONSUL_HTTP_SSL", "1"), &["--http-addr", "unix:///run/consul.sock"], 64);
    assert!(said.contains("is a unix socket, which speaks no TLS"), "{said}");
    for flag in ["--ca-file", "--ca-path", "--client-cert", "--client-key", "--tls-server-name"] {
        let said = expect_refused(&mut consul_lock_at(&agent.http_addr()), &[flag, "x"], 64);
        assert!(said.contains(&format!("{flag} needs TLS")), "{said}");
    }
    // The variables are for all commands of a shell, whatever address the next one uses.
    let variables = ["CONSUL_CACERT", "CONSUL_CAPATH", "CONSUL_CLIENT_CERT", "CONSUL_TLS_SERVER_NAME"];
    expect_held(consul_lock_at(&agent.http_addr()).envs(variables.map(|name| (name, "/nonexistent"))), &[]);
}
