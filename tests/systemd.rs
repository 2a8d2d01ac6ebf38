//! As a service of systemd's with `Type=notify`: a socket in its place hears what it would.

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use support::agent::Agent;
use support::running::Running;
use support::{consul_lock, consul_lock_on, hold, unique_key};

const SOON: Duration = Duration::from_secs(20);

struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("a bound");
        Self { socket, folder }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("notify")
    }

    #[track_caller]
    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

#[test]
fn a_service_is_ready_when_the_lock_is_held_and_the_command_runs() {
    let (agent, manager, key) = (Agent::plain(), Manager::new(), unique_key("systemd"));
    let mut holder = hold(&agent, &[], &key);
    let mut service = consul_lock_on(&agent);
    service.args(["run", &key, "--", "sleep", "1000"]).env("NOTIFY_SOCKET", manager.path());
    let mut service = Running::start(&mut service);
    let waiting = manager.hears();
    assert!(waiting.starts_with(&format!("STATUS=waiting for {key}, held by ")), "{waiting}");
    assert!(!waiting.contains("READY"), "{waiting}");
    holder.signal(Signal::SIGTERM);
    holder.wait(SOON);
    assert_eq!(manager.hears(), format!("STATUS=holding {key}\nREADY=1\n"));
    service.signal(Signal::SIGTERM);
    assert_eq!(manager.hears(), format!("STATUS=releasing {key}\nSTOPPING=1\n"));
    assert_eq!(service.wait(SOON).signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn a_manager_that_does_not_listen_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let local = format!("--local={}", folder.path().display());
    let gone = folder.path().join("no-such-socket").display().to_string();
    // One that is full blocks whoever writes to it.
    let full = UnixDatagram::bind(folder.path().join("full")).expect("a socket");
    let writer = UnixDatagram::unbound().expect("a socket");
    writer.set_nonblocking(true).expect("set");
    while writer.send_to(&[0; 64], folder.path().join("full")).is_ok() {}
    for socket in [gone, folder.path().join("full").display().to_string(), String::new()] {
        let mut run = consul_lock();
        run.args(["run", &local, "job", "--", "sh", "-c", "exit 3"]).env("NOTIFY_SOCKET", &socket);
        let ended = Running::start(&mut run).wait(SOON);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(3), ""), "{socket}");
    }
    drop(full);
}
