use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::dir::flock;
use super::*;
use tempfile::TempDir;

mod sharing;

const RECORD: &[u8] = br#"{"host":"here","pid":1}"#;

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn locks(directory: &TempDir) -> Locks {
    Locks::open(Place::Dir(directory.path().to_owned()), false).unwrap()
}

/// Waits until somebody sleeps in flock(2) on this file: /proc/locks has waiters behind an arrow, and inode numbers.
fn await_waiter(inode: u64) {
    let suffix = format!(":{inode} ");
    let until = Instant::now() + Duration::from_secs(10);
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(|l| l.contains("-> FLOCK") && l.contains(&suffix)) {
        assert!(Instant::now() < until, "nobody waits for inode {inode}");
        sleep(Duration::from_millis(2));
    }
}

/// Whether a lock that was dropped can be had. Not at once: a process that another test is just starting has a copy of
/// every descriptor until it executes.
fn freed(locks: &Locks, text: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    while locks.try_lock(&key(text), Sharing::Exclusive).unwrap().is_none() {
        if Instant::now() > until {
            return false;
        }
        sleep(Duration::from_millis(2));
    }
    true
}

/// A process that shares the lock through its standard input, and lives until it is killed.
fn sharer(held: &Held) -> Child {
    let shared = held.descriptor().try_clone_to_owned().unwrap();
    Command::new("sleep").arg("1000").stdin(Stdio::from(shared)).spawn().unwrap()
}

#[test]
fn two_descriptions_exclude_each_other() {
    let dir = TempDir::new().unwrap();
    let (ours, theirs) = (locks(&dir), locks(&dir));
    let held = ours.try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap();
    assert!(theirs.try_lock(&key("a"), Sharing::Exclusive).unwrap().is_none());
    assert!(ours.try_lock(&key("a"), Sharing::Exclusive).unwrap().is_none());
    assert!(theirs.try_lock(&key("a/b"), Sharing::Exclusive).unwrap().is_some());
    held.release().unwrap();
    assert!(theirs.try_lock(&key("a"), Sharing::Exclusive).unwrap().is_some());
}

#[test]
fn a_dropped_lock_that_nobody_shares_is_free() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    drop(locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap());
    assert!(freed(&locks, "a"));
}

#[test]
fn keys_that_look_alike_are_different_locks() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    let long = "x".repeat(400);
    let keys = ["a", "A", "a/b", "a%2Fb", "a%2fb", &long[..199], &long[..200], &long[..201], &long[..399], &long];
    let held: Vec<_> =
        keys.iter().map(|text| locks.try_lock(&key(text), Sharing::Exclusive).unwrap().unwrap()).collect();
    for text in keys {
        assert!(locks.try_lock(&key(text), Sharing::Exclusive).unwrap().is_none(), "{text}");
    }
    assert_eq!(held.len(), keys.len());
}

#[test]
fn the_longest_keys_can_be_locked() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    for text in ["/a".repeat(200).split_off(1), "Ä".repeat(200), "x".repeat(200) + &".".repeat(200)] {
        let mut held = locks.try_lock(&key(&text), Sharing::Exclusive).unwrap().unwrap();
        held.take_fence("run", RECORD).unwrap();
        assert_eq!(locks.holders(&key(&text), 1).unwrap()[0].value.as_bytes(), RECORD);
    }
}

#[test]
fn a_waiter_gets_the_lock_when_it_is_released() {
    let dir = TempDir::new().unwrap();
    let held = locks(&dir).try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap();
    let inode = held.file().0.metadata().unwrap().ino();
    let waiting = locks(&dir);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(waiting.lock(&key("a"), Sharing::Exclusive)));
    await_waiter(inode);
    assert!(receiver.try_recv().is_err());
    held.release().unwrap();
    let won = receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    assert!(locks(&dir).try_lock(&key("a"), Sharing::Exclusive).unwrap().is_none());
    drop(won);
    assert!(freed(&locks(&dir), "a"));
}

