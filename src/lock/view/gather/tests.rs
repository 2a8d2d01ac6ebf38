use std::time::Duration;

use super::*;

fn id(number: u32) -> SessionId {
    format!("00000000-0000-0000-0000-{number:012}").parse().expect("a session id")
}

fn entry(key: &str, flags: u64, session: Option<u32>, value: &[u8], index: u64) -> Entry {
    let session = session.map(id);
    let value = value.to_vec();
    Entry { key: key.into(), value, flags, session, lock_index: 1, create_index: index, modify_index: index }
}

fn record(program: &str) -> Record {
    Record::new(Some(program), Duration::from_secs(30))
}

/// What an entry says, so that a test can tell who is who.
fn named(record: Option<&Record>) -> &str {
    record.map_or("-", |record| record.command.as_str())
}

fn held(view: &LockView) -> Vec<(Part, &str)> {
    view.holders.iter().map(|holder| (holder.part, named(holder.record.as_ref()))).collect()
}

fn line(view: &LockView) -> Vec<&str> {
    view.queue.iter().map(|waiter| named(waiter.record.as_ref())).collect()
}

#[test]
fn a_key_with_slots_readers_and_a_line_is_one_lock() {
    let mut limited = serde_json::to_value(record("b")).expect("a record");
    limited["limit"] = 4.into();
    let mut shared = serde_json::to_value(record("later")).expect("a record");
    shared["shared"] = true.into();
    let entries = vec![
        entry("db", LOCK_FLAGS, Some(1), &record("a").to_value(), 10),
        entry("db/.queue/x", QUEUE_FLAGS, Some(8), shared.to_string().as_bytes(), 30),
        entry("db/.queue/y", QUEUE_FLAGS, Some(7), &record("sooner").to_value(), 20),
        entry("db/.queue/z", QUEUE_FLAGS, None, &record("dead").to_value(), 15),
        entry("db/.queue/w", 0, Some(9), b"a stranger's", 16),
        entry("db/.read/q", READ_FLAGS, Some(5), &record("r2").to_value(), 18),
        entry("db/.read/p", LOCK_FLAGS, Some(6), &record("r1").to_value(), 17),
        entry("db/.slot/10", LOCK_FLAGS, None, &record("lost").to_value(), 12),
        entry("db/.slot/2", LOCK_FLAGS, Some(2), limited.to_string().as_bytes(), 11),
        entry("db/.slot/3", LOCK_FLAGS, None, &record("gone").released().to_value(), 12),
    ];
    let view = one("db", entries.clone());
    let readers = [(Part::Reader, "r1"), (Part::Reader, "r2")];
    assert_eq!(held(&view), [&[(Part::Slot(1), "a"), (Part::Slot(2), "b")][..], &readers].concat());
    assert_eq!(line(&view), ["sooner", "later"]);
    assert_eq!((view.limit, view.queue[0].shared, view.queue[1].shared), (10, false, true));
    let lost: Vec<_> = view.lost.iter().map(|lost| (lost.part, lost.record.command.as_str())).collect();
    assert_eq!(lost, [(Part::Slot(10), "lost")]);
    // The stranger's entry is a lock of its own, under its own name.
    let views = all(entries);
    assert_eq!(views.iter().map(|view| view.key.as_str()).collect::<Vec<_>>(), ["db", "db/.queue/w"]);
    assert_eq!(views[0], view);
}

#[test]
fn a_semaphore_of_gos_is_held_by_those_in_its_key_whose_session_lives() {
    let state = format!(r#"{{"Limit":3,"Holders":{{"{}":true,"{}":true,"{}":true}}}}"#, id(1), id(2), id(3));
    let contender = |number, alive: bool, index| {
        entry(&format!("sem/{}", id(number)), SEMAPHORE_FLAGS, alive.then_some(number), b"", index)
    };
    let entries = vec![
        entry("sem/.lock", SEMAPHORE_FLAGS, None, state.as_bytes(), 20),
        contender(1, true, 11),
        contender(2, true, 10),
        contender(3, false, 12),
        contender(4, true, 13),
    ];
    let view = one("sem", entries.clone());
    assert_eq!((view.kind, view.limit, view.queue.len()), (Kind::GoSemaphore, 3, 1));
    assert_eq!(view.holders.iter().map(|holder| holder.session.clone()).collect::<Vec<_>>(), [id(2), id(1)]);
    assert_eq!(all(entries), [view]);
    for nonsense in [&b""[..], b"\xff", b"[]", br#"{"Limit":"x"}"#, br#"{"Limit":2,"Holders":null}"#] {
        assert!(!one("sem", vec![entry("sem/.lock", SEMAPHORE_FLAGS, None, nonsense, 1)]).is_held());
    }
}

#[test]
fn data_is_no_lock_unless_somebody_holds_it() {
    let data =
        vec![entry("config", 0, None, b"x", 1), entry("config/a", 42, None, b"", 2), entry("flag", 0, None, b"", 3)];
    assert_eq!(all(data.clone()), []);
    assert!(one("config", data.clone()).foreign.is_some());
    assert!(one("config/a", data.clone()).foreign.is_some());
    assert_eq!(one("flag", data).foreign, None);
    let curl = entry("config", 0, Some(1), b"x", 1);
    assert_eq!(all(vec![curl.clone()]).len(), 1);
    let view = one("config", vec![curl]);
    assert_eq!((held(&view), view.foreign), (vec![(Part::Slot(1), "-")], None));
    assert_eq!(view.holders[0].program(None), super::super::Program::Other);
}

#[test]
fn whoever_holds_the_lock_does_not_wait_for_it() {
    let winner = record("winner");
    // The line was read before the hand-over and the key after it; the second runs under a session that was given to it.
    for (holder, waiter) in [(1, 1), (2, 3)] {
        let view = one(
            "k",
            vec![
                entry("k", LOCK_FLAGS, Some(holder), &winner.to_value(), 9),
                entry("k/.queue/s", QUEUE_FLAGS, Some(waiter), &winner.to_value(), 5),
            ],
        );
        assert_eq!((view.holders.len(), view.queue.len()), (1, 0));
    }
}

#[test]
fn nothing_is_a_free_lock() {
    assert_eq!(one("k", Vec::new()), empty("k".into(), Kind::Lock));
    let go = one("k", vec![entry("k", LOCK_FLAGS, None, b"a Go program's", 3)]);
    assert_eq!((go.is_held(), go.lost.len(), go.foreign), (false, 0, None));
    // A line before a key that is just being handed over.
    let view = all(vec![entry("k/.queue/s", QUEUE_FLAGS, Some(1), &record("next").to_value(), 3)]);
    assert_eq!((view[0].key.as_str(), line(&view[0])), ("k", vec!["next"]));
}
