//! The keeper: a process in the background that acquires the lock and holds on to it for a script. It is forked before
//! anything else is done; the process in front waits for its word and prints it. So a lock is never held by somebody who
//! does not keep it, and the one who waits can be interrupted as if there were no keeper.
//!
//! It ends when the lock is released or lost, when the process that it is for ends, when its time is up, or by a signal.
//! Doubt does not end it: it could kill nobody, and as long as it renews the session nobody else gets the lock.

use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use consul_lock::clock::Moment;
use consul_lock::lock::{Holding, Keeper, Notice, Stop};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::{chdir, dup2_stderr, setsid};

use super::attempt::{Attempt, Event, teller};
use super::link::{self, Word};
use super::{CLEAN_UP, Plan, Taken, Until, signals, undelivered};
use crate::guard::release_descriptors;
use crate::run::{Class, Note, Outcome, Refused};
use crate::sys;

/// How often the keeper looks at the clock: a machine that slept has its channels wait for as long again.
const LOOK: Duration = Duration::from_secs(10);

/// What the process in front hears.
enum Heard {
    Word(Word),
    KeeperGone,
    Signal(Signal),
}

/// Acquires the lock in a process of its own that keeps it. To be called before there is any other thread, handler or
/// connection. `report` is told, in that process, what happens, and nothing when no more is to come; `deliver` hands the
/// lock to the script, and a lock that cannot be delivered is given back.
///
/// # Errors
/// A fault of the machine: no process, no thread, no handler to be had.
pub(crate) fn acquire(
    plan: Plan,
    until: Until,
    report: impl FnMut(Option<Note>),
    deliver: impl FnOnce(&Taken) -> io::Result<()>,
) -> anyhow::Result<Result<(), Outcome>> {
    let (front, back) = UnixStream::pair().context("cannot make a socket pair")?;
    // Nothing is lost meanwhile: the keeper may say that it waits before the handlers of this process are in place.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).context("cannot block signals")?;
    if sys::fork().context("cannot fork the keeper")?.is_none() {
        drop(front);
        let code = if live(&plan, until, &mask, back, report).is_ok() { 0 } else { 70 };
        sys::exit(code);
    }
    drop(back);
    let (inbox, heard) = channel();
    let tell = inbox.clone();
    signals::listen(&plan.inherited, move |signal| tell.send(Heard::Signal(signal)).is_ok())?;
    mask.thread_set_mask().context("cannot unblock signals")?;
    let mut listener = BufReader::new(front.try_clone()?);
    let listen = move || {
        while let Some(word) = link::hear(&mut listener) {
            let _ = inbox.send(Heard::Word(word));
        }
        let _ = inbox.send(Heard::KeeperGone);
    };
    thread::Builder::new().name("keeper".into()).spawn(listen)?;
    let outcome = match listen_to(&heard) {
        Ok(taken) => match deliver(&taken) {
            Ok(()) if link::confirm(&front).is_ok() => return Ok(Ok(())),
            Ok(()) => gone(),
            Err(error) => undelivered(&error),
        },
        Err(outcome) => outcome,
    };
    // Whatever the keeper has, nobody wants it. It is gone when it has given that back.
    let _ = front.shutdown(Shutdown::Write);
    let hurried = matches!(outcome, Outcome::Interrupted(_));
    let give_up_at = Moment::now() + if hurried { CLEAN_UP } else { CLEAN_UP + plan.options.retry_for };
    while let Ok(Heard::Word(_)) = heard.recv_timeout(give_up_at.since(Moment::now())) {}
    Ok(Err(outcome))
}

/// The keeper's word, or a signal that came before it.
fn listen_to(heard: &Receiver<Heard>) -> Result<Taken, Outcome> {
    match heard.recv() {
        Ok(Heard::Word(word)) => word.into_result(),
        Ok(Heard::Signal(signal)) => Err(Outcome::Interrupted(signal)),
        Ok(Heard::KeeperGone) | Err(_) => Err(gone()),
    }
}

