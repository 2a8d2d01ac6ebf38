//! A child process under test: what it says is collected while it runs, it can be signalled and waited for with a
//! bound, and its whole tree goes with it.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{MARK, eventually, kill_survivors, marker, survivors};

/// A running child. Dropping it kills it and everything with its mark.
pub struct Running {
    child: Child,
    mark: String,
    stdout: Capture,
    stderr: Capture,
}

/// How a child ended, and all it said until then.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The exit code; none if it died of a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The number of the signal that it died of.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

impl Running {
    /// Starts the command with a mark of its own; stdin is /dev/null unless the command is given to
    /// [`Running::start_with_stdin`].
    pub fn start(command: &mut Command) -> Self {
        Self::start_with_stdin(command, Stdio::null())
    }

    /// As [`Running::start`], with a standard input.
    pub fn start_with_stdin(command: &mut Command, stdin: impl Into<Stdio>) -> Self {
        Self::spawn(command.stdin(stdin).stderr(Stdio::piped()))
    }

    /// As [`Running::start`], with a standard error that is not collected.
    pub fn start_with_stderr(command: &mut Command, stderr: impl Into<Stdio>) -> Self {
        Self::spawn(command.stdin(Stdio::null()).stderr(stderr))
    }

    fn spawn(command: &mut Command) -> Self {
        let mark = marker();
        command.env(MARK, &mark).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = Capture::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = child.stderr.take().map_or_else(|| Capture::of(std::io::empty()), Capture::of);
        Self { child, mark, stdout, stderr }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid is an i32"))
    }

    /// The value of [`MARK`] in this run.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The pipe to its standard input, if it was started with one; dropping it is the end of the input.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until stdout contains `text`, and panics with both outputs when it does not within `bound`.
    #[track_caller]
    pub fn expect_stdout(&self, text: &str, bound: Duration) {
        self.expect(text, bound, &self.stdout);
    }

    /// Waits until stderr contains `text`, and panics with both outputs when it does not within `bound`.
    #[track_caller]
    pub fn expect_stderr(&self, text: &str, bound: Duration) {
        self.expect(text, bound, &self.stderr);
    }

    #[track_caller]
    fn expect(&self, text: &str, bound: Duration, capture: &Capture) {
        let start = Instant::now();
        while !capture.text().contains(text) {
            assert!(start.elapsed() <= bound, "not within {bound:?}: {text:?}\n{}", self.said());
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn said(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }

    /// Sends a signal to this one process. It must not have been waited for.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("cannot send {signal} to {}: {error}", self.pid()));
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for the end and panics with both outputs when it does not come within `bound`. Descendants may hold the
    /// outputs open for longer: what they write more than 300 ms later is not in the answer.
    #[track_caller]
    pub fn wait(&mut self, bound: Duration) -> Ended {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.try_wait() {
                break status;
            }
            assert!(start.elapsed() <= bound, "still running after {bound:?}\n{}", self.said());
            thread::sleep(Duration::from_millis(1));
        };
        let end = Instant::now();
        while !(self.stdout.is_complete() && self.stderr.is_complete()) && end.elapsed() < Duration::from_millis(300) {
            thread::sleep(Duration::from_millis(1));
        }
        Ended { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Every process of this run that is alive, the child itself included.
    pub fn survivors(&self) -> Vec<(i32, String)> {
        survivors(&self.mark)
    }

    /// Waits until no process of this run is alive, and panics with their names when some are after `bound`.
    #[track_caller]
    pub fn expect_no_survivors(&self, bound: Duration) {
        let start = Instant::now();
        loop {
            let left = self.survivors();
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() <= bound, "alive after {bound:?}: {left:?}\n{}", self.said());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The pid of the first process of this run with this name, once there is one.
    #[track_caller]
    pub fn expect_process(&self, name: &str, bound: Duration) -> Pid {
        let what = format!("a process named {name} in the run");
        let found = eventually(&what, bound, || self.survivors().into_iter().find(|(_, comm)| comm == name));
        Pid::from_raw(found.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.said());
        }
        // The child first: a keeper that lives might start what is looked for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        kill_survivors(&self.mark);
    }
}

/// An output, read to its end by a thread.
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Capture {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                kept.lock().expect("no reader panics").extend_from_slice(&chunk[..length]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no reader panics")).into_owned()
    }

    fn is_complete(&self) -> bool {
        self.reader.is_finished()
    }
}
