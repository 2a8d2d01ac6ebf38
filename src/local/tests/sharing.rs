//! Readers, writers and semaphores, with threads for processes.

use std::sync::mpsc::Receiver;

use consul_lock::lock::Limit;

use super::*;

const SHARED: Sharing = Sharing::Shared;
const EXCLUSIVE: Sharing = Sharing::Exclusive;

fn limit(slots: u32) -> Sharing {
    Sharing::Limit(Limit::new(slots).unwrap())
}

fn inode(dir: &TempDir, name: &str) -> u64 {
    fs::metadata(dir.path().join(name)).unwrap().ino()
}

/// Starts to wait for the key `a`.
fn wait(dir: &TempDir, sharing: Sharing) -> Receiver<Held> {
    let (locks, (sender, receiver)) = (locks(dir), mpsc::channel());
    thread::spawn(move || sender.send(locks.lock(&key("a"), sharing).unwrap()));
    receiver
}

fn won(receiver: &Receiver<Held>) -> Held {
    receiver.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn has(locks: &Locks, sharing: Sharing) -> Option<Held> {
    locks.try_lock(&key("a"), sharing).unwrap()
}

/// How many wait in flock(2) for the file of this inode.
fn waiters(inode: u64) -> usize {
    let suffix = format!(":{inode} ");
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks.lines().filter(|line| line.contains("-> FLOCK") && line.contains(&suffix)).count()
}

#[test]
fn readers_are_inside_together_and_writers_alone() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    let readers = [has(&locks, SHARED).unwrap(), has(&locks, SHARED).unwrap()];
    assert!(has(&locks, EXCLUSIVE).is_none() && has(&locks, limit(1)).is_none());
    assert!(has(&locks, limit(2)).is_some_and(|held| held.slot() == Some(2)), "a slot of its own is free");
    for reader in readers {
        reader.release().unwrap();
    }
    let writer = has(&locks, EXCLUSIVE).unwrap();
    assert!(has(&locks, SHARED).is_none() && has(&locks, EXCLUSIVE).is_none());
    writer.release().unwrap();
    assert!(has(&locks, SHARED).is_some());
}

#[test]
fn each_has_its_turn_a_waiting_writer_before_later_readers_and_a_waiting_reader_before_later_writers() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    let first = has(&locks, SHARED).unwrap();
    let writer = wait(&dir, EXCLUSIVE);
    await_waiter(inode(&dir, "a.consul-lock"));
    assert!(has(&locks, SHARED).is_none(), "a reader went before a writer who waits");
    let reader = wait(&dir, SHARED);
    await_waiter(inode(&dir, "a.consul-lock+gate"));
    first.release().unwrap();
    let writer = won(&writer);
    assert!(reader.try_recv().is_err());
    // The reader is at the gate or through it, and a writer must not go before him even when the key is free.
    await_waiter(inode(&dir, "a.consul-lock"));
    let next = wait(&dir, EXCLUSIVE);
    await_waiter(inode(&dir, "a.consul-lock+gate"));
    writer.release().unwrap();
    let reader = won(&reader);
    await_waiter(inode(&dir, "a.consul-lock"));
    assert!(next.try_recv().is_err());
    reader.release().unwrap();
    won(&next).release().unwrap();
    assert!(has(&locks, EXCLUSIVE).is_some() && has(&locks, SHARED).is_some());
}

#[test]
fn nobody_goes_before_a_waiter_who_is_just_waking_up() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    // The gate as a waiter has it, who has not yet come to lock the key that has become free.
    drop(has(&locks, SHARED).unwrap().release());
    let gate = File::open(dir.path().join("a.consul-lock+gate")).unwrap();
    flock(gate.as_fd(), FlockArg::LockExclusive).unwrap();
    for sharing in [EXCLUSIVE, SHARED, limit(1)] {
        assert!(has(&locks, sharing).is_none(), "{sharing:?}");
    }
    flock(gate.as_fd(), FlockArg::Unlock).unwrap();
    assert!(has(&locks, EXCLUSIVE).is_some());
}

