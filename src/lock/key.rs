//! The name of a lock: a Consul KV key that every one of Consul's HTTP paths can carry. A transaction can lock keys such
//! as `a//b` or `../a` that a GET then answers with a redirect to another key, so that a lock on them could be taken and
//! never be watched; those are refused here, before anything is sent.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Most bytes a key may have. Consul takes 512; the rest is room for what we put below the key.
pub const MAX_LEN: usize = 400;

/// Segments below a key that are this tool's own.
const RESERVED: [&str; 3] = [".queue", ".slot", ".read"];

/// A checked key: `LockOptions.Key` in Consul's Go client, exactly as typed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The key as Consul knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Nothing between the quotes.
    #[error("the key is empty: name the lock, for example cron/backup")]
    Empty,
    /// Longer than [`MAX_LEN`] bytes.
    #[error("the key has {0} bytes, {MAX_LEN} is the most: choose a shorter name")]
    TooLong(usize),
    /// It begins with a slash.
    #[error("the key \"{0}\" begins with a slash, which Consul's KV API drops: leave it out")]
    LeadingSlash(String),
    /// It ends with a slash.
    #[error("the key \"{0}\" ends with a slash, which makes it a folder: leave it out, or name a key below it")]
    TrailingSlash(String),
    /// Two slashes in a row.
    #[error("the key \"{0}\" has an empty segment (//), which Consul redirects to another key: write one slash")]
    EmptySegment(String),
    /// A `.` or `..` segment.
    #[error("the key \"{0}\" has a \"{1}\" segment, which Consul redirects to another key: leave it out")]
    DotSegment(String, String),
    /// A segment that this tool uses itself.
    #[error("the key \"{0}\" has the segment \"{1}\", which consul-lock keeps for itself: choose another name")]
    Reserved(String, &'static str),
    /// A control character.
    #[error("the key {0:?} has the control character {1:?}, which Consul's KV API refuses: leave it out")]
    Control(String, char),
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let own = || text.to_owned();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > MAX_LEN {
            return Err(KeyError::TooLong(text.len()));
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            return Err(KeyError::Control(own(), control));
        }
        if text.starts_with('/') {
            return Err(KeyError::LeadingSlash(own()));
        }
        if text.ends_with('/') {
            return Err(KeyError::TrailingSlash(own()));
        }
        for segment in text.split('/') {
            if segment.is_empty() {
                return Err(KeyError::EmptySegment(own()));
            }
            if segment == "." || segment == ".." {
                return Err(KeyError::DotSegment(own(), segment.to_owned()));
            }
            if let Some(&reserved) = RESERVED.iter().find(|&&reserved| reserved == segment) {
                return Err(KeyError::Reserved(own(), reserved));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_what_consul_can_carry() {
        for good in
            ["a", "webhook_receiver/1", "service/db/.lock", "spaces are fine", "ünï/cödé", "a/.b/..c", "100%?#&"]
        {
            assert_eq!(good.parse::<Key>().map(|key| key.to_string()), Ok(good.to_owned()));
        }
        assert!("x".repeat(MAX_LEN).parse::<Key>().is_ok());
    }

    #[test]
    fn refuses_each_unfit_key_with_a_message_of_its_own() {
        let own = str::to_owned;
        let cases = [
            (own(""), KeyError::Empty),
            ("x".repeat(401), KeyError::TooLong(401)),
            (own("/a"), KeyError::LeadingSlash(own("/a"))),
            (own("a/"), KeyError::TrailingSlash(own("a/"))),
            (own("a//b"), KeyError::EmptySegment(own("a//b"))),
            (own("a/./b"), KeyError::DotSegment(own("a/./b"), own("."))),
            (own(".."), KeyError::DotSegment(own(".."), own(".."))),
            (own("a/.queue/b"), KeyError::Reserved(own("a/.queue/b"), ".queue")),
            (own("a/.slot"), KeyError::Reserved(own("a/.slot"), ".slot")),
            (own(".read/x"), KeyError::Reserved(own(".read/x"), ".read")),
            (own("a\nb"), KeyError::Control(own("a\nb"), '\n')),
            (own("a\u{7f}"), KeyError::Control(own("a\u{7f}"), '\u{7f}')),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Key>(), Err(error));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_survives_as_typed(text in "\\PC{0,40}") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert_eq!(key.as_str(), text.as_str());
                prop_assert!(!text.contains("//") && !text.starts_with('/') && !text.ends_with('/'));
            }
        }
    }
}
