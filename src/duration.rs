//! Durations as they are typed, as people read them, and as Consul does. The grammar is that of Go's `time.ParseDuration` without a sign
//! (`15s`, `1m30s`, `.5s`, `1.5h`), since that is how Consul and its users write them, and a bare number is seconds,
//! as for flock(1) and timeout(1). Units beyond Go's are refused rather than guessed: `1M` is a month to one crate and
//! a minute to most people.

use std::time::Duration;

use thiserror::Error;

const MICROSECOND: u128 = 1_000;
const MILLISECOND: u128 = 1_000 * MICROSECOND;
const SECOND: u128 = 1_000 * MILLISECOND;
const MINUTE: u128 = 60 * SECOND;
const HOUR: u128 = 60 * MINUTE;

/// Go's longest `time.Duration` in nanoseconds, about 292 years: what we take, Consul can read.
const LONGEST: u128 = i64::MAX as u128;

/// Decimals that can matter: 10^-18 of an hour is far below a nanosecond, which is where Go cuts off as well.
const DECIMALS: usize = 18;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Nothing between the quotes.
    #[error("the duration is empty: write for example 15s, 1m30s or 500ms")]
    Empty,
    /// It begins with `-` or `+`.
    #[error("the duration \"{0}\" has a sign: leave it out")]
    Sign(String),
    /// Something else where a number belongs.
    #[error("the duration \"{text}\" has no number at \"{at}\": write for example 15s, 1m30s or 500ms")]
    NoNumber {
        /// As typed.
        text: String,
        /// The rest that should have begun with a number.
        at: String,
    },
    /// A number without a unit that is not alone.
    #[error(
        "the duration \"{text}\" has a number without a unit, {number}: only a number that stands alone is in seconds"
    )]
    NoUnit {
        /// As typed.
        text: String,
        /// The number.
        number: String,
    },
    /// A unit that is none of Go's.
    #[error("the duration \"{text}\" has the unit \"{unit}\": {hint}")]
    Unit {
        /// As typed.
        text: String,
        /// The unit.
        unit: String,
        /// What to write instead.
        hint: String,
    },
    /// Longer than Go's `time.Duration` can hold.
    #[error("the duration \"{0}\" is longer than 2562047h (292 years), the most that Consul can read")]
    TooLong(String),
}

/// The duration that `text` means; fractions of a nanosecond are dropped.
///
/// # Errors
/// What is wrong with the text, and what to write instead.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let own = || text.to_owned();
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.starts_with(['-', '+']) {
        return Err(DurationError::Sign(own()));
    }
    let mut total: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        if !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(DurationError::NoNumber { text: own(), at: rest.to_owned() });
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let nanos = match unit {
            "" if number.len() == text.len() => SECOND,
            "" => return Err(DurationError::NoUnit { text: own(), number: number.to_owned() }),
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            _ => return Err(DurationError::Unit { text: own(), unit: unit.to_owned(), hint: hint(text, unit) }),
        };
        total = multiply(number, nanos)
            .and_then(|part| total.checked_add(part))
            .filter(|&total| total <= LONGEST)
            .ok_or_else(|| DurationError::TooLong(own()))?;
        rest = next;
    }
    u64::try_from(total).map(Duration::from_nanos).map_err(|_| DurationError::TooLong(own()))
}

/// The digits and at most one point that `text` begins with, and what comes after them.
fn split_number(text: &str) -> (&str, &str) {
    let mut points = 0;
    let end = text.find(|c: char| {
        points += usize::from(c == '.');
        !(c.is_ascii_digit() || c == '.' && points == 1)
    });
    text.split_at(end.unwrap_or(text.len()))
}

/// `number` units of `nanos` each; `None` if it is too large to say.
fn multiply(number: &str, nanos: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = fraction.get(..DECIMALS).unwrap_or(fraction);
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(nanos)?.checked_add(part * nanos / scale)
}

