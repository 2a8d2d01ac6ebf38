//! The name of a session.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::quote::one_line;

/// The name of a session, a UUID in lower case. Consul answers anything else with a 500, so it is refused here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// A text that is no session's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "\"{0}\" is no session: it looks like 8b1d5ff0-6c7f-4e5a-9c4e-0d3b8f1f6a2e, as `consul-lock acquire` prints it"
)]
pub struct SessionIdError(String);

impl SessionId {
    /// The session as Consul knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        let parts: Vec<&str> = text.split('-').collect();
        let lengths = [8, 4, 4, 4, 12];
        let fits = parts.len() == lengths.len()
            && parts
                .iter()
                .zip(lengths)
                .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if fits { Ok(Self(text.to_ascii_lowercase())) } else { Err(SessionIdError(one_line(text))) }
    }
}

impl TryFrom<String> for SessionId {
    type Error = SessionIdError;

    fn try_from(text: String) -> Result<Self, SessionIdError> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_is_a_session() {
        let good = "9F345625-f885-9f19-d386-c04d73aa1682";
        assert_eq!(good.parse::<SessionId>().map(|id| id.to_string()), Ok(good.to_ascii_lowercase()));
        for bad in [
            "",
            "nope",
            "9f345625-f885-9f19-d386-c04d73aa168",
            "9f345625f8859f19d386c04d73aa1682",
            "9f345625-f885-9f19-d386-c04d73aa168/",
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