#[test]
fn a_waiter_notices_that_the_file_was_deleted_and_waits_for_the_new_one() {
    let dir = TempDir::new().unwrap();
    let locks = Arc::new(locks(&dir));
    let first = locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap();
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::clone(&locks);
    thread::spawn(move || sender.send(waiting.lock(&key("a"), Sharing::Exclusive)));
    await_waiter(first.file().0.metadata().unwrap().ino());
    let path = first.file().1.to_owned();
    fs::remove_file(&path).unwrap();
    assert!(locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().is_none(), "somebody waits");
    // Another program, which knows no gate.
    let second = File::options().read(true).write(true).open(&path).unwrap();
    flock(second.as_fd(), FlockArg::LockExclusive).unwrap();
    let inode = second.metadata().unwrap().ino();
    first.release().unwrap();
    await_waiter(inode);
    assert!(receiver.try_recv().is_err());
    flock(second.as_fd(), FlockArg::Unlock).unwrap();
    let won = receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(won.file().0.metadata().unwrap().ino(), inode);
}

#[test]
fn a_waiter_outlives_the_removal_of_the_directory() {
    let base = TempDir::new().unwrap();
    let path = base.path().join("locks");
    fs::create_dir(&path).unwrap();
    let place = || Place::Dir(path.clone());
    let first = Locks::open(place(), false).unwrap();
    let long = key(&"x".repeat(300));
    let held = first.try_lock(&long, Sharing::Exclusive).unwrap().unwrap();
    let (sender, receiver) = mpsc::channel();
    let (waiting, wanted) = (Locks::open(place(), false).unwrap(), long.clone());
    thread::spawn(move || sender.send(waiting.lock(&wanted, Sharing::Exclusive)));
    await_waiter(held.file().0.metadata().unwrap().ino());
    fs::remove_dir_all(&path).unwrap();
    fs::create_dir(&path).unwrap();
    held.release().unwrap();
    let won = receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    assert!(won.file().1.exists());
    assert!(Locks::open(place(), false).unwrap().try_lock(&long, Sharing::Exclusive).unwrap().is_none());
    // With the directory gone for good there is nothing to lock.
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(first.try_lock(&long, Sharing::Exclusive).unwrap_err(), Error::Missing(path));
}

#[test]
fn the_lock_lives_on_in_a_process_that_shares_it() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    let held = locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap();
    let mut child = sharer(&held);
    drop(held);
    assert!(locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(freed(&locks, "a"));
}