/// What to write instead of `unit`.
fn hint(text: &str, unit: &str) -> String {
    if text.contains(char::is_whitespace) {
        let closed: String = text.split_whitespace().collect();
        if parse(&closed).is_ok() {
            return format!("did you mean {closed}? It is written without spaces");
        }
    }
    let known = match unit.trim().to_lowercase().as_str() {
        "d" | "day" | "days" => "a day is 24h",
        "w" | "week" | "weeks" => "a week is 168h",
        "m" | "min" | "mins" | "minute" | "minutes" => "minutes are m",
        "s" | "sec" | "secs" | "second" | "seconds" => "seconds are s",
        "h" | "hr" | "hrs" | "hour" | "hours" => "hours are h",
        "," => "decimals have a point",
        _ => "there is no such unit",
    };
    format!("{known}; the units are h, m, s, ms, us and ns")
}

/// A duration for a person to read: `1 h 5 m`, `1 m 30 s`, `23.5 s`, `500 ms`. It is rounded to what matters at its
/// size: whole seconds from a minute on, tenths from ten seconds on, else milliseconds or less.
#[must_use]
pub fn show(duration: Duration) -> String {
    let exact = duration.as_nanos();
    let grain = grain(exact);
    let nanos = (exact + grain / 2) / grain * grain;
    if nanos == 0 {
        return "0 s".to_owned();
    }
    if nanos >= MINUTE {
        let parts = [(nanos / HOUR, "h"), (nanos % HOUR / MINUTE, "m"), (nanos % MINUTE / SECOND, "s")];
        let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}"));
        return parts.collect::<Vec<_>>().join(" ");
    }
    let (size, unit) = match nanos {
        SECOND.. => (SECOND, "s"),
        MILLISECOND.. => (MILLISECOND, "ms"),
        MICROSECOND.. => (MICROSECOND, "\u{b5}s"),
        _ => (1, "ns"),
    };
    let digits = usize::try_from(size.ilog10()).unwrap_or(0);
    let decimals = format!("{:0digits$}", nanos % size);
    let decimals = decimals.trim_end_matches('0');
    let point = if decimals.is_empty() { "" } else { "." };
    format!("{}{point}{decimals} {unit}", nanos / size)
}

/// A duration so that Go reads it back (`time.ParseDuration`): in seconds where it is whole seconds, else in milliseconds
/// or nanoseconds.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        _ if nanos.is_multiple_of(SECOND) => format!("{}s", nanos / SECOND),
        _ if nanos.is_multiple_of(MILLISECOND) => format!("{}ms", nanos / MILLISECOND),
        _ => format!("{nanos}ns"),
    }
}

