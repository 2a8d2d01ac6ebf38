//! A server process that never outlives the test process. PR_SET_PDEATHSIG would follow the thread that started it, and
//! every test is a thread; so a small shell stands between, reads a pipe that only the test process holds, and at the
//! pipe's end kills the server and removes its folder. The kernel closes the pipe whatever the test process dies of.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::is_alive;

/// The shell's whole task. Until it comes to `wait`, the server's pid stays its own, as a zombie at least.
const SCRIPT: &str = r#"
dir=$1 log=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 &
pid=$!
echo $pid
keep=
read -r keep
kill -9 $pid
wait $pid
[ "$keep" = keep ] || rm -rf "$dir"
"#;

/// A process under guard, and the folder that goes with it.
pub struct Ward {
    shell: Child,
    pipe: Option<ChildStdin>,
    pid: Pid,
}

impl Ward {
    /// Starts the command, its output appended to `log`. `dir` is removed with it.
    pub fn start(dir: &Path, log: &Path, command: &[String]) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .args([dir, log])
            .args(command)
            // Consul reads these too; the tests say everything in its configuration.
            .env_remove("CONSUL_HTTP_ADDR")
            .env_remove("CONSUL_HTTP_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A Ctrl-C at the terminal, or a test runner that kills the test's whole group, must leave it its work.
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("stdout is a pipe")).read_line(&mut line).expect("sh says the pid");
        let pid = Pid::from_raw(line.trim().parse().expect("sh says the pid"));
        let pipe = shell.stdin.take();
        Self { shell, pipe, pid }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether the process runs, or is stopped.
    pub fn is_alive(&self) -> bool {
        is_alive(self.pid.as_raw())
    }

    /// Sends it a signal; to one that has died it goes nowhere.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap_or_else(|error| panic!("cannot send {signal} to {}: {error}", self.pid));
    }

    /// Kills the process for good and leaves its folder; returns when it is gone.
    pub fn end_keeping_folder(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"keep\n");
        }
        let _ = self.shell.wait();
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}
