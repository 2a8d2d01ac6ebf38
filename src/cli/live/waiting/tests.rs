use super::*;
use std::time::SystemTime;

use consul_lock::lock::Holder;
use proptest::prelude::*;

fn at(seconds: u64) -> Moment {
    Moment::from_boot(Duration::from_secs(seconds))
}

fn record(command: &str, held_for: u64) -> Record {
    let since = SystemTime::now() - Duration::from_millis(held_for * 1000 + 500);
    let [host, user, lock_delay, run, tool] = ["web1", "root", "30s", "r", "t"].map(str::to_owned);
    let acquired_at = humantime::format_rfc3339(since).to_string();
    let record = Record::new(Some(command), Duration::ZERO);
    Record { host, pid: 71, user, acquired_at, lock_delay, run, tool, ..record }
}

fn key() -> Key {
    "k".parse().expect("a key")
}

fn ahead(ahead: usize) -> Note {
    Note::Ahead { key: key(), ahead }
}

fn holder(record: Option<Record>) -> Note {
    let session = "00000000-0000-0000-0000-000000000001".parse().expect("a session id");
    Note::Waiting { key: key(), holder: Holder { session, record: record.map(Box::new) } }
}

fn waiting(key: &str, notes: &[Note]) -> Waiting {
    let key: Key = key.parse().expect("a key");
    let mut waiting = Waiting::new(key.to_string(), at(100), false);
    let of_key = |note: &Note| match note.clone() {
        Note::Waiting { holder, .. } => Note::Waiting { key: key.clone(), holder },
        Note::Ahead { ahead, .. } => Note::Ahead { key: key.clone(), ahead },
        Note::Delayed { left, .. } => Note::Delayed { key: key.clone(), left },
        other => other,
    };
    assert!(notes.iter().all(|note| waiting.on(&of_key(note), at(100))));
    waiting
}

#[test]
fn the_line_says_who_has_it_since_when_and_who_is_before_us() {
    let waiting = waiting("deploy/web", &[holder(Some(record("backup", 130))), ahead(2)]);
    let line = |width| waiting.line(width, at(112));
    assert_eq!(line(100), "waiting 12s for deploy/web, 2 before us; held 2m 10s by backup (pid 71 of root on web1)");
    assert_eq!(line(80), "waiting 12s for deploy/web, 2 before us; held 2m 10s by backup on web1");
    assert_eq!(line(50), "waiting 12s for deploy/web, 2 before us");
    assert_eq!(line(40), "waiting 12s for deploy/web, 2 before us");
    assert_eq!(line(20), "waiting 12s for dep");
    assert_eq!(line(1), "");
}

#[test]
fn a_long_key_loses_its_middle_before_the_holder_is_left_out() {
    let key = "service/eu-central-1/checkout/deploy/leader";
    let waiting = waiting(key, &[holder(Some(record("backup", 5))), ahead(2)]);
    assert_eq!(
        waiting.line(80, at(112)),
        "waiting 12s for service/eu..ploy/leader, 2 before us; held 5s by backup on web1"
    );
    assert_eq!(waiting.line(66, at(112)), "waiting 12s for service/e..oy/leader, 2 before us; held by backup");
}

#[test]
fn a_lock_delay_is_counted_down() {
    let waiting =
        waiting("k", &[holder(None), ahead(0), Note::Delayed { key: key(), left: Some(Duration::from_secs(20)) }]);
    let expected = "waiting 5s for k, next in line; in its last holder's lock delay, 15s at least";
    assert_eq!(waiting.line(80, at(105)), expected);
    assert_eq!(waiting.line(80, at(121)), "waiting 21s for k, next in line; in its last holder's lock delay");
}

#[test]
fn who_is_far_behind_is_told_of_a_number_that_is_a_guess() {
    let mut waiting = waiting("k", &[holder(Some(record("backup", 5))), ahead(30)]);
    let line = |waiting: &Waiting| waiting.line(100, at(100));
    assert_eq!(line(&waiting), "waiting 0s for k, about 30 before us; held 5s by backup (pid 71 of root on web1)");
    assert!(waiting.on(&ahead(4), at(101)) && waiting.on(&holder(Some(record("other", 1))), at(101)));
    assert_eq!(line(&waiting), "waiting 0s for k, 4 before us; held 1s by other (pid 71 of root on web1)");
}

#[test]
fn the_next_of_several_keys_has_a_line_of_its_own() {
    let mut waiting = waiting("a", &[holder(Some(record("backup", 5))), ahead(3)]);
    assert!(waiting.on(&ahead(0), at(101)));
    assert_eq!(waiting.line(80, at(101)), "waiting 1s for k, next in line");
}

#[test]
fn what_is_not_about_waiting_is_none_of_its_business() {
    let mut waiting = waiting("k", &[]);
    assert!(!waiting.on(&Note::Released, at(1)) && !waiting.on(&Note::Retrying("why".into()), at(1)));
}

#[test]
fn a_holder_without_a_record_is_a_session_and_colour_is_for_one_word() {
    let mut waiting = waiting("k", &[holder(None)]);
    let expected = "waiting 0s for k; held by session 00000000-0000-0000-0000-000000000001";
    assert_eq!(waiting.line(80, at(100)), expected);
    waiting.coloured = true;
    assert!(waiting.line(80, at(100)).starts_with("\x1b[36mwaiting\x1b[0m 0s for k"));
}

proptest! {
    #[test]
    fn whatever_a_record_says_the_line_fits_and_paints_nothing(
        command: String, host: String, key in "[^/\\pC]{1,80}", width in 0..200_usize, before in 0..200_usize
    ) {
        let record = Record { host, ..record(&command, 5) };
        let key = key.trim_matches('.');
        prop_assume!(!key.is_empty());
        let line = waiting(key, &[holder(Some(record)), ahead(before)]).line(width, at(200));
        prop_assert!(columns(&line) < width.max(1), "{line:?}");
        prop_assert!(!line.contains(consul_lock::plain::is_active), "{line:?}");
    }
}