/// What a duration of `nanos` nanoseconds is rounded to for reading, in nanoseconds.
fn grain(nanos: u128) -> u128 {
    match nanos {
        MINUTE.. => SECOND,
        10_000_000_000.. => SECOND / 10,
        SECOND.. => MILLISECOND,
        MILLISECOND.. => MILLISECOND / 10,
        MICROSECOND.. => MICROSECOND / 10,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        let cases = [
            ("0", 0),
            ("5s", 5 * SECOND),
            ("30s", 30 * SECOND),
            ("1478s", 1478 * SECOND),
            ("5.0s", 5 * SECOND),
            ("5.6s", 5 * SECOND + 600 * MILLISECOND),
            ("5.s", 5 * SECOND),
            (".5s", SECOND / 2),
            ("1.s", SECOND),
            ("1.004s", SECOND + 4 * MILLISECOND),
            ("100.00100s", 100 * SECOND + MILLISECOND),
            ("10ns", 10),
            ("11us", 11 * MICROSECOND),
            ("12µs", 12 * MICROSECOND),
            ("12μs", 12 * MICROSECOND),
            ("13ms", 13 * MILLISECOND),
            ("14s", 14 * SECOND),
            ("15m", 15 * MINUTE),
            ("16h", 16 * HOUR),
            ("1.5h", 90 * MINUTE),
            ("3h30m", 3 * HOUR + 30 * MINUTE),
            ("10.5s4m", 4 * MINUTE + 10 * SECOND + SECOND / 2),
            ("1h1h", 2 * HOUR),
            ("1h2m3s4ms5us6ns", HOUR + 2 * MINUTE + 3 * SECOND + 4 * MILLISECOND + 5 * MICROSECOND + 6),
            ("39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14 * SECOND + 425 * MILLISECOND),
            ("0.3333333333333333333h", 20 * MINUTE - 1),
            ("0.100000000000000000000h", 6 * MINUTE),
            ("9223372036854775807ns", LONGEST),
            ("9223372036854775.807us", LONGEST),
            ("9223372036s854ms775us807ns", LONGEST),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text).map(|duration| duration.as_nanos()), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_seconds() {
        for (text, nanos) in [("15", 15 * SECOND), ("1.5", 3 * SECOND / 2), (".25", SECOND / 4), ("2.", 2 * SECOND)] {
            assert_eq!(parse(text).map(|duration| duration.as_nanos()), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_to_write() {
        let cases = [
            ("", "is empty"),
            ("-5s", "has a sign"),
            ("+5s", "has a sign"),
            ("NaN", "no number at \"NaN\""),
            ("inf", "no number at \"inf\""),
            (".", "no number at \".\""),
            (".s", "no number at \".s\""),
            ("s", "no number at \"s\""),
            (" 5s", "no number at \" 5s\""),
            ("1m30", "number without a unit, 30"),
            ("1.5.5s", "number without a unit, 1.5"),
            ("3e", "unit \"e\": there is no such unit; the units are h, m, s, ms, us and ns"),
            ("1e3", "unit \"e\": there is no such unit"),
            ("1d", "unit \"d\": a day is 24h"),
            ("1M", "unit \"M\": minutes are m"),
            ("5min", "unit \"min\": minutes are m"),
            ("1,5s", "unit \",\": decimals have a point"),
            ("15 s", "did you mean 15s?"),
            ("1m 30s", "did you mean 1m30s?"),
            ("1 d", "unit \" d\": a day is 24h"),
            ("9223372036854775808ns", "is longer than"),
            ("2562048h", "is longer than"),
            ("99999999999999999999999999999999999999999s", "is longer than"),
            ("9223372036854775807ns1ns", "is longer than"),
        ];
        for (text, part) in cases {
            let message = parse(text).map_err(|error| error.to_string()).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn shows_what_matters_at_each_size() {
        let cases = [
            (0, "0 s"),
            (7, "7 ns"),
            (1_500, "1.5 µs"),
            (250 * MICROSECOND, "250 µs"),
            (500 * MILLISECOND, "500 ms"),
            (4_230_000, "4.2 ms"),
            (999_990_000, "1 s"),
            (1_250 * MILLISECOND, "1.25 s"),
            (5 * SECOND, "5 s"),
            (23_456 * MILLISECOND, "23.5 s"),
            (59_960 * MILLISECOND, "1 m"),
            (90 * SECOND, "1 m 30 s"),
            (HOUR + 30 * SECOND, "1 h 30 s"),
            (24 * HOUR, "24 h"),
            (49 * HOUR + 5 * MINUTE, "49 h 5 m"),
        ];
        for (nanos, text) in cases {
            assert_eq!(show(Duration::from_nanos(u64::try_from(nanos).unwrap())), text);
        }
        assert_eq!(show(Duration::MAX), "5124095576030431 h 16 s");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            if let Ok(duration) = parse(&text) {
                prop_assert!(duration.as_nanos() <= LONGEST);
            }
        }

        #[test]
        fn no_text_of_the_right_letters_makes_it_panic(text in "[0-9.nuµμmsh+-]{0,60}") {
            if let Ok(duration) = parse(&text) {
                prop_assert!(duration.as_nanos() <= LONGEST);
            }
        }

        #[test]
        fn the_parts_add_up(hours in 0..1000_u64, minutes in 0..1000_u64, millis in 0..1_000_000_u64) {
            let text = format!("{hours}h{minutes}m{}.{:03}s", millis / 1000, millis % 1000);
            let expected = Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_millis(millis);
            prop_assert_eq!(parse(&text), Ok(expected));
        }

        #[test]
        fn what_is_written_for_consul_reads_back(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn what_is_shown_reads_back_as_the_same_but_for_rounding(nanos in 0..i64::MAX as u64, shift in 0..63_u32) {
            let nanos = nanos >> shift;
            let shown = show(Duration::from_nanos(nanos));
            let read = parse(&shown.replace(' ', ""));
            let off = read.map(|read| read.as_nanos().abs_diff(u128::from(nanos)));
            // Within half a second of Go's limit, rounding up may step over it.
            prop_assert!(
                off.clone().is_ok_and(|off| off <= grain(u128::from(nanos)) / 2)
                    || u128::from(nanos) + SECOND > LONGEST,
                "{nanos}: {shown}, {off:?}"
            );
        }
    }
}
