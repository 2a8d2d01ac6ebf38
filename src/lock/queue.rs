//! The line of those who wait for a key. Each has an entry `KEY/.queue/SESSION` under a session of its own, and watches
//! only the entry before it; the first watches the key itself. So a release wakes one waiter and not all, and what a
//! hand-over costs does not grow with the number of those who wait. The order is that of the entries' CreateIndex. An
//! entry without a session is a dead waiter's: whoever sees it removes it, since a session that has ended never locks
//! anything again.

use std::collections::HashSet;
use std::time::Duration;

use super::key::Key;
use crate::consul::{Client, Entry, Error, Op, Read, RefusalReason, SessionId, Txn};

/// Flags of an entry in the line, so that nobody takes it for a lock: "clqueue1" in ASCII.
pub const QUEUE_FLAGS: u64 = 0x636c_7175_6575_6531;

/// Our place in the line before a key.
#[derive(Debug)]
pub(super) struct Queue {
    /// `KEY/.queue/`.
    prefix: String,
    /// Our entry's key, once it may be there.
    ticket: Option<String>,
    /// Our entry is there.
    joined: bool,
    /// The line has shown it to us.
    seen: bool,
    /// Nobody can come before us any more.
    first: bool,
    /// Who was before us when we last looked; nothing when that is not known.
    ahead: Option<Ahead>,
    /// Somebody was behind us when we last looked.
    followed: bool,
    /// The token may not write, or not see, what is below the key.
    unusable: bool,
}

/// Those before us. Nobody joins them: whoever comes, comes behind us.
#[derive(Debug, PartialEq)]
pub(super) struct Ahead {
    /// The entries' names in their order, but for the last.
    names: Vec<String>,
    /// The one that is watched.
    last: Entry,
}

/// What became of joining the line.
#[derive(Debug, PartialEq)]
pub(super) enum Joined {
    /// We are in it, here.
    At(Place),
    /// Not with this session, which has ended.
    SessionGone,
    /// Not with this token; it is not tried again. Consul's own words.
    Denied(String),
}

/// Where we are in the line.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// The next one is us.
    First,
    /// So many are before us, and this is the entry of the last of them.
    Behind {
        /// The entry to watch.
        last: Entry,
        /// How many.
        ahead: usize,
    },
    /// Our entry is not there: its session has ended, or the token may not see it.
    Nowhere,
}

impl Queue {
    pub(super) fn new(key: &Key) -> Self {
        Self {
            prefix: format!("{key}/.queue/"),
            ticket: None,
            joined: false,
            seen: false,
            first: false,
            ahead: None,
            followed: false,
            unusable: false,
        }
    }

    /// Whether there is no line for us; then everybody wakes at every release.
    pub(super) fn is_unusable(&self) -> bool {
        self.unusable
    }

    /// Gives up on the line.
    pub(super) fn give_up(&mut self) {
        self.unusable = true;
        self.forget();
    }

    /// Whether we have a place in the line.
    pub(super) fn is_joined(&self) -> bool {
        self.joined
    }

    /// Whether somebody was behind us when we last looked, who gets the lock after us. Still known when our own entry is gone.
    pub(super) fn is_followed(&self) -> bool {
        self.followed
    }

    /// Whether the token may see our entry, so that one that is not there was deleted.
    pub(super) fn was_seen(&self) -> bool {
        self.seen
    }

    /// Our entry is gone.
    pub(super) fn forget(&mut self) {
        self.ticket = None;
        self.joined = false;
        self.seen = false;
        self.first = false;
        self.ahead = None;
    }

    /// The entry before us has changed and is not gone, so that names do not tell where we are.
    pub(super) fn doubt(&mut self) {
        self.ahead = None;
    }

    /// Removes our entry, whose session has ended or is about to. That it fails is all the same: whoever looks next sees
    /// to it; but there may be nobody.
    pub(super) fn abandon(&mut self, client: &Client, timeout: Duration) {
        if let Some(leave) = self.leave() {
            let _ = client.txn(&[leave], timeout);
        }
        self.forget();
    }

