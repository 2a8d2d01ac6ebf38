//! The protocol of readers and writers against a Consul on paper: clients step in any interleaving, sessions end at any
//! step, and the lock delay is tested when a request is sent but not when it is carried out, as Consul's leader does it.
//! What the clients send and how they read an answer is the real code's. A client that lost its session does not know,
//! and works on until its lock delay is over.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::key::Key;
use super::super::queue::{Place, QUEUE_FLAGS, place};
use super::super::standing::{LOCK_FLAGS, Standing};
use super::*;
use crate::consul::{Op, SessionId};

/// Keys, sessions and lock delays, as one server keeps them.
#[derive(Default)]
struct Consul {
    now: u64,
    index: u64,
    entries: BTreeMap<String, Entry>,
    /// With their lock delays.
    sessions: BTreeMap<SessionId, u64>,
    /// Until when nobody gets a key.
    delays: BTreeMap<String, u64>,
}

impl Consul {
    fn open(&mut self, delay: u64) -> SessionId {
        self.index += 1;
        let id: SessionId = format!("00000000-0000-0000-0000-{:012x}", self.index).parse().expect("a session id");
        self.sessions.insert(id.clone(), delay);
        id
    }

    /// Ends a session by itself, behavior "release".
    fn end(&mut self, session: &SessionId) {
        let Some(delay) = self.sessions.remove(session) else { return };
        self.index += 1;
        for entry in self.entries.values_mut().filter(|entry| entry.session.as_ref() == Some(session)) {
            entry.session = None;
            entry.modify_index = self.index;
            self.delays.insert(entry.key.clone(), self.now + delay);
        }
    }

    fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    fn below(&self, prefix: &str) -> Vec<Entry> {
        self.entries.values().filter(|entry| entry.key.starts_with(prefix)).cloned().collect()
    }

