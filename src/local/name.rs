//! The lock file's name for a key. Each byte of the key but `a`–`z`, `0`–`9`, `_`, `-` and `.` is written as `%XX`,
//! capital letters too, since some file systems do not tell them from small ones. The result is cut into chunks of at most
//! [`CHUNK`] bytes, never within a `%XX`; a dot that would begin a chunk is written as `%2E`, so that no chunk is
//! hidden or `..`. All chunks but the last are directories and end in `+`, the last is the file and ends in `.consul-lock`.
//!
//! So different keys have different files: taking the endings off, joining the chunks and undoing the `%XX` gives the
//! key back. And no file has the name of a directory, whatever the keys: a chunk holds no `+`. The file's ending keeps
//! `--local=. yarn` away from somebody's `yarn.lock`.
//!
//! Whatever else a key needs has the file's name with `+` and a word behind it ([`Part`]), which no file and no directory of
//! any key has.

use std::fmt::{self, Display, Formatter, Write};

/// Most bytes of a chunk, without its ending; file systems take 255 (NAME_MAX).
const CHUNK: usize = 200;

/// What a directory's name ends in; it never occurs in a chunk.
const DIRECTORY: &str = "+";

/// What a lock file's name ends in.
const FILE: &str = ".consul-lock";

/// One of a key's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A slot of its semaphore, counted from 1. The first is the key's own file.
    Slot(u16),
    /// What whoever waits for the first slot holds meanwhile.
    Gate,
    /// Where those who share the key are written down.
    Book,
}

impl Part {
    /// The file that is the key's lock.
    pub(super) const KEY: Self = Self::Slot(1);
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(0 | 1) => Ok(()),
            Self::Slot(number) => write!(f, "+{number}"),
            Self::Gate => f.write_str("+gate"),
            Self::Book => f.write_str("+book"),
        }
    }
}

/// The directories below the lock directory, outermost first, and the key's own file in the last of them. The name of
/// another [`Part`] follows from it.
pub(super) fn parts(key: &str) -> (Vec<String>, String) {
    let mut directories = Vec::new();
    let mut chunk = String::new();
    for byte in key.bytes() {
        let plain = matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
        if chunk.len() + if plain { 1 } else { 3 } > CHUNK {
            directories.push(std::mem::take(&mut chunk) + DIRECTORY);
        }
        if plain && !(byte == b'.' && chunk.is_empty()) {
            chunk.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(chunk, "%{byte:02X}");
        }
    }
    (directories, chunk + FILE)
}

/// Whether a directory of this name is one that holds the files of long keys.
pub(super) fn is_directory(name: &str) -> bool {
    name.ends_with(DIRECTORY)
}

/// The key that has this file, if one of ours can have such a name; no other key has the same.
pub(super) fn key(directories: &[String], file: &str) -> Option<String> {
    let mut joined = String::new();
    for directory in directories {
        joined += directory.strip_suffix(DIRECTORY)?;
    }
    joined += file.strip_suffix(FILE)?;
    let mut bytes = Vec::new();
    let mut rest = joined.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(key: &str) -> String {
        let (directories, file) = parts(key);
        directories.iter().chain([&file]).cloned().collect::<Vec<_>>().join("/")
    }

    #[test]
    fn names_are_readable() {
        let cases = [
            ("backup", "backup.consul-lock"),
            ("webhook_receiver/1", "webhook_receiver%2F1.consul-lock"),
            ("a/.b/..c", "a%2F.b%2F..c.consul-lock"),
            (".hidden", "%2Ehidden.consul-lock"),
            ("Müll 100%", "%4D%C3%BCll%20100%25.consul-lock"),
        ];
        for (key, name) in cases {
            assert_eq!(path(key), name);
        }
    }

    #[test]
    fn a_long_key_is_cut_into_directories() {
        let long = "x".repeat(400);
        assert_eq!(path(&long), format!("{0}+/{0}.consul-lock", "x".repeat(200)));
        assert_eq!(path(&long[..200]), format!("{}.consul-lock", "x".repeat(200)));
        // 66 capitals have 198 bytes, and a 67th is not cut in two.
        assert_eq!(path(&"Ä".repeat(34)), format!("{}+/%C3%84.consul-lock", "%C3%84".repeat(33)));
        assert_eq!(parts(&"/".repeat(400)).0.len(), 6);
    }

    #[test]
    fn no_chunk_leads_out_of_the_directory() {
        assert_eq!(path(&("x".repeat(200) + "..")), format!("{}+/%2E..consul-lock", "x".repeat(200)));
        assert_eq!(path(&("x".repeat(200) + ".")), format!("{}+/%2E.consul-lock", "x".repeat(200)));
    }

    #[test]
    fn no_part_of_a_key_has_the_name_of_a_file_or_a_directory_of_any_key() {
        let parts = [Part::Slot(2), Part::Slot(64), Part::Gate, Part::Book];
        for part in parts {
            let name = format!("{}{part}", path("k"));
            assert!(!name.ends_with(FILE) && !name.ends_with(DIRECTORY), "{name}");
        }
        assert_eq!(parts.map(|part| part.to_string()), ["+2", "+64", "+gate", "+book"]);
        assert_eq!(format!("{}{}", path("k"), Part::KEY), "k.consul-lock");
    }

    proptest! {
        #[test]
        fn every_key_has_a_file_of_its_own(
            text in prop_oneof!["\\PC{1,400}", "[.%+a/A]{1,400}", "a{195,205}[.b/]{0,9}"]
        ) {
            let (directories, file) = parts(&text);
            prop_assert_eq!(key(&directories, &file), Some(text));
        }

        #[test]
        fn every_name_is_safe_and_none_is_both_file_and_directory(text in "[.%+a/Aä]{1,400}") {
            let (directories, file) = parts(&text);
            for name in directories.iter().chain([&file]) {
                prop_assert!(name.len() <= CHUNK + FILE.len() && !name.starts_with('.'), "{name}");
                prop_assert!(name.bytes().all(|byte| b"%+.-".contains(&byte) || byte.is_ascii_alphanumeric()), "{name}");
            }
            prop_assert!(!file.contains('+') && directories.iter().all(|name| name.ends_with('+')));
        }

        #[test]
        fn two_keys_share_no_path_and_no_file_is_in_the_way_of_a_directory(
            one in "(x{199,201}|[xX./]{1,9})[./x]{0,3}", other in "(x{199,201}|[xX./]{1,9})[./x]{0,3}"
        ) {
            let (one_path, other_path) = (path(&one).to_lowercase(), path(&other).to_lowercase());
            prop_assert_eq!(one_path == other_path, one == other);
            prop_assert!(!one_path.starts_with(&(other_path + "/")));
        }
    }
}
