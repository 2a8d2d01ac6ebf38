//! What is in a lock file: the last fence in 20 digits, a space, the length of the holder's record in 10, a newline,
//! and the record. Whatever else is found there, after a crash or by somebody's hand, is read as nothing at all: the lock
//! is the flock(2), and a damaged file must not keep the next holder out. Without a stored fence the clock alone makes
//! fences grow.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Length of the line before the record.
const HEADER: usize = 32;

/// Longest record that is read; Consul's own limit on a value.
const MAX_RECORD: usize = 512 * 1024;

/// Replaces fence and record with a single pwrite(2). On an error, for example of a full disk, what was there is lost.
pub(super) fn write(file: &File, fence: u64, record: &[u8]) -> io::Result<()> {
    let mut contents = format!("{fence:020} {:010}\n", record.len()).into_bytes();
    contents.extend_from_slice(record);
    file.write_all_at(&contents, 0)
}

/// Leaves only the fence.
pub(super) fn clear(file: &File, fence: u64) -> io::Result<()> {
    write(file, fence, b"")?;
    file.set_len(HEADER as u64)
}

/// The fence stored last, if there is one.
pub(super) fn fence(file: &File) -> io::Result<Option<u64>> {
    Ok(header(file)?.map(|(fence, _)| fence))
}

/// The record, if there is a whole one.
pub(super) fn record(file: &File) -> io::Result<Option<String>> {
    let Some((_, length)) = header(file)?.filter(|&(_, length)| (1..=MAX_RECORD).contains(&length)) else {
        return Ok(None);
    };
    let mut record = vec![0; length];
    match file.read_exact_at(&mut record, HEADER as u64) {
        Ok(()) => Ok(Some(String::from_utf8_lossy(&record).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn header(file: &File) -> io::Result<Option<(u64, usize)>> {
    let mut header = [0; HEADER];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => Ok(parse(&header)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(header: &[u8; HEADER]) -> Option<(u64, usize)> {
    let line = std::str::from_utf8(header).ok()?.strip_suffix('\n')?;
    let (fence, length) = line.split_at_checked(20)?;
    let length = length.strip_prefix(' ')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(fence) || !digits(length) {
        return None;
    }
    // Users compare fences as signed 64-bit numbers; a larger one was not written by us.
    let fence = fence.parse().ok().filter(|fence| i64::try_from(*fence).is_ok())?;
    Some((fence, length.parse().ok()?))
}

/// The fence after `stored` for a holder that comes at `now`, in microseconds since 1970: greater than any before it on
/// this file, and, should the file be lost, greater than any before it as long as the clock is not set back.
pub(super) fn next_fence(stored: Option<u64>, now: u64) -> u64 {
    stored.map_or(now, |stored| now.max(stored.saturating_add(1)))
}

/// Microseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(contents: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(contents, 0).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let file = with(b"");
        assert_eq!((fence(&file).unwrap(), record(&file).unwrap()), (None, None));
        write(&file, 7, br#"{"host":"a longer record"}"#).unwrap();
        write(&file, 8, br#"{"host":"a"}"#).unwrap();
        assert_eq!(fence(&file).unwrap(), Some(8));
        assert_eq!(record(&file).unwrap().as_deref(), Some(r#"{"host":"a"}"#));
        clear(&file, 8).unwrap();
        assert_eq!((fence(&file).unwrap(), record(&file).unwrap()), (Some(8), None));
        assert_eq!(file.metadata().unwrap().len(), 32);
    }

    #[test]
    fn a_torn_file_is_read_as_far_as_it_is_whole() {
        let whole = with(b"");
        write(&whole, 42, b"record").unwrap();
        let mut bytes = [0; 38];
        whole.read_exact_at(&mut bytes, 0).unwrap();
        for length in 0..bytes.len() {
            let torn = with(&bytes[..length]);
            assert_eq!(fence(&torn).unwrap(), (length >= 32).then_some(42), "{length}");
            assert_eq!(record(&torn).unwrap(), None, "{length}");
        }
    }

    #[test]
    fn what_we_did_not_write_is_nothing() {
        let header = |fence: &str, length: &str| format!("{fence} {length}\nrecord").into_bytes();
        let cases = [
            vec![0; 64],
            vec![0xff; 64],
            b"4711\n".to_vec(),
            header("+0000000000000000001", "0000000006"),
            header("00000000000000000001", "+000000006"),
            header("99999999999999999999", "0000000006"),
            header("18446744073709551615", "0000000006"),
            header("0000000000000000000\u{e9}", "000000006"),
        ];
        for case in cases {
            let file = with(&case);
            assert_eq!((fence(&file).unwrap(), record(&file).unwrap()), (None, None), "{case:?}");
        }
        let endless = with(&header("00000000000000000001", "9999999999"));
        assert_eq!((fence(&endless).unwrap(), record(&endless).unwrap()), (Some(1), None));
    }

    #[test]
    fn a_record_need_not_be_text() {
        let file = with(b"");
        write(&file, 1, b"\xffvalue").unwrap();
        assert_eq!(record(&file).unwrap().as_deref(), Some("\u{fffd}value"));
    }

    proptest! {
        #[test]
        fn no_contents_make_reading_fail(contents in prop::collection::vec(any::<u8>(), 0..100)) {
            let file = with(&contents);
            prop_assert!(fence(&file).is_ok() && record(&file).is_ok());
        }

        #[test]
        fn fences_grow_whatever_the_clock_does(clock in prop::collection::vec(0..1u64 << 62, 1..50)) {
            let mut stored = None;
            for now in clock {
                let fence = next_fence(stored, now);
                prop_assert!(stored.is_none_or(|stored| fence > stored) && fence >= now);
                stored = Some(fence);
            }
        }
    }
}