    /// What is looked at when a request comes in: no key may be under a lock delay, nor any session be gone.
    fn admits(&self, ops: &[Op<'_>]) -> bool {
        ops.iter().all(|op| match op {
            Op::Lock { key, session, .. } => {
                self.sessions.contains_key(*session) && self.delays.get(*key).is_none_or(|until| *until <= self.now)
            }
            _ => true,
        })
    }

    /// Carries out all operations or none; the entries that the answer would have.
    fn apply(&mut self, ops: &[Op<'_>]) -> Option<Vec<Entry>> {
        let (before, index) = (self.entries.clone(), self.index);
        self.index += 1;
        let mut answer = Vec::new();
        for op in ops {
            if !self.apply_one(op, &mut answer) {
                (self.entries, self.index) = (before, index);
                return None;
            }
        }
        Some(answer)
    }

    fn apply_one(&mut self, op: &Op<'_>, answer: &mut Vec<Entry>) -> bool {
        match *op {
            Op::CheckNotExists { key } => self.get(key).is_none(),
            Op::CheckIndex { key, index } => self.get(key).is_some_and(|entry| entry.modify_index == index),
            Op::CheckSession { key, session } => {
                self.get(key).is_some_and(|entry| entry.session.as_ref() == Some(session))
            }
            Op::Delete { key } => {
                self.entries.remove(key);
                true
            }
            Op::GetTree { prefix } => {
                answer.extend(self.below(prefix));
                true
            }
            Op::Lock { key, session, value, flags } => {
                let old = self.get(key);
                let holder = old.and_then(|entry| entry.session.as_ref());
                if !self.sessions.contains_key(session) || holder.is_some_and(|holder| holder != session) {
                    return false;
                }
                let (create_index, lock_index) =
                    old.map_or((self.index, 1), |entry| (entry.create_index, entry.lock_index));
                let entry = Entry {
                    key: key.into(),
                    value: value.into(),
                    flags,
                    session: Some(session.clone()),
                    lock_index,
                    create_index,
                    modify_index: self.index,
                };
                answer.push(entry.clone());
                self.entries.insert(key.into(), entry);
                true
            }
            _ => unreachable!("the protocol has no {op:?}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Doing {
    /// Wants the lock; has read nothing that counts.
    Looks,
    /// The key was read as this, and the request to take it was let in.
    Asks(Standing),
    /// A writer has the key and waits for these readers; the first one may be taken over already.
    Drains(Vec<Entry>, bool),
    Works,
    Done,
}

struct Client {
    shared: bool,
    delay: u64,
    session: SessionId,
    queued: bool,
    doing: Doing,
}

/// Work under a session that has ended.
struct Afterlife {
    shared: bool,
    until: u64,
}

struct World {
    key: Key,
    consul: Consul,
    clients: Vec<Client>,
    afterlives: Vec<Afterlife>,
}

impl World {
    fn new(kinds: &[(bool, u64)]) -> Self {
        let mut consul = Consul::default();
        let clients = kinds
            .iter()
            .map(|&(shared, delay)| {
                let session = consul.open(delay);
                Client { shared, delay, session, queued: false, doing: Doing::Looks }
            })
            .collect();
        Self { key: "k".parse().expect("a key"), consul, clients, afterlives: Vec::new() }
    }

    fn ticket(&self, number: usize) -> String {
        format!("k/.queue/{}", self.clients[number].session)
    }

    /// Whether it is this client's turn to look at the key: first in line, or not in line at all.
    fn has_turn(&mut self, number: usize) -> bool {
        if !self.clients[number].queued {
            return true;
        }
        let (place, dead) = place(self.consul.below("k/.queue/"), Some(&self.ticket(number)));
        for entry in dead {
            self.consul.entries.remove(&entry.key);
        }
        if place == Place::Nowhere {
            self.clients[number].queued = false;
        }
        matches!(place, Place::First | Place::Nowhere)
    }

    /// The session is gone, as the client has just learnt: all over again with a new one.
    fn start_over(&mut self, number: usize) {
        let ticket = self.ticket(number);
        self.consul.entries.remove(&ticket);
        let session = self.consul.open(self.clients[number].delay);
        let client = &mut self.clients[number];
        *client = Client { session, queued: false, doing: Doing::Looks, ..*client };
    }

    fn step(&mut self, number: usize) {
        let session = self.clients[number].session.clone();
        if matches!(self.clients[number].doing, Doing::Looks | Doing::Asks(_))
            && !self.consul.sessions.contains_key(&session)
        {
            return self.start_over(number);
        }
        let next = match self.clients[number].doing.clone() {
            Doing::Looks => self.look(number),
            Doing::Asks(standing) => self.ask(number, &standing),
            Doing::Drains(readers, taken) => self.drain(number, readers, taken),
            Doing::Works => self.finish(number),
            Doing::Done => Doing::Done,
        };
        self.clients[number].doing = next;
    }

    fn look(&mut self, number: usize) -> Doing {
        if !self.has_turn(number) {
            return Doing::Looks;
        }
        let session = self.clients[number].session.clone();
        match Standing::of(self.consul.get("k"), &session) {
            Standing::Held(_) => {
                if !self.clients[number].queued {
                    let ticket = self.ticket(number);
                    let join = Op::Lock { key: &ticket, session: &session, value: b"", flags: QUEUE_FLAGS };
                    assert!(self.consul.admits(&[join]) && self.consul.apply(&[join]).is_some());
                    self.clients[number].queued = true;
                }
                Doing::Looks
            }
            standing => {
                let readers = Readers::of(&self.key, &session);
                let ops = take(&readers, self.clients[number].shared, &standing, &session);
                if self.consul.admits(&ops) { Doing::Asks(standing) } else { Doing::Looks }
            }
        }
    }

    fn ask(&mut self, number: usize, standing: &Standing) -> Doing {
        let (shared, session, ticket) =
            (self.clients[number].shared, self.clients[number].session.clone(), self.ticket(number));
        let readers = Readers::of(&self.key, &session);
        let mut ops = take(&readers, shared, standing, &session);
        ops.push(Op::Delete { key: &ticket });
        match self.consul.apply(&ops) {
            None => Doing::Looks,
            Some(entries) => {
                self.clients[number].queued = false;
                if shared { Doing::Works } else { Doing::Drains(readers.inside(&entries), false) }
            }
        }
    }

    fn drain(&mut self, number: usize, mut readers: Vec<Entry>, taken: bool) -> Doing {
        let session = self.clients[number].session.clone();
        let Some(reader) = readers.first().cloned() else {
            // The last confirmation, which the lease begins with.
            let check = Op::CheckSession { key: "k", session: &session };
            if self.consul.apply(&[check]).is_some() {
                return Doing::Works;
            }
            self.start_over(number);
            return Doing::Looks;
        };
        if taken {
            let ops = clear(&reader, &session);
            if self.consul.admits(&ops) && self.consul.apply(&ops).is_some() {
                readers.remove(0);
                return Doing::Drains(readers, false);
            }
        }
        match self.consul.get(&reader.key).cloned() {
            None => {
                readers.remove(0);
                Doing::Drains(readers, false)
            }
            Some(dead) if dead.session.is_none() => {
                let ops = bury(&dead, &session);
                let taken = self.consul.admits(&ops) && self.consul.apply(&ops).is_some();
                if !self.consul.sessions.contains_key(&session) {
                    self.start_over(number);
                    return Doing::Looks;
                }
                Doing::Drains(readers, taken)
            }
            // While it waits, it sees to it that the key is still its own.
            Some(_) if self.consul.sessions.contains_key(&session) => Doing::Drains(readers, taken),
            Some(_) => {
                self.start_over(number);
                Doing::Looks
            }
        }
    }

    fn finish(&mut self, number: usize) -> Doing {
        let client = &self.clients[number];
        let session = client.session.clone();
        if client.shared {
            self.consul.apply(&Readers::of(&self.key, &session).go(&session));
        } else {
            self.consul.apply(&[Op::CheckSession { key: "k", session: &session }, Op::Delete { key: "k" }]);
        }
        self.consul.end(&session);
        Doing::Done
    }

    fn lose(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if !self.consul.sessions.contains_key(&client.session) {
            return;
        }
        self.consul.end(&client.session);
        if client.doing == Doing::Works {
            self.afterlives.push(Afterlife { shared: client.shared, until: self.consul.now + client.delay });
            client.doing = Doing::Done;
        }
    }

    /// Never a writer at work together with anybody else.
    fn check(&self) -> Result<(), TestCaseError> {
        let alive = self.clients.iter().filter(|client| client.doing == Doing::Works).map(|client| client.shared);
        let dead = self.afterlives.iter().filter(|life| life.until > self.consul.now).map(|life| life.shared);
        let at_work: Vec<bool> = alive.chain(dead).collect();
        prop_assert!(at_work.len() <= 1 || at_work.iter().all(|shared| *shared), "readers, writers: {at_work:?}");
        Ok(())
    }
}

/// The operations that take the key, for a reader or a writer.
fn take<'a>(readers: &'a Readers, shared: bool, standing: &Standing, session: &'a SessionId) -> Vec<Op<'a>> {
    if shared {
        return readers.enter("k", standing, session, b"");
    }
    let lock = Op::Lock { key: "k", session, value: b"", flags: LOCK_FLAGS };
    [standing.check("k"), lock].into_iter().chain(readers.look()).collect()
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Step(usize),
    Lose(usize),
    Wait(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0..6_usize).prop_map(Event::Step),
        2 => (0..6_usize).prop_map(Event::Lose),
        2 => (1..3_u64).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_writer_works_beside_anybody_and_everybody_comes_to_an_end(
        kinds in proptest::collection::vec((any::<bool>(), 2..6_u64), 2..6),
        events in proptest::collection::vec(any_event(), 0..120),
    ) {
        let mut world = World::new(&kinds);
        for event in events {
            match event {
                Event::Step(number) if number < kinds.len() => world.step(number),
                Event::Lose(number) if number < kinds.len() => world.lose(number),
                Event::Wait(time) => world.consul.now += time,
                Event::Step(_) | Event::Lose(_) => {}
            }
            world.check()?;
        }
        // Nothing dies any more: whoever lives has had the lock after a while, and nothing of his is left.
        for _ in 0..100 {
            for number in 0..kinds.len() {
                world.step(number);
                world.check()?;
            }
            world.consul.now += 1;
        }
        prop_assert!(world.clients.iter().all(|client| client.doing == Doing::Done), "somebody waits for ever");
        let held: Vec<_> = world.consul.entries.values().filter(|entry| entry.session.is_some()).collect();
        prop_assert!(held.is_empty(), "{held:?}");
        let in_line = world.consul.below("k/.queue/");
        prop_assert!(in_line.is_empty(), "{in_line:?}");
    }
}
