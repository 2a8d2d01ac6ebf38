//! The decisions, one by one and in every order. The states that the tests begin with are built here.

use consul_lock::lock::{Holder, LockDelay, Terms, Trouble, Ttl};

use super::*;
use crate::run::event::{Action, Event, Grant, Origin, Released};

mod every_order;
mod holding;
mod signals;
mod the_guard;
mod waiting;

const DELAY: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);
const UNTIL_DEADLINE: Duration = Duration::from_millis(28_500);
const UNTIL_TERM: Duration = Duration::from_millis(23_500);
const SESSION: &str = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(3);

fn start() -> Moment {
    Moment::from_boot(Duration::from_secs(1000))
}

fn at(after: Duration) -> Moment {
    start() + after
}

fn terms() -> Terms {
    let delay = LockDelay::new(DELAY).expect("within Consul's range");
    Terms::new(delay, Ttl::DEFAULT, GRACE).expect("the defaults keep the promise")
}

fn grant(confirmed: Moment) -> Grant {
    Grant { lease: Some(Lease::new(terms(), confirmed)), session: Some(SESSION.to_owned()), fences: vec![7] }
}

fn grant_here() -> Grant {
    Grant { lease: None, session: None, fences: vec![7] }
}

fn holder() -> Holder {
    Holder { session: SESSION.parse().expect("a session id"), record: None }
}

fn key() -> Key {
    "k".parse().expect("a key")
}

fn held_by(holder: Holder) -> Event {
    Event::Lock(Notice::Waiting { key: key(), holder })
}

fn lost(loss: Loss) -> Event {
    Event::Lock(Notice::Lost { loss, key: None })
}

fn refused() -> Refused {
    Refused::new(Class::Conflict, "held")
}

fn signal(signal: Signal, origin: Origin) -> Event {
    Event::Signal { signal, origin }
}

fn exited(code: i32, left: usize) -> Event {
    Event::Guard(Report::Exited { status: Status::Code(code), left })
}

fn gone(at: Moment) -> Event {
    Event::Guard(Report::Gone { at })
}

fn started() -> Event {
    Event::Guard(Report::Started { pid: 42 })
}

fn unkillable() -> Event {
    Event::Guard(Report::Unkillable { pid: 43, user: "root".to_owned(), name: "sudo".to_owned() })
}

/// What is done, without what is told.
fn done(actions: &[Action]) -> Vec<Action> {
    actions.iter().filter(|action| !matches!(action, Action::Tell(_))).cloned().collect()
}

fn told(actions: &[Action], wanted: impl Fn(&Note) -> bool) -> bool {
    actions.iter().any(|action| matches!(action, Action::Tell(note) if wanted(note)))
}

fn waiting() -> Run {
    Run::new(start(), Vec::new(), None)
}

fn waiting_here(give_up_after: Option<Duration>) -> Run {
    let here = Here { give_up_at: give_up_after.map(at), conflict: None };
    Run::new(start(), Vec::new(), Some(here))
}

/// Told to start at the start, with a lease confirmed then.
fn spawning() -> Run {
    let mut run = waiting();
    let actions = run.on(Event::Acquired(grant(start())), start());
    assert_eq!(done(&actions), [Action::Start(Some(at(UNTIL_DEADLINE)))]);
    run
}

fn running() -> Run {
    let mut run = spawning();
    assert_eq!(done(&run.on(started(), at(MOMENT))), []);
    run
}

/// The command has ended with code 3 and left something behind.
fn lingering() -> Run {
    let mut run = running();
    assert_eq!(done(&run.on(exited(3, 1), at(SECOND))), []);
    run
}

fn giving_up() -> Run {
    let mut run = waiting();
    let actions = run.on(signal(Signal::SIGTERM, Origin::Outside), start());
    assert_eq!(done(&actions), [Action::StopWaiting]);
    run
}

/// Lost for sure after a second, with the lock delay running.
fn ending() -> Run {
    let mut run = running();
    let actions = run.on(lost(Loss::Invalidated), at(SECOND));
    assert_eq!(done(&actions), [Action::End(Some(at(SECOND + GRACE)))]);
    run
}

fn confirming() -> Run {
    let mut run = waiting();
    let old = start() - Duration::from_secs(15);
    assert_eq!(done(&run.on(Event::Acquired(grant(old)), start())), []);
    run
}

fn releasing() -> Run {
    let mut run = running();
    run.on(exited(3, 0), at(SECOND));
    assert_eq!(done(&run.on(gone(at(SECOND)), at(SECOND))), [Action::Release]);
    run
}
