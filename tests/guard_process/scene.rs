//! A keeper, its guard and a command, as a test sees them from outside.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::guard::Report;
use crate::keeper::{MARK, Order, ROLE, Role, Said};
use crate::sys::{self, Reaped};

/// No event of a test takes this long.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Scene {
    keeper: Child,
    said: Receiver<Said>,
    errors: Option<JoinHandle<String>>,
    guard: Pid,
    pub mark: String,
    pub heard: Vec<Report>,
}

/// What a scene is made of.
pub struct Cast {
    role: Role,
    command: Command,
}

/// A cast with a grace of 300 ms.
pub fn cast(argv: &[impl AsRef<str>]) -> Cast {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mark = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let role = Role {
        argv: argv.iter().map(|arg| arg.as_ref().to_owned()).collect(),
        grace: Duration::from_millis(300),
        background: "kill".to_owned(),
        first_signal: Signal::SIGTERM as i32,
        mark,
        lock: None,
    };
    Cast { role, command: Command::new(std::env::current_exe().expect("our own path")) }
}

impl Cast {
    pub fn grace(mut self, grace: Duration) -> Self {
        self.role.grace = grace;
        self
    }

    pub fn background(mut self, policy: &str) -> Self {
        self.role.background = policy.to_owned();
        self
    }

    pub fn lock(mut self, path: &str) -> Self {
        self.role.lock = Some(path.to_owned());
        self
    }

    /// Another copy of this program as the keeper.
    pub fn program(mut self, path: &str) -> Self {
        self.command = Command::new(path);
        self
    }

    /// Starts the keeper from a shell that does something first, and then becomes it.
    pub fn through(mut self, script: &str) -> Self {
        let program = self.command.get_program().to_owned();
        self.command = Command::new("sh");
        self.command.args(["-c", &format!("{script}\nexec \"$0\"")]).arg(program);
        self
    }

    /// Changes how the keeper is started.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts the keeper, which forks the guard and waits.
    pub fn set(mut self) -> Scene {
        let role = serde_json::to_string(&self.role).expect("JSON");
        let mut keeper = self
            .command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env(ROLE, role)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a keeper");
        let (sender, said) = channel();
        let lines = BufReader::new(keeper.stdout.take().expect("its output")).lines();
        thread::spawn(move || {
            for said in lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()) {
                let _ = sender.send(said);
            }
        });
        let mut errors = keeper.stderr.take().expect("its errors");
        let errors = Some(thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        }));
        let Ok(Said::Guard(guard)) = said.recv_timeout(LONG) else { panic!("the keeper did not start") };
        Scene { keeper, said, errors, guard: Pid::from_raw(guard), mark: self.role.mark, heard: Vec::new() }
    }

    /// Starts everything and waits until the command runs.
    pub fn start(self, deadline: Option<Moment>) -> Scene {
        let mut scene = self.set();
        scene.order(&Order::Prepare);
        scene.order(&Order::Start(deadline));
        scene.hear(|report| matches!(report, Report::Started { .. }));
        scene
    }
}

impl Scene {
    pub fn order(&mut self, order: &Order) {
        let line = serde_json::to_string(order).expect("JSON");
        writeln!(self.keeper.stdin.as_ref().expect("its input"), "{line}").expect("a keeper that listens");
    }

    pub fn keeper(&self) -> Pid {
        Pid::from_raw(self.keeper.id().cast_signed())
    }

    pub fn guard(&self) -> Pid {
        self.guard
    }

    /// The command's pid.
    pub fn command(&self) -> Pid {
        let started = self.heard.iter().find_map(|report| match report {
            Report::Started { pid } => Some(*pid),
            _ => None,
        });
        Pid::from_raw(started.expect("a command that was started"))
    }

    pub fn kill_keeper(&self, signal: Signal) {
        kill(self.keeper(), signal).expect("a keeper");
    }