#[test]
fn release_frees_the_lock_whoever_shares_it() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    let held = locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap();
    let mut child = sharer(&held);
    held.release().unwrap();
    assert!(locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn many_threads_are_never_inside_at_once_and_their_fences_grow() {
    let dir = TempDir::new().unwrap();
    let inside = Arc::new(std::sync::Mutex::new(Vec::new()));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (locks, inside) = (locks(&dir), Arc::clone(&inside));
            thread::spawn(move || {
                for _ in 0..50 {
                    let mut held = locks.lock(&key("a/b"), Sharing::Exclusive).unwrap();
                    let mut fences = inside.try_lock().expect("somebody else is inside");
                    fences.push(held.take_fence("run", RECORD).unwrap());
                    drop(fences);
                    held.release().unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let fences = inside.lock().unwrap();
    assert!(fences.len() == 400 && fences.is_sorted_by(|one, next| one < next));
}

#[test]
fn the_holders_record_is_there_while_the_lock_is_held() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    assert_eq!(locks.holders(&key("a"), 1).unwrap(), []);
    assert!(fs::read_dir(&dir).unwrap().next().is_none(), "asking made a file");
    let mut held = locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap();
    assert_eq!(locks.holders(&key("a"), 1).unwrap(), []);
    let fence = held.take_fence("run", RECORD).unwrap();
    assert_eq!(locks.holders(&key("a"), 1).unwrap()[0].value.as_bytes(), RECORD);
    held.release().unwrap();
    assert_eq!(locks.holders(&key("a"), 1).unwrap(), []);
    assert!(locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap().take_fence("run", b"").unwrap() > fence);
}

#[test]
fn a_damaged_file_keeps_nobody_out() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    for damage in [&b"\0\0\0\0"[..], &[0xff; 100], b"99999999999999999999 0000000001\nx", b"0000"] {
        fs::write(dir.path().join("a.consul-lock"), damage).unwrap();
        assert_eq!(locks.holders(&key("a"), 1).unwrap(), []);
        let mut held = locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap();
        let before = file::now();
        assert!(held.take_fence("run", RECORD).unwrap().abs_diff(before) < 1_000_000_000);
        assert_eq!(locks.holders(&key("a"), 1).unwrap()[0].value.as_bytes(), RECORD);
        held.release().unwrap();
    }
}

#[test]
fn a_full_disk_is_told() {
    let dir = TempDir::new().unwrap();
    // A device that is always full stands in for the disk.
    let file = fs::OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    let mut held = Held::exclusive(Locked { file, path: "/dev/full".into(), dir: locks(&dir).dir });
    let error = held.take_fence("run", RECORD).unwrap_err();
    assert!(error.is_config());
    assert!(error.to_string().contains("/dev/full: writing the lock file failed: No space left"), "{error}");
    assert!(error.to_string().contains("make room there"), "{error}");
}

#[test]
fn a_failed_fence_unlocks_even_what_is_shared() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().unwrap().release().unwrap();
    // Opened for reading only, so that every write fails; the lock is as good as any.
    let file = File::open(dir.path().join("a.consul-lock")).unwrap();
    flock(file.as_fd(), FlockArg::LockExclusive).unwrap();
    let path = dir.path().join("a.consul-lock");
    let mut held = Held::exclusive(Locked { file, path, dir: Arc::clone(&locks.dir) });
    let mut child = sharer(&held);
    assert!(locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().is_none());
    assert!(held.take_fence("run", RECORD).is_err());
    assert!(locks.try_lock(&key("a"), Sharing::Exclusive).unwrap().is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_users_directory_may_be_a_link() {
    let dir = TempDir::new().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let held = Locks::open(Place::Dir(link), false).unwrap().try_lock(&key("a"), Sharing::Exclusive).unwrap();
    assert!(Locks::open(Place::Dir(real), false).unwrap().try_lock(&key("a"), Sharing::Exclusive).unwrap().is_none());
    drop(held);
}

#[test]
fn nothing_below_the_directory_may_be_a_link_or_a_pipe() {
    let dir = TempDir::new().unwrap();
    let locks = locks(&dir);
    let outside = TempDir::new().unwrap();
    let target = outside.path().join("target");
    fs::write(&target, "precious").unwrap();
    symlink(&target, dir.path().join("a.consul-lock")).unwrap();
    assert_eq!(
        locks.try_lock(&key("a"), Sharing::Exclusive).unwrap_err(),
        Error::NotFile(dir.path().join("a.consul-lock"))
    );
    assert_eq!(locks.holders(&key("a"), 1).unwrap_err(), Error::NotFile(dir.path().join("a.consul-lock")));
    let chunk = dir.path().join("x".repeat(200) + "+");
    symlink(outside.path(), &chunk).unwrap();
    assert_eq!(locks.try_lock(&key(&"x".repeat(201)), Sharing::Exclusive).unwrap_err(), Error::NotDirectory(chunk));
    assert!(Command::new("mkfifo").arg(dir.path().join("pipe.consul-lock")).status().unwrap().success());
    for error in
        [locks.try_lock(&key("pipe"), Sharing::Exclusive).unwrap_err(), locks.holders(&key("pipe"), 1).unwrap_err()]
    {
        assert_eq!(error, Error::NotFile(dir.path().join("pipe.consul-lock")));
    }
    fs::create_dir(dir.path().join("dir.consul-lock")).unwrap();
    assert_eq!(
        locks.try_lock(&key("dir"), Sharing::Exclusive).unwrap_err(),
        Error::NotFile(dir.path().join("dir.consul-lock"))
    );
    assert_eq!(fs::read_to_string(target).unwrap(), "precious");
}
