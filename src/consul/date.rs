//! Dates as HTTP and X.509 write them, all in UTC. Whole seconds are all that either has.

use std::time::{Duration, SystemTime};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The date of an HTTP header in the one form that is still written: `Sun, 22 Nov 2026 17:51:24 GMT` (RFC 9110,
/// "IMF-fixdate").
pub(super) fn http(text: &str) -> Option<SystemTime> {
    let words: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let clock: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = clock[..] else { return None };
    utc([digits(year)?, month as u64, digits(day)?, digits(hour)?, digits(minute)?, digits(second)?])
}

/// A certificate's `UTCTime`, `YYMMDDHHMMSSZ`, whose years are 1950 to 2049 (RFC 5280, 4.1.2.5.1).
pub(super) fn utc_time(text: &str) -> Option<SystemTime> {
    let century = if digits(text.get(..2)?)? < 50 { "20" } else { "19" };
    generalized_time(&format!("{century}{text}"))
}

/// A certificate's `GeneralizedTime`, `YYYYMMDDHHMMSSZ` (RFC 5280, 4.1.2.5.2).
pub(super) fn generalized_time(text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix('Z').filter(|text| text.len() == 14)?;
    let part = |from, to| digits(text.get(from..to)?);
    utc([part(0, 4)?, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?])
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Year, month, day, hour, minute, second. What was before 1970 is 1970: long ago either way.
fn utc([year, month, day, hour, minute, second]: [u64; 6]) -> Option<SystemTime> {
    if year > 9999 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    if year < 1970 {
        return Some(SystemTime::UNIX_EPOCH);
    }
    // Years that begin with March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    /// From the first of March of the year 0 to 1970.
    const EPOCH: u64 = 719_468;
    let seconds = ((days.checked_sub(EPOCH)? * 24 + hour) * 60 + minute) * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(time: Option<SystemTime>) -> Option<u64> {
        Some(time?.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs())
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(seconds(http("Sun, 22 Nov 2026 17:51:24 GMT")), Some(1_795_369_884));
        assert_eq!(seconds(utc_time("261122175124Z")), Some(1_795_369_884));
        assert_eq!(seconds(generalized_time("20261122175124Z")), Some(1_795_369_884));
        assert_eq!(seconds(utc_time("700101000000Z")), Some(0));
        assert_eq!(seconds(utc_time("500101000000Z")), Some(0));
        assert_eq!(seconds(generalized_time("20240229000000Z")), Some(1_709_164_800));
        assert_eq!(seconds(generalized_time("99991231235959Z")), Some(253_402_300_799));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "now",
            "Sunday, 22-Nov-26 17:51:24 GMT",
            "Sun, 22 Nov 2026 17:51:24 CET",
            "Sun, 22 Nov 2026 25:51:24 GMT",
        ] {
            assert_eq!(http(text), None, "{text}");
        }
        for text in ["", "2", "261122175124", "261322175124Z", "26112217512Z", "ä61122175124Z", "+61122175124Z"] {
            assert_eq!(utc_time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_humantime_writes_is_read_again(at in 0_u64..253_402_300_799) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
            let text = humantime::format_rfc3339_seconds(time).to_string();
            let text: String = text.chars().filter(char::is_ascii_digit).chain(['Z']).collect();
            prop_assert_eq!(generalized_time(&text), Some(time));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = (http(&text), utc_time(&text), generalized_time(&text));
        }
    }
}
