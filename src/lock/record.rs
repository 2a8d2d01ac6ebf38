//! The holder record: who holds a key, written into its value for people and for waiters. A waiter needs the lock delay
//! in it, since a server that restarts can forget a delay that it should enforce; a client needs the run in it, to know
//! its own entry again after a reply was lost.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::options::{LockDelay, Sharing};
use crate::plain::brief;

/// The value of a held key, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The machine's name.
    pub host: String,
    /// The keeper's process id.
    pub pid: u32,
    /// The user's name, or the number of one without a name.
    pub user: String,
    /// The program's name alone, never its arguments.
    pub command: String,
    /// When the lock was acquired, and in the line of those who wait when it was asked for: RFC 3339 in UTC, to the second.
    pub acquired_at: String,
    /// The session's lock delay as text, such as `30s`.
    pub lock_delay: String,
    /// A number that tells this run from any other.
    pub run: String,
    /// `consul-lock/VERSION`.
    pub tool: String,
    /// How many may hold the lock at a time, as far as this holder knows; absent for one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub limit: u16,
    /// Whether it is held, or waited for, by a reader; absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Set when the key was given back on purpose and left in place: without it, a record in a key without a session
    /// means that the holder was deprived of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
    /// How another process than the one that acquired the lock gives it back; absent where that one does so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached: Option<Detachment>,
}

/// What a process must know to give back a lock that another one acquired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detachment {
    /// Whether the session was made for the lock, and ends with it.
    pub own_session: bool,
    /// Whether the key stays in place, without a holder.
    pub keep_key: bool,
    /// How many keys the lock has; they are given back together.
    pub keys: usize,
}

/// The machine's name and the user's, looked up once.
pub(super) fn names() -> &'static (String, String) {
    static NAMES: OnceLock<(String, String)> = OnceLock::new();
    NAMES.get_or_init(|| {
        let host = nix::unistd::gethostname();
        let host = host.map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into());
        (host, crate::user::name(nix::unistd::geteuid().as_raw()))
    })
}

impl Record {
    /// A record of this process, with a fresh run number.
    #[must_use]
    pub fn new(program: Option<&str>, lock_delay: Duration) -> Self {
        let own_name = || {
            let path = std::env::args_os().next().unwrap_or_default();
            std::path::Path::new(&path).file_name().map_or_else(String::new, |name| name.to_string_lossy().into())
        };
        let (host, user) = names().clone();
        Self {
            host,
            pid: std::process::id(),
            user,
            command: program.map_or_else(own_name, str::to_owned),
            acquired_at: timestamp(SystemTime::now()),
            lock_delay: format!("{lock_delay:?}"),
            run: format!("{:016x}", fastrand::u64(..)),
            tool: concat!("consul-lock/", env!("CARGO_PKG_VERSION")).to_owned(),
            limit: 1,
            shared: false,
            released_at: None,
            detached: None,
        }
    }

    /// The same record, saying how the lock is shared.
    #[must_use]
    pub fn sharing(self, sharing: Sharing) -> Self {
        Self { limit: sharing.slots(), shared: sharing.is_shared(), ..self }
    }

    /// Reads a key's value; nothing if it is no record, which is no error: the key may be a Go client's.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }

    /// The value to store.
    #[must_use]
    pub fn to_value(&self) -> Vec<u8> {
        // Strings and a number: there is nothing in it that JSON could refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Dates the record anew: what was made when the waiting began would say that the lock has been held since then.
    pub(crate) fn date(&mut self) {
        self.acquired_at = timestamp(SystemTime::now());
    }

    /// The same record, given back on purpose now.
    #[must_use]
    pub fn released(&self) -> Self {
        Self { released_at: Some(timestamp(SystemTime::now())), ..self.clone() }
    }

    /// The holder's lock delay, never more than Consul applies; nothing if somebody wrote nonsense. Whoever may write the
    /// key writes this too: a thousand years would keep waiters out that long.
    #[must_use]
    pub fn lock_delay(&self) -> Option<Duration> {
        humantime::parse_duration(&self.lock_delay).ok().map(|delay| LockDelay::shown(delay).get())
    }

    /// How long ago it was acquired, or asked for; nothing if the clocks disagree or it is no time.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let then = humantime::parse_rfc3339(&self.acquired_at).ok()?;
        SystemTime::now().duration_since(then).ok()
    }
}

impl std::fmt::Display for Record {
    /// Who it is, in a few words: `backup (pid 71 of root on web1)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [command, user, host] = [&self.command, &self.user, &self.host].map(|text| brief(text));
        write!(f, "{command} (pid {} of {user} on {host})", self.pid)
    }
}

fn one() -> u16 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde wants it.
fn is_one(limit: &u16) -> bool {
    *limit == 1
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::options::Limit;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let record = Record::new(Some("backup"), Duration::from_secs(30));
        assert_eq!(Record::read(&record.to_value()), Some(record.clone()));
        assert_eq!(record.lock_delay, "30s");
        assert_eq!(record.lock_delay(), Some(Duration::from_secs(30)));
        assert!(!String::from_utf8_lossy(&record.to_value()).contains("released_at"));
        assert!(record.released().released_at.is_some());
        let plain = String::from_utf8_lossy(&record.to_value()).into_owned();
        assert!(!plain.contains("limit") && !plain.contains("shared"), "{plain}");
        let limit = Limit::new(3).expect("a sane number");
        for (sharing, text) in [(Sharing::Limit(limit), r#""limit":3"#), (Sharing::Shared, r#""shared":true"#)] {
            let record = record.clone().sharing(sharing);
            assert_eq!(Record::read(&record.to_value()), Some(record.clone()));
            assert!(String::from_utf8_lossy(&record.to_value()).contains(text));
        }
        assert_ne!(Record::new(None, Duration::ZERO).run, record.run);
    }

    #[test]
    fn odd_delays_survive() {
        for ms in [500, 2_500, 7_000, 59_999] {
            let delay = Duration::from_millis(ms);
            assert_eq!(Record::new(None, delay).lock_delay(), Some(delay));
        }
        assert_eq!(Record::new(None, Duration::ZERO).lock_delay(), Some(Duration::ZERO));
    }

    #[test]
    fn a_lock_delay_counts_for_no_more_than_consul_applies() {
        for (text, delay) in
            [("90s", Some(60)), ("500000000000y", Some(60)), ("60s", Some(60)), ("-1s", None), ("", None)]
        {
            let record = Record { lock_delay: text.to_owned(), ..Record::new(None, Duration::ZERO) };
            assert_eq!(record.lock_delay(), delay.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn strangers_values_are_no_records() {
        for value in [&b""[..], b"hello", b"{}", b"[1]", b"\xff\xfe"] {
            assert_eq!(Record::read(value), None);
        }
    }
}
