//! Looking at the locks of this machine without touching them: who holds one and who waits for it stands in /proc/locks
//! (proc(5)), and what the holder says about itself in the file. A try with flock(2) would tell as well, but whoever tries
//! has the lock for a moment, and another run that does not wait would find it held.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use consul_lock::lock::Key;
use nix::errno::Errno;
use nix::fcntl::FlockArg;
use nix::sys::stat::{fstat, major, minor};

use super::dir::flock;
use super::error::Error;
use super::name::Part;
use super::{Locks, MAX_SLOTS, file, io_error, is_at, name, system};

/// A lock of this machine as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Its slots that somebody holds, in their order; the first is the key itself.
    pub(crate) holdings: Vec<Holding>,
    /// The processes that wait for it, in the kernel's order.
    pub(crate) waiters: Vec<i32>,
}

/// A slot of a lock that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Which one, counted from 1.
    pub(crate) slot: u16,
    /// What the holder has written about itself, or was told to write; of readers, the last to come.
    pub(crate) record: Option<String>,
    /// The fence of the last holder.
    pub(crate) fence: Option<u64>,
    /// The process that took it, where it can be seen from here.
    pub(crate) process: Option<i32>,
}

/// The kernel's list of locks at one moment.
#[derive(Debug, Default)]
pub(crate) struct Table(HashMap<String, Owners>);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Owners {
    holder: Option<i32>,
    readers: Vec<i32>,
    waiters: Vec<i32>,
}

impl Table {
    /// Reads it; empty where the kernel has none to show.
    pub(crate) fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/locks").unwrap_or_default())
    }

    /// `1: FLOCK  ADVISORY  WRITE 816 fe:00:10125793 0 EOF`, and with `->` after the number for each that waits.
    fn parse(text: &str) -> Self {
        let mut table: HashMap<String, Owners> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split_whitespace().skip(1).peekable();
            let waits = words.next_if_eq(&"->").is_some();
            let [Some("FLOCK"), Some(_), Some(access), Some(pid), Some(file)] = [(); 5].map(|()| words.next()) else {
                continue;
            };
            let Ok(pid) = pid.parse() else { continue };
            let owners = table.entry(file.to_owned()).or_default();
            match (waits, access) {
                (true, _) => owners.waiters.push(pid),
                (false, "WRITE") => owners.holder = Some(pid),
                (false, _) => owners.readers.push(pid),
            }
        }
        Self(table)
    }

    fn owners(&self, file: &File, path: &Path) -> Result<Owners, Error> {
        let status = fstat(file).map_err(|errno| system(path, "reading its status", errno))?;
        let name = format!("{:02x}:{:02x}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino);
        Ok(self.0.get(&name).cloned().unwrap_or_default())
    }
}

impl Locks {
    /// The lock as it is at this moment, with all its slots.
    pub(crate) fn look(&self, key: &Key, table: &Table) -> Result<Seen, Error> {
        let mut seen = Seen::default();
        for slot in 1..=MAX_SLOTS {
            let path = self.dir.path(key, Part::Slot(slot));
            let Some(file) = self.dir.existing(key, Part::Slot(slot))? else { continue };
            let owners = table.owners(&file, &path)?;
            seen.waiters.extend(&owners.waiters);
            seen.holdings.extend(self.holding(key, slot, &file, &owners)?);
            if slot == 1
                && let Some(gate) = self.dir.existing(key, Part::Gate)?
            {
                // The first who waits is at the key already, all others are at its gate.
                seen.waiters.extend(table.owners(&gate, &path)?.waiters);
            }
        }
        // Whoever waits for a semaphore waits for each of its slots.
        let mut known = HashSet::new();
        seen.waiters.retain(|pid| known.insert(*pid));
        Ok(seen)
    }

    fn holding(&self, key: &Key, slot: u16, file: &File, owners: &Owners) -> Result<Option<Holding>, Error> {
        let path = self.dir.path(key, Part::Slot(slot));
        let record = self.holders(key, slot)?.pop().map(|holder| holder.value);
        // A record without a holder is one that was killed, or one of another pid namespace, which is not listed here.
        let process = owners.holder.or(owners.readers.last().copied());
        if process.is_none() && !(record.is_some() && is_held(file, &path)?) {
            return Ok(None);
        }
        let fence = file::fence(file).map_err(|error| io_error(&path, "reading the lock file", &error))?;
        Ok(Some(Holding { slot, record, fence, process: process.filter(|pid| *pid > 0) }))
    }

    /// The keys that have a file here and begin with `prefix`, in their order.
    pub(crate) fn keys(&self, prefix: &str) -> Result<Vec<Key>, Error> {
        let mut found = Vec::new();
        collect(self.dir.root(), &mut Vec::new(), &mut found)?;
        let mut keys: Vec<Key> = found.iter().filter_map(|key| key.parse().ok()).collect();
        keys.retain(|key| key.as_str().starts_with(prefix));
        keys.sort();
        Ok(keys)
    }

    /// Returns as soon as nobody holds the lock or any slot of it, which it has itself then for a moment: the calling
    /// thread sleeps in flock(2), for ever if need be, and only the end of the process ends that.
    pub(crate) fn wait_until_free(&self, key: &Key) -> Result<(), Error> {
        let mut slot = 1;
        loop {
            let path = self.dir.path(key, Part::Slot(slot));
            let file = self.dir.existing(key, Part::Slot(slot))?;
            if let Some(file) = &file {
                flock(file.as_fd(), FlockArg::LockExclusive)
                    .map_err(|errno| system(&path, "waiting for the file", errno))?;
                if !is_at(file, &path)? {
                    continue;
                }
            }
            // While this one cannot be taken again, or all might have been held all the time. The descriptor's end unlocks it.
            let seen = self.look(key, &Table::read())?;
            match seen.holdings.iter().find(|holding| holding.slot != slot) {
                Some(other) => slot = other.slot,
                None => return Ok(()),
            }
        }
    }
}

