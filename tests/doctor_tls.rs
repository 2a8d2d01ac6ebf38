//! `consul-lock doctor` over HTTPS: whose certificate it is, until when, and why it is not taken.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::agent::{Agent, Options};
use support::consul_lock_at;
use support::findings::{doctor, expect, expect_documented, expect_end};
use support::tls::{Certificates, Tls};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are UTF-8")
}

#[track_caller]
fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(dir).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run openssl ({error}): apt-get install openssl"));
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate like this one, for the same key and by the same authority, that is good between two moments.
fn renew(certificates: &Certificates, cert: &Path, key: &Path, from: SystemTime, until: SystemTime) -> PathBuf {
    let dir =
        tempfile::Builder::new().prefix("ca").tempdir_in(cert.parent().expect("a folder")).expect("written").keep();
    let settings = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nserial = serial\npolicy = any\ndefault_md = sha256\n\
                    new_certs_dir = .\nrand_serial = yes\n[any]\ncommonName = supplied\n";
    fs::write(dir.join("ca.cnf"), settings).expect("written");
    fs::write(dir.join("names"), "subjectAltName = DNS:server.dc1.consul, DNS:localhost, IP:127.0.0.1\n")
        .expect("written");
    fs::write(dir.join("index"), "").expect("written");
    let date = |time| {
        let text = humantime::format_rfc3339_seconds(time).to_string();
        text.chars().filter(char::is_ascii_digit).chain(['Z']).collect::<String>()
    };
    openssl(&dir, &["req", "-new", "-key", text(key), "-subj", "/CN=server.dc1.consul", "-out", "request.pem"]);
    let authority_key = certificates.ca.with_file_name("consul-agent-ca-key.pem");
    let by = ["ca", "-batch", "-config", "ca.cnf", "-cert", text(&certificates.ca), "-keyfile", text(&authority_key)];
    let what = ["-in", "request.pem", "-extfile", "names", "-notext", "-out", "cert.pem"];
    let (from, until) = (date(from), date(until));
    openssl(&dir, &[&by[..], &what, &["-startdate", &from, "-enddate", &until]].concat());
    dir.join("cert.pem")
}

#[test]
fn a_certificate_that_is_not_taken_is_shown_with_its_mend() {
    let mut agent = Agent::start(Options { tls: Tls::Server, ..Options::default() });
    let certificates = agent.certificates().clone();
    let (ca, addr) = (text(&certificates.ca), agent.https_addr());
    let now = SystemTime::now();

    let ended = doctor(&mut consul_lock_at(&addr), &["--ca-file", ca, "-v", "k"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);
    expect(&ended, "tls", "ok", "server.dc1.consul, signed by Consul Agent CA", "presented: server.dc1.consul");
    let ended = doctor(&mut consul_lock_at(&addr), &["--ca-file", ca, "--json"]);
    let object: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let leaf = &object["checks"][4]["data"]["chain"][0];
    assert_eq!(leaf["names"].as_array().map(|names| names.contains(&"localhost".into())), Some(true), "{object}");

    let ended = doctor(&mut consul_lock_at(&addr), &["k"]);
    expect(&ended, "tls", "fail", "UnknownIssuer", "which calls itself \"Consul Agent CA");
    expect_end(&ended, "tls", 78);
    let ended = doctor(&mut consul_lock_at(&agent.https_addr_without_name()), &["--ca-file", ca]);
    expect(
        &ended,
        "tls",
        "fail",
        "not valid for name",
        "--tls-server-name NAME (CONSUL_TLS_SERVER_NAME), one of: server.dc1.consul",
    );
    let ended = doctor(consul_lock_at(&addr).env("CONSUL_HTTP_SSL_VERIFY", "false"), &[]);
    expect(&ended, "tls", "warn", "not verified, so that anybody could be there", "unset CONSUL_HTTP_SSL_VERIFY");
    let ended = doctor(&mut consul_lock_at(&addr.replace("https", "http")), &[]);
    expect(&ended, "connection", "fail", "HTTP request to an HTTPS server", "write https:// in front");
    expect_end(&ended, "connection", 78);
    let ended = doctor(&mut consul_lock_at(&format!("https://{}", agent.http_addr())), &["--ca-file", ca]);
    expect(&ended, "tls", "fail", "", "it seems to speak plain HTTP");
    expect_end(&ended, "tls", 78);

    // The same server with a certificate that ends soon, one that has ended, and one that has yet to begin.
    let (cert, key) = (certificates.server_cert.as_path(), certificates.server_key.as_path());
    let mut serve = |from, until| {
        fs::copy(renew(&certificates, cert, key, from, until), cert).expect("copied");
        agent.restart();
        doctor(&mut consul_lock_at(&addr), &["--ca-file", ca, "cron/backup"])
    };
    let ended = serve(now - DAY, now + 10 * DAY);
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);
    expect(
        &ended,
        "tls",
        "warn",
        "the server's certificate expires soon: server.dc1.consul",
        "renew the server's certificate",
    );
    let ended = serve(now - 10 * DAY, now - 3 * DAY);
    expect(&ended, "tls", "fail", "the server's certificate has expired", "renew it where the server runs");
    assert!(ended.stdout.contains("(3 days ago)"), "{}", ended.stdout);
    expect_end(&ended, "tls", 78);
    expect_documented("An expired certificate", &ended);
    let ended = serve(now + 3 * DAY, now + 90 * DAY);
    expect(&ended, "tls", "fail", "not valid yet", "set this machine's clock right");
    agent.expect_nothing_left();
}

#[test]
fn a_certificate_of_ours_that_is_wanted_or_has_expired_is_told() {
    let agent = Agent::start(Options { tls: Tls::Mutual, ..Options::default() });
    let certificates = agent.certificates();
    let (ca, addr, now) = (text(&certificates.ca), agent.https_addr(), SystemTime::now());
    let key = text(&certificates.client_key);
    let with = |cert: &Path| {
        doctor(&mut consul_lock_at(&addr), &["--ca-file", ca, "--client-cert", text(cert), "--client-key", key])
    };
    let ended = with(&certificates.client_cert);
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);

    let ended = doctor(&mut consul_lock_at(&addr), &["--ca-file", ca]);
    expect(&ended, "tls", "fail", "", "it wants a client certificate that it trusts (CONSUL_CLIENT_CERT");
    expect_end(&ended, "tls", 78);
    let renewed =
        |until| renew(certificates, &certificates.client_cert, &certificates.client_key, now - 10 * DAY, until);
    let ended = with(&renewed(now - DAY));
    expect(&ended, "tls", "fail", "our own certificate has expired", "renew it (`consul tls cert create -client`)");
    expect_end(&ended, "tls", 78);
    let ended = with(&renewed(now + DAY));
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);
    expect(&ended, "tls", "warn", "our own certificate expires soon", "renew our own certificate");
    agent.expect_nothing_left();
}
