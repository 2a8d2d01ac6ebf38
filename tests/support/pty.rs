//! A pseudo-terminal with a program on it that has it for its controlling terminal: what a person at a keyboard has.

use std::fs::{self, File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::unistd::{Pid, tcgetpgrp};

use super::{MARK, eventually, kill_survivors, marker, process_state};

/// A terminal of 80 columns and 24 rows, and the program that leads its session. Dropping it kills the program and
/// everything with its mark.
pub struct Pty {
    child: Child,
    /// None after the hang-up.
    master: Option<Arc<PtyMaster>>,
    /// The thread that reads the master, and the pipe whose end ends it.
    reader: Option<(JoinHandle<()>, PipeWriter)>,
    device: String,
    mark: String,
    screen: Arc<Mutex<Vec<u8>>>,
    /// Where the next [`Pty::expect`] begins to look.
    seen: usize,
    /// Each size that it had.
    sizes: Mutex<Vec<Size>>,
}

/// How much had been written when the terminal got this size, its columns and its rows.
type Size = (usize, NonZero<u16>, NonZero<u16>);

impl Pty {
    /// Starts the command as the leader of a session on a new terminal.
    pub fn spawn(command: &Command) -> Self {
        // Close-on-exec from the start: a master that leaked into another test's child would keep the line open.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a pseudo-terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end");
        let device = ptsname_r(&master).expect("the name of its other end");
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(&device)
            .unwrap_or_else(|error| panic!("cannot open {device}: {error}"));
        let mark = marker();
        let mut child = on_terminal(command, &terminal);
        child.env(MARK, &mark).env("TERM", "dumb");
        let master = Arc::new(master);
        let mut pty = Self {
            child: child.spawn().unwrap_or_else(|error| panic!("cannot start {child:?}: {error}")),
            master: Some(Arc::clone(&master)),
            reader: None,
            device,
            mark,
            screen: Arc::default(),
            seen: 0,
            sizes: Mutex::default(),
        };
        pty.resize(80, 24);
        let (stop, stopper) = pipe().expect("a pipe");
        let screen = Arc::clone(&pty.screen);
        pty.reader = Some((thread::spawn(move || read_all(&master, &screen, &stop)), stopper));
        pty
    }

    /// An interactive bash with job control, the prompt `$ ` and no start-up files.
    pub fn bash() -> Self {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile", "-i"]).envs([("PS1", "$ "), ("HISTFILE", ""), ("INPUTRC", "/dev/null")]);
        let mut pty = Self::spawn(&bash);
        pty.expect("$ ", Duration::from_secs(10));
        pty
    }

    /// Waits for the prompt of [`Pty::bash`], which must be back before the next command is typed: what is typed while
    /// the shell takes the terminal back from a job is lost at times.
    #[track_caller]
    pub fn prompt(&mut self, bound: Duration) {
        self.expect("\n$ ", bound);
    }

    /// The process id of the program.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid is an i32"))
    }

    /// The value of [`MARK`] in this terminal's processes.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Types. The terminal echoes what is typed until a program turns that off, so a command whose output is waited for
    /// must not contain it: `echo do''ne`. `"\x03"` is Ctrl-C, `"\x1a"` Ctrl-Z, `"\x1c"` Ctrl-\, `"\x04"` Ctrl-D.
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.master().write_all(bytes.as_ref()).expect("the terminal takes what is typed");
    }

    /// Waits for `text` after what the last call found, and panics with the screen when it does not come within
    /// `bound`. Returns what stood before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str, bound: Duration) -> String {
        let start = Instant::now();
        loop {
            let late = start.elapsed() > bound;
            let screen = self.screen.lock().expect("no reader panics").clone();
            let rest = &screen[self.seen..];
            if let Some(at) = rest.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen += at + text.len();
                return String::from_utf8_lossy(&rest[..at]).into_owned();
            }
            assert!(!late, "not within {bound:?}: {text:?}\n--- screen\n{}", self.screen_so_far());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Everything that was written to the terminal so far, control sequences and all; lines end with `\r\n`.
    pub fn screen_so_far(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no reader panics")).into_owned()
    }

    /// What a person sees: the rows of the screen down to the last that is not blank. A narrower window cuts its rows, as
    /// xterm does.
    pub fn picture(&self) -> Vec<String> {
        let bytes = self.screen.lock().expect("no reader panics").clone();
        let sizes = self.sizes.lock().expect("nobody panics").clone();
        let (_, columns, rows) = sizes[0];
        let mut parser = vt100::Parser::new(rows, columns, 0);
        for (number, (from, columns, rows)) in sizes.iter().enumerate() {
            parser.screen_mut().set_size(*rows, *columns);
            let to = sizes.get(number + 1).map_or(bytes.len(), |next| next.0);
            parser.process(&bytes[*from..to]);
        }
        parser.screen().contents().trim_end().lines().map(str::to_owned).collect()
    }

    /// Waits until the screen looks as wanted, and panics with it when it does not within `bound`.
    #[track_caller]
    pub fn expect_picture(&self, what: &str, bound: Duration, is_wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let start = Instant::now();
        loop {
            let late = start.elapsed() > bound;
            let picture = self.picture();
            if is_wanted(&picture) {
                return picture;
            }
            assert!(!late, "not within {bound:?}: {what}\n--- screen\n{}", picture.join("\n"));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process group in the foreground.
    pub fn foreground(&self) -> Pid {
        tcgetpgrp(self.master()).expect("the terminal has a foreground")
    }

    /// Waits until the program of this name leads the process group in the foreground and is not stopped: from then on
    /// Ctrl-C and Ctrl-Z are for it. Before it is executed a shell's child has the terminal already, and ignores them.
    #[track_caller]
    pub fn expect_foreground(&self, name: &str, bound: Duration) -> Pid {
        eventually(&format!("{name} is in the foreground"), bound, || {
            let group = self.foreground();
            let comm = fs::read_to_string(format!("/proc/{group}/comm")).ok()?;
            (comm.trim_end() == name && process_state(group.as_raw()) != Some('T')).then_some(group)
        })
    }

    /// Gives the terminal another size, as a window does: the foreground gets SIGWINCH.
    pub fn resize(&self, columns: u16, rows: u16) {
        let written = self.screen.lock().expect("no reader panics").len();
        let [wide, high] = [columns, rows].map(|size| NonZero::new(size).expect("a size"));
        self.sizes.lock().expect("nobody panics").push((written, wide, high));
        let mut stty = Command::new("stty");
        stty.args(["-F", &self.device, "cols", &columns.to_string(), "rows", &rows.to_string()]);
        assert!(stty.status().expect("stty can be run").success());
    }

    /// Closes the terminal as a window that is closed, or a connection that is lost: its session gets SIGHUP.
    pub fn hang_up(&mut self) {
        if let Some((reader, stopper)) = self.reader.take() {
            drop(stopper);
            let _ = reader.join();
        }
        self.master = None;
    }

    fn master(&self) -> &PtyMaster {
        self.master.as_ref().expect("the terminal has not been hung up")
    }

    /// Waits for the program's end and panics with the screen when it does not come within `bound`.
    #[track_caller]
    pub fn wait(&mut self, bound: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(start.elapsed() <= bound, "still running after {bound:?}\n--- screen\n{}", self.screen_so_far());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- screen\n{}", self.screen_so_far());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        kill_survivors(&self.mark);
        self.hang_up();
    }
}

/// The same command under setsid(1), which takes its standard input for the controlling terminal and then becomes it.
fn on_terminal(command: &Command, terminal: &File) -> Command {
    let mut wrapped = Command::new("setsid");
    wrapped.arg("--ctty").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    let end = || terminal.try_clone().expect("a descriptor");
    wrapped.stdin(end()).stdout(end()).stderr(end());
    wrapped
}

/// Reads until the last process has closed the terminal (the master then answers EIO), or `stop` ends.
fn read_all(mut master: &PtyMaster, screen: &Mutex<Vec<u8>>, stop: &PipeReader) {
    let mut chunk = [0; 4096];
    loop {
        let mut ends = [PollFd::new(master.as_fd(), PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        let polled = poll(&mut ends, PollTimeout::NONE);
        if polled == Err(Errno::EINTR) {
            continue;
        }
        if polled.is_err() || ends[1].any() == Some(true) {
            return;
        }
        let Ok(length @ 1..) = master.read(&mut chunk) else { return };
        screen.lock().expect("no reader panics").extend_from_slice(&chunk[..length]);
    }
}
