//! Looking at the locks of this machine without touching them: who holds one and who waits for it stands in /proc/locks
//! (proc(5)), and what the holder says about itself in the file. A try with flock(2) would tell as well, but whoever tries
//! has the lock for a moment, and another run that does not wait would find it held.

use std::collections::HashMap;
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
use super::{Locks, file, io_error, is_at, name, system};

/// A lock of this machine as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Somebody holds it. Of a semaphore, this is the first slot.
    pub(crate) held: bool,
    /// What the holder has written about itself, or was told to write; of readers, the last to come.
    pub(crate) record: Option<String>,
    /// The fence of the last holder.
    pub(crate) fence: Option<u64>,
    /// The process that took it, where it can be seen from here.
    pub(crate) holder: Option<i32>,
    /// The processes that wait for it, in the kernel's order.
    pub(crate) waiters: Vec<i32>,
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
    /// The lock as it is at this moment.
    pub(crate) fn look(&self, key: &Key, table: &Table) -> Result<Seen, Error> {
        let path = self.dir.path(key, Part::KEY);
        let Some(file) = self.dir.existing(key, Part::KEY)? else { return Ok(Seen::default()) };
        let owners = table.owners(&file, &path)?;
        let mut record = self.holders(key, 1)?.pop().map(|holder| holder.value);
        // A record without a holder is one that was killed, or one of another pid namespace, which is not listed here.
        let held = owners.holder.or(owners.readers.last().copied());
        let is_held = held.is_some() || record.is_some() && is_held(&file, &path)?;
        if !is_held {
            record = None;
        }
        let fence = file::fence(&file).map_err(|error| io_error(&path, "reading the lock file", &error))?;
        let mut waiters = owners.waiters;
        if let Some(gate) = self.dir.existing(key, Part::Gate)? {
            // The first who waits is at the key already, all others are at its gate.
            waiters.extend(table.owners(&gate, &path)?.waiters);
        }
        Ok(Seen { held: is_held, record, fence, holder: held.filter(|pid| *pid > 0), waiters })
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

    /// Returns as soon as nobody holds the lock, which it has itself then for a moment: the calling thread sleeps in flock(2), for ever if need be, and only the
    /// end of the process ends that.
    pub(crate) fn wait_until_free(&self, key: &Key) -> Result<(), Error> {
        let path = self.dir.path(key, Part::KEY);
        while let Some(file) = self.dir.existing(key, Part::KEY)? {
            flock(file.as_fd(), FlockArg::LockExclusive)
                .map_err(|errno| system(&path, "waiting for the file", errno))?;
            let _ = flock(file.as_fd(), FlockArg::Unlock);
            if is_at(&file, &path)? {
                break;
            }
        }
        Ok(())
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
    use crate::local::Place;
    use consul_lock::lock::Sharing;

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
            assert_eq!((seen.held, seen.record.as_deref(), seen.fence), (true, Some("who"), Some(fence)));
        }
        assert_eq!(locks.keys("").expect("readable"), [key.clone(), long]);
        assert_eq!(locks.keys("a/").expect("readable"), std::slice::from_ref(&key));
        held.release().expect("released");
        let seen = locks.look(&key, &Table::read()).expect("there");
        assert_eq!(seen, Seen { fence: Some(fence), ..Seen::default() });
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
            assert_eq!((seen.held, seen.record.as_deref()), (true, Some("2")));
        }
        assert_eq!(locks.keys("").expect("readable"), std::slice::from_ref(&key), "the other files are no keys");
        readers.into_iter().for_each(|reader| reader.release().expect("released"));
        let seen = locks.look(&key, &Table::read()).expect("there");
        assert_eq!((seen.held, seen.record), (false, None));
    }
}
