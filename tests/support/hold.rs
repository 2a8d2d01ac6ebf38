//! A lock that is held while something goes wrong, and a command that keeps a diary.

use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::time::{ClockId, clock_gettime};

use super::consul_lock_at;
use super::running::{Ended, Running};

/// How long a command may take to start.
const START: Duration = Duration::from_secs(30);

/// The moment that the shell reads as `$t`, in seconds since the machine started, as [`now`].
const LOOK: &str = "read t _ </proc/uptime";

/// A shell script that writes down when it is alive, 20 times a second, and when SIGTERM comes; it ends by itself only
/// after `life`. An `obedient` one ends at SIGTERM, with code 9.
pub fn diary(life: Duration, obedient: bool) -> String {
    let end = if obedient { "; exit 9" } else { "" };
    let turns = life.as_millis() / 50;
    format!(
        "trap '{LOOK}; echo \"TERM $t\"{end}' TERM; {LOOK}; echo \"started $t\"; i=0
         while [ $i -lt {turns} ]; do {LOOK}; echo \"alive $t\"; sleep 0.05; i=$((i + 1)); done; echo complete"
    )
}

/// A [`diary`] that goes on until somebody ends it.
pub fn endless(obedient: bool) -> String {
    diary(Duration::from_secs(600), obedient)
}

/// Starts `consul-lock run FLAGS KEY -c SCRIPT` at a Consul and returns when the script has said that it has `started`.
#[track_caller]
pub fn hold(addr: &str, flags: &[&str], key: &str, script: &str) -> Running {
    let run = Running::start(consul_lock_at(addr).arg("run").args(flags).arg(key).args(["-c", script]));
    run.expect_stdout("started", START);
    run
}

/// The moment, in seconds since the machine started; /proc/uptime is the same to a hundredth.
pub fn now() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the clock exists");
    Duration::from(time).as_secs_f64()
}

/// When a diary says this, for the last time.
pub fn last(diary: &str, word: &str) -> Option<f64> {
    let mut lines = diary.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse().ok());
    lines.next_back()
}

impl Ended {
    /// When SIGTERM came, by the diary.
    pub fn term_at(&self) -> Option<f64> {
        last(&self.stdout, "TERM")
    }

    /// The last sign of life in the diary.
    #[track_caller]
    pub fn last_alive(&self) -> f64 {
        last(&self.stdout, "alive").unwrap_or_else(|| panic!("never alive: {self:?}"))
    }
}

impl Running {
    /// The processes of the run that are neither keeper nor guard.
    pub fn tree(&self) -> Vec<(i32, String)> {
        let ours = |(_, name): &(i32, String)| matches!(name.as_str(), "consul-lock" | "lock-guard");
        self.survivors().into_iter().filter(|process| !ours(process)).collect()
    }
}

/// A pipe that takes not one byte more. It stays so while the reader is kept.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    let size = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a pipe's size can be set");
    let size = usize::try_from(size).expect("a size");
    writer.write_all(&vec![b'.'; size]).expect("it fits");
    (reader, writer)
}