    /// Our entry's removal, to go with the transaction that takes the lock.
    pub(super) fn leave(&self) -> Option<Op<'_>> {
        self.ticket.as_deref().map(|key| Op::Delete { key })
    }

    /// Puts our entry at the end of the line, and looks who is before it. Repeating it after a lost answer is harmless: the
    /// key is this session's.
    pub(super) fn join(
        &mut self,
        client: &Client,
        session: &SessionId,
        value: &[u8],
        timeout: Duration,
    ) -> Result<Joined, Error> {
        // Noted before it is sent: whoever gives up after a lost answer has an entry to remove.
        let key = &*self.ticket.insert(format!("{}{session}", self.prefix));
        let lock = Op::Lock { key, session, value, flags: QUEUE_FLAGS };
        match client.txn(&[lock, Op::GetTree { prefix: &self.prefix }], timeout)? {
            Txn::Done(mut entries) => {
                self.joined = true;
                // The first operation answers with our entry, as the second does.
                let line = entries.split_off(entries.len().min(1));
                Ok(Joined::At(self.find(client, line, timeout)))
            }
            Txn::Refused(refusals) => {
                self.forget();
                if refusals.iter().any(|refusal| refusal.reason == RefusalReason::InvalidSession) {
                    return Ok(Joined::SessionGone);
                }
                self.give_up();
                Ok(Joined::Denied(refusals.first().map_or_else(String::new, |refusal| refusal.what.clone())))
            }
        }
    }

    /// Looks where we are. Asks nobody once we are first: who comes later comes behind us. Whoever has seen the line asks
    /// for names alone, unless somebody has left it before his turn.
    pub(super) fn look(&mut self, client: &Client, timeout: Duration) -> Result<Place, Error> {
        if self.first {
            return Ok(Place::First);
        }
        let known = match (self.ahead.take(), &self.ticket) {
            (Some(ahead), Some(ticket)) => match client.names(&self.prefix, Read::Consistent, timeout) {
                Ok(names) => {
                    let length = names.len();
                    again(ahead, &names.into_iter().collect(), ticket).map(|(place, ahead)| (place, ahead, length))
                }
                Err(Error::Denied { .. }) => None,
                Err(error) => return Err(error),
            },
            _ => None,
        };
        match known {
            Some((place, ahead, length)) => Ok(self.take_place(place, ahead, length)),
            None => {
                let line = self.list(client, timeout)?;
                Ok(self.find(client, line, timeout))
            }
        }
    }

    /// The line as it is now. A token that may read the entries and not list them (`enable_key_list_policy`) has them by a
    /// transaction, as [`Queue::join`] has.
    fn list(&self, client: &Client, timeout: Duration) -> Result<Vec<Entry>, Error> {
        match client.list(&self.prefix, Read::Consistent, timeout) {
            Ok(listing) => Ok(listing.entries),
            Err(denied @ Error::Denied { .. }) => {
                match client.txn(&[Op::GetTree { prefix: &self.prefix }], timeout)? {
                    Txn::Done(entries) => Ok(entries),
                    Txn::Refused(_) => Err(denied),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Finds our place in the line as it is now, and removes the dead from it.
    fn find(&mut self, client: &Client, line: Vec<Entry>, timeout: Duration) -> Place {
        let length = line.len();
        let (place, ahead, dead) = place(line, self.ticket.as_deref());
        if !dead.is_empty() {
            remove(client, &dead, timeout);
        }
        self.take_place(place, ahead, length - dead.len())
    }

    /// Notes our place in a line of so many entries.
    fn take_place(&mut self, place: Place, ahead: Option<Ahead>, length: usize) -> Place {
        self.followed = match &place {
            Place::First => length > 1,
            Place::Behind { ahead, .. } => length > ahead + 1,
            Place::Nowhere => false,
        };
        self.ahead = ahead;
        self.first = place == Place::First;
        self.seen |= place != Place::Nowhere;
        place
    }
}

/// Our place by the names that are there now, and those before us; nothing if the last of them has gone before his turn,
/// so that another entry is to be watched.
fn again(mut ahead: Ahead, names: &HashSet<String>, ticket: &str) -> Option<(Place, Option<Ahead>)> {
    if !names.contains(ticket) {
        return Some((Place::Nowhere, None));
    }
    ahead.names.retain(|name| names.contains(name));
    match (names.contains(&ahead.last.key), ahead.names.len()) {
        (true, others) => Some((Place::Behind { last: ahead.last.clone(), ahead: others + 1 }, Some(ahead))),
        (false, 0) => Some((Place::First, None)),
        (false, _) => None,
    }
}

/// Our place among `entries`, those before us, and the entries whose session has ended.
pub(super) fn place(entries: Vec<Entry>, ticket: Option<&str>) -> (Place, Option<Ahead>, Vec<Entry>) {
    let (mut living, dead): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .filter(|entry| entry.flags == QUEUE_FLAGS)
        .partition(|entry| entry.session.is_some() || Some(entry.key.as_str()) == ticket);
    living.sort_by_key(|entry| entry.create_index);
    let Some(ahead) = living.iter().position(|entry| Some(entry.key.as_str()) == ticket) else {
        return (Place::Nowhere, None, dead);
    };
    if living[ahead].session.is_none() {
        return (Place::Nowhere, None, dead);
    }
    living.truncate(ahead);
    match living.pop() {
        Some(last) => {
            let names = living.into_iter().map(|entry| entry.key).collect();
            (Place::Behind { last: last.clone(), ahead }, Some(Ahead { names, last }), dead)
        }
        None => (Place::First, None, dead),
    }
}

/// Removes dead waiters' entries as they were seen. That somebody else does it too, or that it fails, is all the same:
/// whoever looks next sees to it.
fn remove(client: &Client, dead: &[Entry], timeout: Duration) {
    for some in dead.chunks(crate::consul::MAX_OPS) {
        let ops: Vec<_> =
            some.iter().map(|entry| Op::DeleteCas { key: &entry.key, index: entry.modify_index }).collect();
        let _ = client.txn(&ops, timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, create_index: u64, alive: bool) -> Entry {
        let session = alive.then(|| "00000000-0000-0000-0000-000000000001".parse().expect("a session id"));
        let (lock_index, modify_index) = (1, create_index);
        Entry {
            key: name.into(),
            value: Vec::new(),
            flags: QUEUE_FLAGS,
            session,
            lock_index,
            create_index,
            modify_index,
        }
    }

    #[test]
    fn who_came_first_is_first_whatever_the_names_say() {
        let line = || vec![entry("a", 30, true), entry("b", 10, true), entry("c", 20, true)];
        assert_eq!(place(line(), Some("b")).0, Place::First);
        assert_eq!(place(line(), Some("c")).0, Place::Behind { last: entry("b", 10, true), ahead: 1 });
        assert_eq!(place(line(), Some("a")).0, Place::Behind { last: entry("c", 20, true), ahead: 2 });
    }

    #[test]
    fn the_dead_are_passed_over_and_collected() {
        let line = vec![entry("a", 1, false), entry("b", 2, true), entry("c", 3, false), entry("d", 4, true)];
        let (place, _, dead) = place(line, Some("d"));
        assert_eq!(place, Place::Behind { last: entry("b", 2, true), ahead: 1 });
        assert_eq!(dead, [entry("a", 1, false), entry("c", 3, false)]);
    }

    #[test]
    fn without_a_living_entry_of_our_own_we_are_nowhere() {
        assert_eq!(place(vec![entry("a", 1, true)], Some("b")).0, Place::Nowhere);
        assert_eq!(place(vec![entry("b", 1, false)], Some("b")).0, Place::Nowhere);
        assert_eq!(place(Vec::new(), None).0, Place::Nowhere);
    }

    #[test]
    fn names_tell_the_place_unless_the_last_left_before_his_turn() {
        let line = ["a", "b", "c", "me"].iter().zip(1..).map(|(name, index)| entry(name, index, true)).collect();
        let known = || Ahead { names: vec!["a".into(), "b".into()], last: entry("c", 3, true) };
        assert_eq!(place(line, Some("me")).1, Some(known()));
        let look = |names: &[&str]| again(known(), &names.iter().map(|&name| name.to_owned()).collect(), "me");
        let behind = |ahead| Some(Place::Behind { last: entry("c", 3, true), ahead });
        assert_eq!(look(&["a", "b", "c", "me", "new"]).map(|found| found.0), behind(3));
        assert_eq!(look(&["b", "c", "me"]).map(|found| found.0), behind(2));
        assert_eq!(look(&["c", "me"]), behind(1).map(|place| (place, Some(Ahead { names: Vec::new(), ..known() }))));
        assert_eq!(look(&["me", "new"]), Some((Place::First, None)));
        assert_eq!(look(&["a", "me"]), None);
        assert_eq!(look(&["a", "b", "c"]), Some((Place::Nowhere, None)));
    }

    #[test]
    fn whoever_is_followed_knows_it_even_when_his_own_entry_is_gone() {
        let mut queue = Queue::new(&"k".parse().expect("a key"));
        let behind = |ahead| Place::Behind { last: entry("a", 1, true), ahead };
        for (place, length, followed) in
            [(behind(2), 3, false), (behind(2), 4, true), (Place::First, 1, false), (Place::First, 2, true)]
        {
            queue.take_place(place, None, length);
            queue.forget();
            assert_eq!(queue.is_followed(), followed, "{length}");
        }
    }

    #[test]
    fn what_is_no_entry_of_ours_is_not_counted() {
        let stranger = Entry { flags: 0, ..entry("a", 1, false) };
        let (place, _, dead) = place(vec![stranger, entry("b", 2, true)], Some("b"));
        assert_eq!(place, Place::First);
        assert!(dead.is_empty());
    }
}
