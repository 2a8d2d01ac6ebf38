//! Holding on: the session is renewed, and the lock confirmed and watched, for as long as somebody works under it. A
//! confirmation is a [challenge] that only a fresh answer can meet; they go out at a steady pace, each on a connection of
//! its own, whether or not the last one was answered. The watch is a blocking query for each key, which tells a loss the
//! moment it happens and confirms nothing: its answer may come out of somebody's memory.

mod renew;
mod watch;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::challenge::{Unproven, Verdict, challenge};
use super::claim::Claim;
use super::error::Error;
use super::holding::Holding;
use super::notice::{Loss, Notice, Tell, Trouble};
use super::standing::judge;
use super::stop::Stop;
use crate::clock::Moment;
use crate::consul::{Client, Error as ConsulError, Read, Reply};
use renew::Renewer;
use watch::Watch;

/// Longest wait for a confirmation, and the slack of the watch.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Most confirmations that may be unanswered at a time.
const IN_FLIGHT: usize = 3;

/// How long the watch blocks. Confirmations notice within their own interval what a watch that hangs does not; a query
/// that is abandoned keeps its place in the agent for as long.
const WATCH: Duration = Duration::from_secs(5);

/// The pause after a renewal or a watch that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The least pause after a confirmation that failed, whatever was asked for.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

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
        let now = Moment::now();
        let holding = Arc::new(holding.clone());
        let confirmer = Confirmer {
            client: keeper.watch.clone(),
            holding: Arc::clone(&holding),
            tell: tell.clone(),
            stop: keeper.stop.clone(),
            events: events.clone(),
            confirm_at: now,
            in_flight: 0,
            failures: 0,
            watches: holding.claims.iter().map(|claim| Watch::new(claim.fence, now)).collect(),
        };
        std::thread::Builder::new().name("confirm".into()).spawn(move || confirmer.run(&inbox))?;
        if holding.session.interval().is_some() {
            let renewer = Renewer { holding, tell: tell.clone(), stop: keeper.stop.clone(), events };
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
    /// A challenge came back.
    Answered { sent: Moment, result: Result<Verdict, Unproven> },
    /// A read of a claim's key came back, the watch's or one that was to show how the lock was lost.
    Seen { claim: usize, sent: Moment, watch: bool, result: Result<Reply, ConsulError> },
    /// The session is said to be gone: look at once.
    Look,
}

struct Confirmer {
    client: Client,
    holding: Arc<Holding>,
    tell: Tell,
    stop: Stop,
    events: Sender<Event>,
    confirm_at: Moment,
    in_flight: usize,
    failures: u32,
    /// One for each claim.
    watches: Vec<Watch>,
}

impl Confirmer {
    fn run(mut self, inbox: &Receiver<Event>) {
        loop {
            let now = Moment::now();
            if self.confirm_at <= now {
                self.confirm(now);
            }
            for claim in 0..self.watches.len() {
                if self.watches[claim].at.is_some_and(|moment| moment <= now) {
                    self.watch(claim, now);
                }
            }
            let watch_at = self.watches.iter().filter_map(|watch| watch.at).min();
            let wake_at = watch_at.map_or(self.confirm_at, |moment| moment.min(self.confirm_at));
            let event = match inbox.recv_timeout(wake_at.since(Moment::now())) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.stop.is_thrown() {
                return;
            }
            if let Some(lost) = event.and_then(|event| self.take(event)) {
                return (self.tell)(lost);
            }
        }
    }

    fn interval(&self) -> Duration {
        self.holding.lease.terms().interval()
    }

    /// Asks whether the lock is ours.
    fn confirm(&mut self, sent: Moment) {
        self.confirm_at = sent + self.interval();
        if self.in_flight >= IN_FLIGHT {
            return;
        }
        let (client, holding) = (self.client.clone(), Arc::clone(&self.holding));
        let asked = self.ask("confirm", move || {
            let challenge = |client| challenge(client, &holding.claims, &holding.session.id, TIMEOUT);
            let result = match challenge(&client) {
                // Those who wait have taken every connection that the agent has for this address. The one over which
                // we got the lock is ours already.
                Err(Unproven::Failed(ConsulError::Busy { .. })) => challenge(&holding.client),
                result => result,
            };
            Event::Answered { sent, result }
        });
        self.in_flight += usize::from(asked);
    }