    pub fn kill_guard(&self, signal: Signal) {
        kill(self.guard, signal).expect("a guard");
    }

    pub fn kill_job(&self, signal: Signal) {
        killpg(self.keeper(), signal).expect("a job");
    }

    /// The next thing that the keeper says.
    pub fn next(&mut self) -> Said {
        let said = self.said.recv_timeout(LONG).unwrap_or_else(|_| panic!("silence after {:?}", self.heard));
        if let Said::Heard(report) = &said {
            self.heard.push(report.clone());
        }
        said
    }

    /// Waits for a report.
    pub fn hear(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        loop {
            match self.next() {
                Said::Heard(report) if wanted(&report) => return report,
                Said::Heard(_) | Said::Guard(_) => {}
                Said::TookOver(_) => panic!("the keeper took over after {:?}", self.heard),
            }
        }
    }

    /// Waits for the proof that all are gone.
    pub fn hear_gone(&mut self) -> Moment {
        match self.hear(|report| matches!(report, Report::Gone { .. })) {
            Report::Gone { at } => at,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the tree has at least this many processes.
    pub fn await_size(&self, size: usize) {
        await_that("the tree to be complete", || marked(&self.mark).len() >= size);
    }

    /// Waits until no process of the tree is left, and returns when that was first seen.
    pub fn await_death(&self) -> Moment {
        await_that("the tree's death", || marked(&self.mark).is_empty());
        Moment::now()
    }

    /// Waits for the end of keeper and guard, and returns what they wrote to descriptor 2. Fails if any process is left: this
    /// program is a subreaper, so whatever escaped has fallen to it.
    pub fn end(mut self) -> String {
        // Held open until here, as a keeper's input would be.
        drop(self.keeper.stdin.take());
        let errors = self.errors.take().expect("its errors");
        await_that("the end of keeper and guard", || {
            loop {
                match sys::reap() {
                    Reaped::Child(..) => {}
                    Reaped::AllAlive => return false,
                    Reaped::NoChild => return true,
                }
            }
        });
        assert_eq!(marked(&self.mark), Vec::<i32>::new(), "processes of the tree are left");
        errors.join().expect("a reader")
    }
}

/// A test that fails leaves nobody behind, or the next would fail with it.
impl Drop for Scene {
    fn drop(&mut self) {
        while thread::panicking() && sys::reap() != Reaped::NoChild {
            let tree = marked(&self.mark).into_iter().map(Pid::from_raw);
            for pid in tree.chain([self.keeper(), self.guard]) {
                let _ = kill(pid, Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A file for a command to write to, gone after the test.
pub struct Notes(PathBuf);

impl Notes {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("guard-test-{}-{name}", std::process::id())))
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    pub fn read(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    pub fn await_line(&self, line: &str) {
        await_that(line, || self.read().lines().any(|found| found == line));
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Waits for a condition, for a bounded time.
pub fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Moment::now();
    while !holds() {
        assert!(Moment::now().since(begun) < LONG, "waited in vain for {what}");
        thread::sleep(Duration::from_micros(500));
    }
}

/// The living processes with this mark in their environment.
pub fn marked(mark: &str) -> Vec<i32> {
    let entry = format!("{MARK}={mark}");
    let has_mark = |environ: Vec<u8>| environ.split(|&byte| byte == 0).any(|variable| variable == entry.as_bytes());
    // A first thread that has exited has no environment any more; the others have.
    let is_marked = |pid: &i32| {
        has_mark(fs::read(format!("/proc/{pid}/environ")).unwrap_or_default())
            || numbered(&format!("/proc/{pid}/task"))
                .filter(|thread| thread != pid)
                .any(|thread| fs::read(format!("/proc/{pid}/task/{thread}/environ")).is_ok_and(has_mark))
    };
    numbered("/proc").filter(is_marked).collect()
}

fn numbered(directory: &str) -> impl Iterator<Item = i32> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