#[test]
fn a_semaphore_has_as_many_slots_as_its_limit_and_no_waiter_is_left_at_any() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    let mut held: Vec<_> = (0..3).map(|_| has(&locks, limit(3)).unwrap()).collect();
    held.sort_by_key(Held::slot);
    assert_eq!(held.iter().filter_map(Held::slot).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(has(&locks, limit(3)).is_none() && has(&locks, EXCLUSIVE).is_none());
    let files = ["a.consul-lock", "a.consul-lock+2", "a.consul-lock+3"].map(|name| inode(&dir, name));
    for slot in [2, 1, 3] {
        let waiter = wait(&dir, limit(3));
        files.into_iter().for_each(await_waiter);
        let at = held.iter().position(|held| held.slot() == Some(slot)).unwrap();
        held.swap_remove(at).release().unwrap();
        let next = won(&waiter);
        assert_eq!(next.slot(), Some(slot));
        assert_eq!(files.map(waiters), [0; 3], "a thread waits on after its run has a slot");
        held.push(next);
    }
}

#[test]
fn two_slots_that_come_free_at_once_are_never_both_one_waiters() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    for _ in 0..50 {
        let held = [has(&locks, limit(2)).unwrap(), has(&locks, limit(2)).unwrap()];
        let waiter = wait(&dir, limit(2));
        ["a.consul-lock", "a.consul-lock+2"].into_iter().for_each(|name| await_waiter(inode(&dir, name)));
        held.into_iter().for_each(|held| held.release().unwrap());
        let won = won(&waiter);
        let other = has(&locks, limit(2)).expect("the other slot is free");
        assert_ne!(other.slot(), won.slot());
        other.release().unwrap();
        won.release().unwrap();
    }
}

#[test]
fn fences_of_all_who_share_a_key_are_different_and_grow() {
    let dir = TempDir::new().unwrap();
    let fences = Arc::new(std::sync::Mutex::new(Vec::new()));
    let workers: Vec<_> = [SHARED, SHARED, EXCLUSIVE, limit(3), limit(3), limit(3)]
        .into_iter()
        .map(|sharing| {
            let (locks, fences) = (locks(&dir), Arc::clone(&fences));
            thread::spawn(move || {
                let mut last = 0;
                for _ in 0..40 {
                    let mut held = locks.lock(&key("a"), sharing).unwrap();
                    let fence = held.take_fence("run", RECORD).unwrap();
                    assert!(fence > last);
                    last = fence;
                    if sharing != EXCLUSIVE {
                        fences.lock().unwrap().push(fence);
                    }
                    held.release().unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let mut fences = fences.lock().unwrap().clone();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 200);
}

#[test]
fn holders_are_known_while_they_hold() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    let known = |slot| -> Vec<_> {
        locks.holders(&key("a"), slot).unwrap().into_iter().map(|holder| (holder.value, holder.run)).collect()
    };
    let reader = |run: &str| ("reader".to_owned(), Some(run.to_owned()));
    let [mut one, mut other] = [(); 2].map(|()| has(&locks, SHARED).unwrap());
    one.take_fence("1", b"reader").unwrap();
    other.take_fence("2", b"reader").unwrap();
    assert_eq!(known(1), [reader("1"), reader("2")]);
    one.release().unwrap();
    assert_eq!(known(1), [reader("2")]);
    // A reader that was killed: nobody strikes it out, until a writer has been there.
    drop(other);
    let mut writer = wait(&dir, EXCLUSIVE).recv().unwrap();
    writer.take_fence("3", RECORD).unwrap();
    assert_eq!(known(1), [(String::from_utf8_lossy(RECORD).into_owned(), None)]);
    writer.release().unwrap();
    assert_eq!(known(1), []);
    let mut reader_again = has(&locks, SHARED).unwrap();
    reader_again.take_fence("4", b"reader").unwrap();
    assert_eq!(known(1), [reader("4")]);
    let mut slot = has(&locks, limit(2)).unwrap();
    slot.take_fence("5", b"slot").unwrap();
    assert_eq!(known(2), [("slot".to_owned(), None)]);
    assert_eq!(known(1), [reader("4")]);
    slot.release().unwrap();
    assert_eq!(known(2), []);
}