fn is_held(file: &File, path: &Path) -> Result<bool, Error> {
    match flock(file.as_fd(), FlockArg::LockExclusiveNonblock) {
        Ok(()) => {
            let _ = flock(file.as_fd(), FlockArg::Unlock);
            Ok(false)
        }
        Err(Errno::EWOULDBLOCK) => Ok(true),
        Err(errno) => Err(system(path, "looking at the lock", errno)),
    }
}

/// Adds the keys of the files in `dir`, which is reached by these chunks.
fn collect(dir: &Path, chunks: &mut Vec<String>, found: &mut Vec<String>) -> Result<(), Error> {
    let failed = |error| io_error(dir, "reading the directory", &error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && name::is_directory(&name) {
            chunks.push(name);
            collect(&entry.path(), chunks, found)?;
            chunks.pop();
        } else if kind.is_file() {
            found.extend(name::key(chunks, &name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::{Held, Place};
    use consul_lock::lock::{Limit, Sharing};

    #[test]
    fn the_kernels_list_tells_holders_from_waiters() {
        let text = "1: FLOCK  ADVISORY  WRITE 816 fe:00:1125 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 814 fe:00:1125 0 EOF\n\
            1: -> FLOCK  ADVISORY  READ 17 fe:00:1125 0 EOF\n2: FLOCK  ADVISORY  READ 9 fe:00:77 0 EOF\n\
            3: POSIX  ADVISORY  WRITE 5 fe:00:78 0 EOF\n4: OFDLCK ADVISORY  READ -1 00:06:1 0 EOF\n\nnonsense\n5: FLOCK\n";
        let table = Table::parse(text);
        assert_eq!(table.0["fe:00:1125"], Owners { holder: Some(816), readers: vec![], waiters: vec![814, 17] });
        assert_eq!(table.0["fe:00:77"], Owners { readers: vec![9], ..Owners::default() });
        assert_eq!(table.0.len(), 2);
    }

    #[test]
    fn a_lock_is_seen_without_being_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let locks = Locks::open(Place::Dir(folder.path().to_owned()), false).expect("usable");
        let key: Key = "a/b".parse().expect("a key");
        let long: Key = "x".repeat(300).parse().expect("a key");
        assert_eq!(locks.look(&key, &Table::read()).expect("no file"), Seen::default());
        let mut held = locks.try_lock(&key, Sharing::Exclusive).expect("usable").expect("free");
        let fence = held.take_fence("1", b"who").expect("written");
        let _other = locks.try_lock(&long, Sharing::Exclusive).expect("usable").expect("free");
        // With the kernel's list, and without one.
        for table in [Table::read(), Table::default()] {
            let seen = locks.look(&key, &table).expect("there");
            let [holding] = seen.holdings.as_slice() else { panic!("{seen:?}") };
            assert_eq!((holding.slot, holding.record.as_deref(), holding.fence), (1, Some("who"), Some(fence)));
        }
        assert_eq!(locks.keys("").expect("readable"), [key.clone(), long]);
        assert_eq!(locks.keys("a/").expect("readable"), std::slice::from_ref(&key));
        held.release().expect("released");
        assert_eq!(locks.look(&key, &Table::read()).expect("there"), Seen::default());
        locks.wait_until_free(&key).expect("free");
    }

    #[test]
    fn readers_are_seen_as_the_last_of_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let locks = Locks::open(Place::Dir(folder.path().to_owned()), false).expect("usable");
        let key: Key = "a".parse().expect("a key");
        let mut readers = [(); 2].map(|()| locks.try_lock(&key, Sharing::Shared).expect("usable").expect("shared"));
        for (run, reader) in ["1", "2"].into_iter().zip(&mut readers) {
            reader.take_fence(run, run.as_bytes()).expect("written");
        }
        for table in [Table::read(), Table::default()] {
            let seen = locks.look(&key, &table).expect("there");
            assert_eq!(seen.holdings.iter().map(|one| one.record.as_deref()).collect::<Vec<_>>(), [Some("2")]);
        }
        assert_eq!(locks.keys("").expect("readable"), std::slice::from_ref(&key), "the other files are no keys");
        readers.into_iter().for_each(|reader| reader.release().expect("released"));
        assert_eq!(locks.look(&key, &Table::read()).expect("there"), Seen::default());
    }

    #[test]
    fn all_slots_of_a_semaphore_are_seen_and_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let locks = Locks::open(Place::Dir(folder.path().to_owned()), false).expect("usable");
        let key: Key = "a".parse().expect("a key");
        let limit = Sharing::Limit(Limit::new(3).expect("not 0"));
        let mut slots = [(); 3].map(|()| locks.try_lock(&key, limit).expect("usable").expect("free"));
        slots.sort_by_key(Held::slot);
        for (run, slot) in ["1", "2", "3"].into_iter().zip(&mut slots) {
            slot.take_fence(run, run.as_bytes()).expect("written");
        }
        let [first, second, third] = slots;
        first.release().expect("released");
        for table in [Table::read(), Table::default()] {
            let seen = locks.look(&key, &table).expect("there");
            let holdings: Vec<_> = seen.holdings.iter().map(|one| (one.slot, one.record.as_deref())).collect();
            assert_eq!(holdings, [(2, Some("2")), (3, Some("3"))]);
        }
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| locks.wait_until_free(&key));
            third.release().expect("released");
            assert!(!waiting.is_finished(), "the second is held");
            second.release().expect("released");
            waiting.join().expect("ended").expect("free");
        });
        assert_eq!(locks.keys("").expect("readable"), [key]);
    }
}
