//! The book of a key: its readers, and the last fence of those who share it, be it as readers or in the slots of a
//! semaphore. They take their fences one after the other, with the book locked for that moment. It is a lock file like any
//! other, whose record is the readers, a JSON object a line.
//!
//! Of a reader that was killed the line stays. It counts no more once a writer has had the key, which shows in the key's
//! own file: a greater fence than the book's.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use consul_lock::lock::Key;
use nix::fcntl::FlockArg;
use serde::{Deserialize, Serialize};

use super::dir::{Dir, flock};
use super::{Error, Holder, MAX_TRIES, Part, Try, attempt, file};

/// Most bytes of readers; of more, those that came first are left out, and merely cannot be named.
const MOST: usize = 256 * 1024;

/// A reader who is inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reader {
    run: String,
    value: String,
}

/// The readers of a book that are inside, as far as the key's own file does not tell otherwise.
pub(super) fn readers(book: &File, key: &File) -> io::Result<Vec<Holder>> {
    let readers = if file::fence(key)? > file::fence(book)? { Vec::new() } else { lines(book)? };
    Ok(readers.into_iter().map(|Reader { run, value }| Holder { value, run: Some(run) }).collect())
}

/// A book that is locked until this is dropped.
#[derive(Debug)]
pub(super) struct Book {
    file: File,
}

impl Book {
    /// Waits for it; nobody keeps it for longer than it takes to write it.
    pub(super) fn lock(dir: &Arc<Dir>, key: &Key) -> Result<Self, Error> {
        for _ in 0..MAX_TRIES {
            if let Try::Won(book) = attempt(dir, key, Part::Book, FlockArg::LockExclusive, &AtomicBool::new(false))? {
                return Ok(Self { file: book.file });
            }
        }
        Err(Error::Unsteady(dir.path(key, Part::Book)))
    }

    /// The fence for the holder of a slot, whose file gets it with `value`. Slot 1 is the key, and has no reader beside it.
    pub(super) fn fence_for_slot(&self, slot: &File, is_key: bool, value: &[u8]) -> io::Result<u64> {
        let fence = file::next_fence(file::fence(slot)?.max(file::fence(&self.file)?), file::now());
        let readers = if is_key { Vec::new() } else { lines(&self.file)? };
        self.write(fence, readers)?;
        file::write(slot, fence, value)?;
        Ok(fence)
    }

    /// The fence for a reader, who is written down here. The key's file, which he shares, gets the fence alone.
    pub(super) fn fence_for_reader(&self, key: &File, run: &str, value: &[u8]) -> io::Result<u64> {
        let (last_writers, last) = (file::fence(key)?, file::fence(&self.file)?);
        let mut readers = if last_writers > last { Vec::new() } else { lines(&self.file)? };
        readers.push(Reader { run: run.to_owned(), value: String::from_utf8_lossy(value).into_owned() });
        let fence = file::next_fence(last_writers.max(last), file::now());
        self.write(fence, readers)?;
        file::clear(key, fence)?;
        Ok(fence)
    }

    /// Strikes a reader out.
    pub(super) fn strike_out(&self, run: &str) -> io::Result<()> {
        let (Some(fence), mut readers) = (file::fence(&self.file)?, lines(&self.file)?) else { return Ok(()) };
        readers.retain(|reader| reader.run != run);
        self.write(fence, readers)
    }

    fn write(&self, fence: u64, mut readers: Vec<Reader>) -> io::Result<()> {
        let mut text = String::new();
        // Strings are all there is in them, which JSON refuses none of.
        while let Some(line) = readers.pop().and_then(|reader| serde_json::to_string(&reader).ok()) {
            if text.len() + line.len() >= MOST {
                break;
            }
            text = format!("{line}\n{text}");
        }
        file::write(&self.file, fence, text.as_bytes())
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        let _ = flock(self.file.as_fd(), FlockArg::Unlock);
    }
}

fn lines(book: &File) -> io::Result<Vec<Reader>> {
    let text = file::record(book)?.unwrap_or_default();
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn book(dir: &Path) -> Book {
        let path = dir.join("book");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        Book { file }
    }

    fn runs(book: &Book, key: &File) -> Vec<String> {
        readers(&book.file, key).unwrap().into_iter().filter_map(|holder| holder.run).collect()
    }

    #[test]
    fn readers_come_and_go_and_are_forgotten_after_a_writer() {
        let folder = tempfile::tempdir().unwrap();
        let (book, key) = (book(folder.path()), tempfile::tempfile().unwrap());
        let fences = ["a", "b", "c"].map(|run| book.fence_for_reader(&key, run, b"two\nlines").unwrap());
        assert!(fences.is_sorted_by(|one, next| one < next));
        assert_eq!(runs(&book, &key), ["a", "b", "c"]);
        assert_eq!(readers(&book.file, &key).unwrap()[0].value, "two\nlines");
        assert_eq!((file::fence(&key).unwrap(), file::record(&key).unwrap()), (Some(fences[2]), None));
        book.strike_out("b").unwrap();
        assert_eq!(runs(&book, &key), ["a", "c"]);
        // A slot but the first is held beside readers, and says nothing about them.
        let slot = tempfile::tempfile().unwrap();
        let fence = book.fence_for_slot(&slot, false, b"slot").unwrap();
        assert!(fence > fences[2] && file::record(&slot).unwrap().as_deref() == Some("slot"));
        assert_eq!(runs(&book, &key), ["a", "c"]);
        // A writer takes the key's own fence, without a look at the book.
        file::write(&key, fence + 1, b"writer").unwrap();
        assert_eq!(runs(&book, &key), [""; 0]);
        assert!(book.fence_for_reader(&key, "d", b"").unwrap() > fence + 1);
        assert_eq!(runs(&book, &key), ["d"]);
        // So does the holder of the first slot.
        book.fence_for_slot(&key, true, b"slot").unwrap();
        assert_eq!(runs(&book, &key), [""; 0]);
    }

    #[test]
    fn a_book_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let (book, key) = (book(folder.path()), tempfile::tempfile().unwrap());
        for run in 0..10 {
            book.fence_for_reader(&key, &run.to_string(), &[b'x'; 60_000]).unwrap();
        }
        assert_eq!(runs(&book, &key), ["6", "7", "8", "9"]);
        assert!(book.file.metadata().unwrap().len() < 300_000);
    }
}
