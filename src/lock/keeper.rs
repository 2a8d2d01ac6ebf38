//! Holding on: the session is renewed, and the lock confirmed, for as long as somebody works under it. A confirmation
//! is a consistent read that shows the key under our session. The reads are blocking queries of a little less than the
//! confirmation's interval, so that a loss is told the moment it happens; when one is not answered in time, plain ones
//! go out beside it, on connections of their own, for as long as it takes.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::holding::Holding;
use super::notice::{Loss, Notice, Tell, Trouble};
use super::session::Touch;
use super::standing::judge;
use super::stop::Stop;
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError, Read, Reply};

/// Longest wait for a plain confirmation, and the slack of a blocking one.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Most confirmations that may be unanswered at a time.
const IN_FLIGHT: usize = 3;

/// A command that ends sooner than this has needed no confirmation but the lock's own.
const FIRST_AFTER: Duration = Duration::from_millis(50);

/// The pause after a failed renewal.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// A reply that came sooner than this to a blocking query was not worth blocking for.
const QUICK: Duration = Duration::from_millis(100);

/// Keeps a lock until it is stopped or dropped.
#[derive(Debug)]
pub struct Keeper {
    stop: Stop,
    watch: Client,
}

impl Keeper {
    /// Starts to keep `holding`, telling of every confirmation, every trouble and the loss.
    ///
    /// # Errors
    /// When the operating system gives no thread; nothing keeps the lock then.
    pub fn start(holding: &Holding, tell: &Tell) -> std::io::Result<Self> {
        let keeper = Self { stop: Stop::new(), watch: holding.client.separate() };
        let (events, inbox) = channel();
        let confirmer = Confirmer {
            client: keeper.watch.clone(),
            holding: holding.clone(),
            tell: tell.clone(),
            stop: keeper.stop.clone(),
            events: events.clone(),
            in_flight: 0,
            watching: false,
            index: holding.fence,
            last_sent: holding.lease.confirmed(),
            quick: 0,
            failures: 0,
        };
        std::thread::Builder::new().name("confirm".into()).spawn(move || confirmer.run(&inbox))?;
        if holding.session.interval().is_some() {
            let renewer = Renewer { holding: holding.clone(), tell: tell.clone(), stop: keeper.stop.clone(), events };
            std::thread::Builder::new().name("renew".into()).spawn(move || renewer.run())?;
        }
        Ok(keeper)
    }