fn gone() -> Outcome {
    let message = "the process that was to keep the lock (lock-keeper) was killed; its session ends by its TTL";
    Outcome::NotAcquired(Refused::new(Class::Internal, message))
}

/// The keeper's life.
fn live(
    plan: &Plan,
    until: Until,
    mask: &SigSet,
    link: UnixStream,
    mut report: impl FnMut(Option<Note>),
) -> anyhow::Result<()> {
    sys::set_name(c"lock-keeper");
    setsid()?;
    // A script waits for the end of what it reads, and a terminal's signals are for the process in front.
    release_descriptors();
    let (inbox, events) = channel();
    let tell = inbox.clone();
    signals::listen(&plan.inherited, move |signal| tell.send(Event::Signal(signal)).is_ok())?;
    mask.thread_set_mask().context("cannot unblock signals")?;
    listen(&link, until.process, &inbox)?;
    let attempt = Attempt::start(plan, false, &inbox)?;
    let holding = match attempt.run(&events, &mut report) {
        Ok((holding, _)) => holding,
        Err(outcome) => {
            report(None);
            return Ok(link::say(&link, &Word::of(&outcome))?);
        }
    };
    let end_at = until.max.map(|max| Moment::now() + max);
    let keeper = Keeper::start(&holding, &teller(&inbox));
    report(None);
    let delivered = keeper.is_ok() && {
        leave(plan);
        link::say(&link, &Word::Held(Taken::new(&holding, end_at))).is_ok()
    };
    let mut link = Some(link);
    if delivered {
        keep(&events, end_at, &mut link);
    }
    drop(keeper);
    release(holding, &inbox, &events);
    Ok(())
}

/// Hears of the script, and of the process that the lock is for.
fn listen(link: &UnixStream, process: Option<super::Process>, inbox: &Sender<Event>) -> io::Result<()> {
    let (link, tell) = (link.try_clone()?, inbox.clone());
    let listen = move || {
        let event = if link::is_confirmed(&link) { Event::Delivered } else { Event::Abandoned };
        let _ = tell.send(event);
    };
    thread::Builder::new().name("front".into()).spawn(listen)?;
    if let Some(process) = process {
        let tell = inbox.clone();
        let wait = move || {
            process.wait();
            let _ = tell.send(Event::ProcessEnded);
        };
        thread::Builder::new().name("process".into()).spawn(wait)?;
    }
    Ok(())
}

/// Lets go of what is left of the script's surroundings: nothing more is told.
fn leave(plan: &Plan) {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = dup2_stderr(&null);
    }
    // A unix socket with a relative name has to be found again.
    let address = plan.client.address().to_string();
    let is_relative = address.strip_prefix("unix://").is_some_and(|path| !path.starts_with('/'));
    if !is_relative {
        let _ = chdir("/");
    }
}

/// Waits for a reason to end. The link is let go of once the script has the lock; until then somebody waits at its other
/// end to hear that all is given back.
fn keep(events: &Receiver<Event>, end_at: Option<Moment>, link: &mut Option<UnixStream>) {
    loop {
        let left = end_at.map_or(LOOK, |end_at| end_at.since(Moment::now()).min(LOOK));
        if left.is_zero() {
            return;
        }
        match events.recv_timeout(left) {
            Ok(Event::Lock(Notice::Lost { .. }) | Event::Signal(_) | Event::ProcessEnded) => return,
            Ok(Event::Abandoned) => return,
            Ok(Event::Delivered) => *link = None,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Gives the lock back, and ends the session if it was made for it, even if the lock itself is gone. Another signal ends
/// that.
fn release(holding: Holding, inbox: &Sender<Event>, events: &Receiver<Event>) {
    let (stop, done) = (Stop::new(), inbox.clone());
    let hurry = stop.clone();
    let release = move || {
        holding.release(&stop);
        let _ = done.send(Event::Released);
    };
    if thread::Builder::new().name("release".into()).spawn(release).is_err() {
        return;
    }
    while let Ok(event) = events.recv() {
        match event {
            Event::Released => return,
            Event::Signal(_) => hurry.throw(),
            _ => {}
        }
    }
}
