//! `status --watch`: the lock again whenever it changes. On a terminal it is painted in place, once a second, so that times
//! go on; elsewhere each change is a block of lines, or a line of JSON. A Consul that is away is asked for ever.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use consul_lock::lock::view::{Sight, watch as watch_in_consul};
use consul_lock::lock::{self, Key, Stop, retry};
use consul_lock::plain::plain;
use nix::sys::signal::Signal;
use terminal_size::terminal_size;

use super::screen::frame;
use super::{look, write};
use crate::cli::exit::Exit;
use crate::cli::interrupt;
use crate::cli::refusal::Refusal;
use crate::cli::report::{Remarks, is_dumb};
use crate::cli::shown::Shown;
use crate::cli::source::Source;
use crate::cli::stdout::{self, Unwritten};
use crate::guard::Inherited;
use crate::local::Table;

/// How often locks of this machine are looked at, of which the kernel tells no news; and how often times are painted.
const TICK: Duration = Duration::from_millis(500);

enum Event {
    Sight(Sight),
    Interrupt,
}

/// Why a look gave nothing.
enum Blind {
    /// It may give something later.
    Trouble(String),
    Refused(Refusal),
    Interrupted,
}

/// Shows a lock until it is interrupted, or until that makes no sense any more.
pub(super) fn watch(
    source: &Source,
    key: &Key,
    json: bool,
    remarks: &Arc<Remarks>,
    inherited: &Inherited,
) -> anyhow::Result<Exit> {
    let (sender, inbox) = channel();
    let stop = Stop::new();
    let interrupt = sender.clone();
    interrupt::listen(inherited, &stop, move || drop(interrupt.send(Event::Interrupt)))?;
    let screen = !json && !is_dumb() && std::io::stdout().is_terminal();
    let mut watch =
        Watch { source, key, json, screen, remarks, stop, last: None, is_first: true, trouble: None, stale: true };
    if let Err(end) = watch.begin(sender) {
        return Ok(end);
    }
    loop {
        if let Err(end) = watch.turn(&inbox) {
            return Ok(end);
        }
    }
}

struct Watch<'a> {
    source: &'a Source,
    key: &'a Key,
    json: bool,
    /// It is painted in place.
    screen: bool,
    remarks: &'a Arc<Remarks>,
    stop: Stop,
    /// As it was shown last.
    last: Option<Shown>,
    /// Nothing has been shown yet.
    is_first: bool,
    /// Why nothing newer is known.
    trouble: Option<String>,
    /// It is to be looked at again.
    stale: bool,
}

impl Watch<'_> {
    /// The first look, and whatever tells of the next ones.
    fn begin(&mut self, sender: Sender<Event>) -> Result<(), Exit> {
        let refuse = |error: Refusal| self.remarks.refuse(&error);
        match self.source {
            Source::Consul(client, _) => {
                let view = || self.stop.interruptible(client, |client| client.lock_view(self.key, super::TIMEOUT))?;
                let view = retry(Duration::MAX, None, &self.stop, &self.remarks.teller(), view);
                let tell = move |sight| drop(sender.send(Event::Sight(sight)));
                match view.and_then(|view| watch_in_consul(client, &view, &self.stop, tell)) {
                    Ok(()) => Ok(()),
                    Err(lock::Error::Stopped) => Err(Exit::Signal(Signal::SIGINT)),
                    Err(error) => Err(refuse(error.into())),
                }
            }
            Source::Here(_) => {
                let tick = move || {
                    while sender.send(Event::Sight(Sight::Changed)).is_ok() {
                        thread::sleep(TICK);
                    }
                };
                let started = thread::Builder::new().name("watch".into()).spawn(tick);
                started.map(drop).map_err(|error| refuse(lock::Error::from(error).into()))
            }
        }
    }

    /// Waits for news or for the next moment to paint, and shows what there is.
    fn turn(&mut self, inbox: &Receiver<Event>) -> Result<(), Exit> {
        let first = if self.screen || self.stale { inbox.recv_timeout(TICK) } else { inbox.recv().map_err(Into::into) };
        // Many changes at once are one look.
        let events = match first {
            Ok(event) => [event].into_iter().chain(inbox.try_iter()).collect(),
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            // Those who tell have ended without a word, which they do not.
            Err(RecvTimeoutError::Disconnected) => return Err(Exit::Signal(Signal::SIGINT)),
        };
        for event in events {
            match event {
                Event::Interrupt => return Err(Exit::Signal(Signal::SIGINT)),
                Event::Sight(Sight::Changed) => self.stale = true,
                Event::Sight(Sight::Trouble(trouble)) => self.set_trouble(trouble.0),
                Event::Sight(Sight::Failed(error)) => return Err(self.remarks.refuse(&error.into())),
            }
        }
        let mut changed = false;
        if self.stale {
            match self.look() {
                Ok(mut shown) => {
                    self.stale = false;
                    self.trouble = None;
                    self.remarks.answered();
                    if let Some(last) = &self.last {
                        shown.remember(last, SystemTime::now());
                    }
                    changed = self.last.as_ref() != Some(&shown);
                    self.last = Some(shown);
                }
                Err(Blind::Trouble(why)) => self.set_trouble(why),
                Err(Blind::Refused(refusal)) => return Err(self.remarks.refuse(&refusal)),
                Err(Blind::Interrupted) => return Err(Exit::Signal(Signal::SIGINT)),
            }
        }
        self.show(changed).map_err(|unwritten| unwritten.exit(|refusal| self.remarks.refuse(refusal)))?;
        self.is_first &= self.last.is_none();
        Ok(())
    }

    /// Paints what is known, or writes it if it is news.
    fn show(&self, changed: bool) -> Result<(), Unwritten> {
        let Some(shown) = &self.last else { return Ok(()) };
        if self.screen {
            let mut lines = shown.lines(SystemTime::now());
            if let Some(trouble) = &self.trouble {
                lines.extend(["".to_owned(), format!("as it was last seen: {}; trying again", plain(trouble))]);
            }
            let (columns, rows) = terminal_size().map_or((80, 24), |(columns, rows)| (columns.0, rows.0));
            return stdout::write(&frame(&lines, columns, rows, self.is_first));
        }
        if !changed {
            return Ok(());
        }
        if !self.json && !self.is_first {
            stdout::write("\n")?;
        }
        write(shown, self.json)
    }

    fn set_trouble(&mut self, why: String) {
        // On a screen it is part of the picture.
        if !(self.screen && std::io::stderr().is_terminal()) {
            self.remarks.retrying(&why);
        }
        self.trouble = Some(why);
    }

    fn look(&self) -> Result<Shown, Blind> {
        match self.source {
            Source::Consul(client, _) => match self.stop.interruptible(client, |client| look(client, self.key)) {
                Ok(Ok((_, shown))) => Ok(shown),
                Ok(Err(lock::Error::Consul(error))) if error.is_transient() || error.is_unknown_token() => {
                    Err(Blind::Trouble(error.to_string()))
                }
                Ok(Err(error)) => Err(Blind::Refused(error.into())),
                Err(_) => Err(Blind::Interrupted),
            },
            Source::Here(locks) => match locks.look(self.key, &Table::read()) {
                Ok(seen) => Ok(Shown::here(self.key, seen)),
                Err(error) => Err(Blind::Refused(error.into())),
            },
        }
    }
}
