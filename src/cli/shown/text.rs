//! A lock for people: as a block of lines, and as cells of a line in a table. All of it printable, whatever was stored.

use std::time::{Duration, SystemTime};

use consul_lock::consul::{Behavior, SessionInfo};
use consul_lock::duration;
use consul_lock::plain::{brief, plain};

use super::{Delay, Holder, Shown, Waiter, Who};

/// Most characters of a stranger's value that are shown.
const LONGEST: usize = 60;

impl Shown {
    /// All of it, a line each.
    pub(crate) fn lines(&self, now: SystemTime) -> Vec<String> {
        let mut lines = vec![format!("{}: {}", plain(&self.key), self.state())];
        for holder in &self.holders {
            lines.extend(holder.lines(self.limit > 1, now));
        }
        if let Some(delay) = self.delay.as_ref() {
            lines.push(row("delay", &delay.text(now)));
        }
        match &self.queue {
            None => lines.push(row("line", "not to be seen with this token (key_prefix on KEY/.queue/)")),
            Some(queue) => {
                for (number, waiter) in queue.iter().enumerate() {
                    let label = if number == 0 { "line" } else { "" };
                    lines.push(row(label, &format!("{}. {}", number + 1, waiter.text(now))));
                }
            }
        }
        if let Some(key) = &self.see_also {
            let prefix = plain(key.strip_suffix("/.lock").unwrap_or(key));
            lines.push(row(
                "see also",
                &format!("{prefix}/.lock, which is held: it is what consul lock {prefix} locks"),
            ));
        }
        lines
    }

    /// Held or not, in a word or two.
    pub(crate) fn state(&self) -> String {
        let slots = self.holders.iter().filter(|holder| holder.slot.is_some()).count();
        let readers = self.holders.len() - slots;
        let mut parts = Vec::new();
        match (slots, self.limit) {
            (0, 1) => {}
            (_, 1) => parts.push("held".to_owned()),
            (slots, limit) => parts.push(format!("{slots} of {limit} slots held")),
        }
        match readers {
            0 => {}
            1 => parts.push("1 reader".to_owned()),
            readers => parts.push(format!("{readers} readers")),
        }
        if self.holders.is_empty() { "free".to_owned() } else { parts.join(", ") }
    }

    /// The first holder and how many more; a dash for none.
    pub(crate) fn holder(&self) -> String {
        match self.holders.as_slice() {
            [] => "-".to_owned(),
            [holder] => holder.name(),
            [holder, more @ ..] => format!("{} and {} more", holder.name(), more.len()),
        }
    }

    /// How long it has been held; nothing if that is not known.
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        let since = self.holders.iter().filter_map(|holder| holder.since).min()?;
        now.duration_since(since).ok()
    }
}

impl Holder {
    /// Who it is, by its own words, or else by what can be seen of it.
    pub(crate) fn name(&self) -> String {
        self.who.text().unwrap_or_else(|| match &self.info {
            Some(info) => format!("{} on {} ({})", self.client, plain(&info.node), brief(&info.name)),
            None => match &self.session {
                Some(session) => format!("{} (session {session})", self.client),
                None => "a process of this machine".to_owned(),
            },
        })
    }

    fn lines(&self, numbered: bool, now: SystemTime) -> Vec<String> {
        let label = match self.slot {
            None => "reader".to_owned(),
            Some(number) if numbered => format!("slot {number}"),
            Some(_) => "holder".to_owned(),
        };
        let mut lines = vec![row(&label, &self.name())];
        if let Some(since) = self.since {
            let ago = now.duration_since(since).map_or_else(|_| "in the future".to_owned(), whole);
            lines.push(row("since", &format!("{} ({ago})", humantime::format_rfc3339_seconds(since))));
        }
        if let Some(session) = &self.session {
            lines.push(row("session", session));
            lines.extend(match &self.info {
                Some(info) => describe(info).map(|line| row("", &line)).to_vec(),
                None => vec![row("", "not to be seen: it has ended, or the token lacks session:read")],
            });
        }
        if let Some(fence) = self.fence {
            let index = self.lock_index.map_or_else(String::new, |index| format!(", lock index {index}"));
            lines.push(row("fence", &format!("{fence}{index}")));
        }
        if !self.value.is_empty() {
            lines.push(row("value", &value(&self.value)));
        }
        lines
    }
}

impl Waiter {
    fn text(&self, now: SystemTime) -> String {
        let name = self.who.text().or_else(|| Some(format!("session {}", self.session.as_ref()?)));
        let waiting = self.since.and_then(|since| now.duration_since(since).ok());
        let waiting = waiting.map_or_else(String::new, |time| format!(", waiting for {}", whole(time)));
        let share = if self.shared { ", for a share" } else { "" };
        format!("{}{share}{waiting}", name.unwrap_or_else(|| "a process of this machine".to_owned()))
    }
}

impl Delay {
    fn text(&self, now: SystemTime) -> String {
        let last = self.last.text().unwrap_or_default();
        match self.until.map(|until| until.duration_since(now).unwrap_or_default()) {
            Some(left) if left.is_zero() => format!("over: {last} lost the lock"),
            Some(left) => format!("{} left: {last} lost the lock, and may still be at work", whole(left + ALMOST)),
            None => format!("of {} at most, if it is not over: {last} did not release the lock", whole(self.at_most)),
        }
    }
}

/// What is left is told in seconds begun.
const ALMOST: Duration = Duration::from_millis(999);

impl Who {
    /// `backup (pid 71 of root on web1)`; nothing if nothing is known.
    pub(crate) fn text(&self) -> Option<String> {
        let pid = self.pid?;
        let part = |word: &str, text: &Option<String>| {
            text.as_ref().map_or_else(String::new, |text| format!(" {word} {}", brief(text)))
        };
        let place = format!("pid {pid}{}{}", part("of", &self.user), part("on", &self.host));
        Some(match &self.program {
            Some(program) => format!("{} ({place})", brief(program)),
            None => place,
        })
    }
}

fn describe(info: &SessionInfo) -> [String; 2] {
    let name = if info.name.is_empty() { "without a name" } else { &info.name };
    let ttl = info.ttl.map_or_else(|| "no TTL".to_owned(), |ttl| format!("TTL {}", duration::show(ttl)));
    let behavior = match info.behavior {
        Behavior::Release => "release",
        Behavior::Delete => "delete",
    };
    let checks: Vec<_> = info.node_checks.iter().chain(&info.service_checks).map(|check| plain(check)).collect();
    let checks = if checks.is_empty() { "no checks".to_owned() } else { format!("checks {}", checks.join(", ")) };
    [
        format!("{}, on node {}", brief(name), plain(&info.node)),
        format!("{ttl}, lock delay {}, behavior {behavior}, {checks}", duration::show(info.lock_delay)),
    ]
}

/// A stranger's value: its beginning if it is text, else its size.
fn value(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Err(_) => format!("{} bytes, no text", bytes.len()),
        Ok(text) if text.chars().count() > LONGEST => {
            let beginning: String = text.chars().take(LONGEST).collect();
            format!("\"{}…\" ({} bytes)", plain(&beginning), bytes.len())
        }
        Ok(text) => format!("\"{}\"", plain(text)),
    }
}

fn row(label: &str, text: &str) -> String {
    format!("  {label:<8} {text}")
}

/// Nobody wants to know that a lock has been held for 3.217 s.
fn whole(time: Duration) -> String {
    duration::show(Duration::from_secs(time.as_secs()))
}