    /// Asks to be told when the key of a claim changes.
    fn watch(&mut self, claim: usize, sent: Moment) {
        let index = self.watches[claim].index;
        // Consul adds up to a sixteenth to a wait.
        let (read, timeout) = (Read::Blocking { index, wait: WATCH }, WATCH + WATCH / 16 + TIMEOUT);
        let asked = self.read(claim, sent, read, timeout, true);
        self.watches[claim].at = if asked { None } else { Some(sent + AGAIN) };
    }

    fn read(&self, claim: usize, sent: Moment, read: Read, timeout: Duration, watch: bool) -> bool {
        let (client, holding) = (self.client.clone(), Arc::clone(&self.holding));
        self.ask(if watch { "watch" } else { "look" }, move || {
            let result = client.get(holding.claims[claim].path(), read, timeout);
            Event::Seen { claim, sent, watch, result }
        })
    }

    /// Asks in a thread of its own; false if there is none to be had.
    fn ask(&self, name: &str, question: impl FnOnce() -> Event + Send + 'static) -> bool {
        let events = self.events.clone();
        let ask = move || {
            // Nobody listens any more once the lock is let go.
            let _ = events.send(question());
        };
        match std::thread::Builder::new().name(name.into()).spawn(ask) {
            Ok(_) => true,
            Err(error) => {
                (self.tell)(Notice::Unconfirmed(Trouble(format!("cannot start a thread: {error}"))));
                false
            }
        }
    }

    /// Takes an event; the notice of the loss, if it shows one.
    fn take(&mut self, event: Event) -> Option<Notice> {
        match event {
            Event::Answered { sent, result } => {
                self.in_flight -= 1;
                match result {
                    Ok(Verdict::Ours) => {
                        self.failures = 0;
                        (self.tell)(Notice::Confirmed(sent));
                        None
                    }
                    Ok(Verdict::NotOurs(claim)) => self.look(claim),
                    Err(why) => self.failed(why),
                }
            }
            Event::Seen { claim, sent, watch, result } => {
                if watch {
                    self.watches[claim].answered(sent, result.as_ref().ok());
                }
                result.ok().and_then(|reply| self.find_loss(claim, &reply))
            }
            // With the session all keys are lost, the first too.
            Event::Look => self.look(0),
        }
    }

    /// Reads the key of a claim, to see how it was lost. The next confirmation looks again if this goes wrong.
    fn look(&self, claim: usize) -> Option<Notice> {
        self.read(claim, Moment::now(), Read::Consistent, TIMEOUT, false);
        None
    }

    fn failed(&mut self, why: Unproven) -> Option<Notice> {
        let holding = &self.holding;
        let trouble = match why {
            Unproven::Failed(error) => Trouble::from(&error),
            Unproven::Refused(claim, what) => {
                let path = holding.claims.get(claim).map_or("", Claim::path);
                Trouble(Error::denied_key(&self.client, path, &what).to_string())
            }
            Unproven::Replayed => Trouble(format!(
                "{:#} answers with something else than it was asked; does a proxy or cache in between repeat old answers?",
                self.client.address()
            )),
        };
        self.failures += 1;
        (self.tell)(Notice::Unconfirmed(trouble));
        if let Some(retries) = holding.monitor_retries.filter(|retries| self.failures > *retries) {
            return Some(Notice::Lost { loss: Loss::RetriesSpent(retries), key: None });
        }
        let pause = holding.monitor_retry_time.max(LEAST_PAUSE);
        self.confirm_at = self.confirm_at.min(Moment::now() + pause);
        None
    }

    /// A loss is a loss however old the answer, unless that is older than the lock itself.
    fn find_loss(&self, claim: usize, reply: &Reply) -> Option<Notice> {
        let (session, claims) = (&self.holding.session, &self.holding.claims);
        let claim = &claims[claim];
        if reply.index < claim.fence {
            return None;
        }
        let loss = judge(reply.entry.as_ref(), &session.id, session.behavior)?;
        Some(Notice::Lost { loss, key: (claims.len() > 1).then(|| claim.key.clone()) })
    }
}