    /// Lets go: nothing is told any more.
    pub fn stop(&self) {
        self.stop.throw();
        self.watch.shutdown();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the confirmer is woken by.
enum Event {
    /// A confirmation came back.
    Answer { sent: Moment, watch: bool, result: Result<Reply, ConsulError> },
    /// The session is said to be gone: look at once.
    Look,
}

struct Confirmer {
    client: Client,
    holding: Holding,
    tell: Tell,
    stop: Stop,
    events: Sender<Event>,
    in_flight: usize,
    /// A blocking query is among those in flight.
    watching: bool,
    /// The index that a blocking query waits for a change from.
    index: u64,
    last_sent: Moment,
    quick: u32,
    failures: u32,
}

impl Confirmer {
    fn run(mut self, inbox: &Receiver<Event>) {
        let interval = self.holding.lease.terms().interval();
        let mut due = Moment::now() + FIRST_AFTER;
        loop {
            match inbox.recv_timeout(due.since(Moment::now())) {
                Ok(Event::Look) => self.send(false),
                Ok(Event::Answer { sent, watch, result }) => {
                    self.in_flight -= 1;
                    self.watching &= !watch;
                    match self.take(sent, result) {
                        Some(pause) => due = Moment::now() + pause,
                        None => return,
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let watch = !self.watching && self.failures == 0;
                    self.send(watch);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.stop.is_thrown() {
                return;
            }
            due = self.last_sent + interval;
        }
    }

    /// Asks once more, blocking until the key changes if `watch`.
    fn send(&mut self, watch: bool) {
        self.last_sent = Moment::now();
        if self.in_flight >= IN_FLIGHT {
            return;
        }
        let interval = self.holding.lease.terms().interval();
        let (read, timeout) = if watch && self.index > 0 {
            // Nine tenths, so that even with the sixteenth that Consul adds the answer is there when the next is due.
            let wait = interval.mul_f64(0.9);
            (Read::Blocking { index: self.index, wait }, interval + TIMEOUT)
        } else {
            (Read::Consistent, TIMEOUT)
        };
        let (client, key, events) = (self.client.clone(), self.holding.key.clone(), self.events.clone());
        let sent = self.last_sent;
        let ask = move || {
            let result = client.get(key.as_str(), read, timeout);
            // Nobody listens any more once the lock is let go.
            let _ = events.send(Event::Answer { sent, watch, result });
        };
        match std::thread::Builder::new().name("ask".into()).spawn(ask) {
            Ok(_) => {
                self.in_flight += 1;
                self.watching |= watch;
            }
            Err(error) => (self.tell)(Notice::Unconfirmed(Trouble(format!("cannot start a thread: {error}")))),
        }
    }

    /// Takes an answer; the pause until the next request, or nothing when there is nothing left to keep.
    fn take(&mut self, sent: Moment, result: Result<Reply, ConsulError>) -> Option<Duration> {
        if self.stop.is_thrown() {
            return None;
        }
        let interval = self.holding.lease.terms().interval();
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => {
                self.index = 0;
                self.failures += 1;
                (self.tell)(Notice::Unconfirmed(Trouble::from(&error)));
                return match self.holding.monitor_retries.filter(|retries| self.failures > *retries) {
                    Some(retries) => self.lose(Loss::RetriesSpent(retries)),
                    None => Some(interval.min(self.holding.monitor_retry_time)),
                };
            }
        };
        self.failures = 0;
        if let Some(loss) = judge(reply.entry.as_ref(), &self.holding.session.id, self.holding.session.behavior) {
            return self.lose(loss);
        }
        (self.tell)(Notice::Confirmed(sent));
        Some(self.next_pause(sent, &reply, interval))
    }

    /// At once, as a rule: the next blocking query takes its time. One that does not block is not repeated in a hurry.
    fn next_pause(&mut self, sent: Moment, reply: &Reply, interval: Duration) -> Duration {
        let changed = reply.entry.as_ref().is_some_and(|entry: &Entry| entry.modify_index > self.index);
        self.index = if reply.index < self.index { 0 } else { reply.index };
        let in_a_hurry = Moment::now().since(sent) < QUICK && !changed;
        self.quick = if in_a_hurry { self.quick + 1 } else { 0 };
        if self.watching || self.quick > 2 { interval.min(Duration::from_secs(1)) } else { Duration::ZERO }
    }

    fn lose(&self, loss: Loss) -> Option<Duration> {
        (self.tell)(Notice::Lost(loss));
        None
    }
}

struct Renewer {
    holding: Holding,
    tell: Tell,
    stop: Stop,
    events: Sender<Event>,
}

impl Renewer {
    fn run(self) {
        let session = &self.holding.session;
        let Some(interval) = session.interval() else { return };
        let mut pause = interval;
        let mut failures = 0;
        while self.stop.pause(pause).is_ok() {
            pause = match session.renew(&self.holding.client) {
                Touch::Alive => {
                    failures = 0;
                    interval
                }
                // A deposed leader answers renewals from old state, so that this proves nothing; a consistent read does.
                Touch::Gone => {
                    let _ = self.events.send(Event::Look);
                    RENEW_AGAIN
                }
                Touch::Unknown(error) => {
                    failures += 1;
                    // One that fails is an election or a hiccup; the second in a row is told, and no other.
                    if failures == 2 {
                        (self.tell)(Notice::RenewalFailing(Trouble::from(&error)));
                    }
                    RENEW_AGAIN
                }
            };
        }
    }
}
