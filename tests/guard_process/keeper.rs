//! The other role of this program: a keeper without a lock. It forks the guard first thing, does what the test says on
//! descriptor 0, tells everything on 1, and takes over where a keeper must.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::exit;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::guard::{self, Background, Inherited, LastWords, Plan, Report};

/// The variable that makes this program a keeper.
pub const ROLE: &str = "GUARD_TEST_KEEPER";
/// The variable by which the command's tree is known.
pub const MARK: &str = "GUARD_TEST_MARK";
/// How long after the deadline a guard that has said nothing of the end counts as stopped.
pub const PATIENCE: Duration = Duration::from_millis(100);
/// And one that is at work.
const MORE_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Role {
    pub argv: Vec<String>,
    pub grace: Duration,
    pub background: String,
    pub first_signal: i32,
    pub mark: String,
    pub lock: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    Prepare,
    /// Ends without a start, as a waiter that gives up.
    Reap,
    Start(Option<Moment>),
    Extend(Moment),
    End(Option<Moment>),
    Kill,
    Signal(i32),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Said {
    Guard(i32),
    Heard(Report),
    /// The guard died; everything is killed, or not.
    TookOver(bool),
}

enum Event {
    Order(Order),
    Report(Report),
    Silence,
}

pub fn main(role: &str) -> ! {
    let inherited = Inherited::read();
    let role: Role = serde_json::from_str(role).expect("a role");
    let orders = File::from(std::io::stdin().as_fd().try_clone_to_owned().expect("stdin"));
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned().expect("stdout"));
    let mut say = move |said: Said| {
        let line = serde_json::to_string(&said).expect("JSON");
        let _ = writeln!(out, "{line}");
    };
    let background = match role.background.as_str() {
        "kill" => Background::Kill,
        "wait" => Background::Wait,
        _ => Background::Leave,
    };
    let guard = guard::fork(Plan {
        program: role.argv.first().expect("a program").into(),
        argv: role.argv.iter().map(OsString::from).collect(),
        grace: role.grace,
        first_signal: Signal::try_from(role.first_signal).expect("a signal"),
        background,
        inherited,
        last_words: LastWords { make: |about| format!("consul-lock: {about}"), about: "all are dead".to_owned() },
    })
    .expect("a guard");
    say(Said::Guard(guard.pid().as_raw()));

    let (sender, events) = channel();
    let mut listener = guard.listen().expect("a listener");
    let to_loop = sender.clone();
    thread::spawn(move || {
        let mut open = true;
        while open {
            let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            let reports;
            (reports, open) = listener.reports();
            for report in reports {
                let _ = to_loop.send(Event::Report(report));
            }
        }
        let _ = to_loop.send(Event::Silence);
    });
    thread::spawn(move || {
        for line in BufReader::new(orders).lines().map_while(Result::ok) {
            let _ = sender.send(Event::Order(serde_json::from_str(&line).expect("an order")));
        }
    });

    let lock = role.lock.map(|path| {
        let file = File::options().write(true).open(path).expect("the lock's file");
        Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("the lock")
    });
    let mut deadline: Option<Moment> = None;
    let mut at_work = false;
    loop {
        let left = deadline.map_or(Duration::from_secs(60), |deadline| deadline.since(Moment::now()));
        let event = match events.recv_timeout(left) {
            // Perhaps it was the keeper that was stopped, and the guard's reports wait to be read.
            Err(RecvTimeoutError::Timeout) => events.recv_timeout(if at_work { MORE_PATIENCE } else { PATIENCE }),
            event => event,
        };
        match event {
            Ok(Event::Order(Order::Prepare)) => guard.prepare(),
            Ok(Event::Order(Order::Reap)) => {
                guard.reap();
                exit(0);
            }
            Ok(Event::Order(Order::Start(at))) => {
                deadline = at;
                let env = [(MARK.to_owned(), OsString::from(&role.mark))];
                guard.start(&env, at, &lock.iter().map(|lock| lock.as_fd()).collect::<Vec<_>>()).expect("the start");
            }
            Ok(Event::Order(Order::Extend(at))) => {
                deadline = deadline.max(Some(at));
                guard.extend(at);
            }
            Ok(Event::Order(Order::End(at))) => guard.end(at),
            Ok(Event::Order(Order::Kill)) => guard.kill(),
            Ok(Event::Order(Order::Signal(number))) => guard.signal(Signal::try_from(number).expect("a signal")),
            Ok(Event::Report(report)) => {
                at_work |= matches!(report, Report::Ending { .. });
                let (started, gone) = (matches!(report, Report::Started { .. }), matches!(report, Report::Gone { .. }));
                if started {
                    guard::release_descriptors();
                }
                if gone {
                    guard.reap();
                    say(Said::Heard(report));
                    exit(0);
                }
                say(Said::Heard(report));
            }
            Ok(Event::Silence) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let give_up = Moment::now() + Duration::from_secs(1);
                let gone = guard.take_over(Some(give_up), |report| say(Said::Heard(report)));
                say(Said::TookOver(gone));
                exit(0);
            }
        }
    }
}
