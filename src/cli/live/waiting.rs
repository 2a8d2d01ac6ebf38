//! What a waiter sees: for what, for how long, at which place in the line, and who has it. Pure but for the holder's own
//! clock: the line is cut to the width that there is, the least important parts first.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use consul_lock::clock::Moment;
use consul_lock::lock::{Key, Record};
use consul_lock::plain::plain;

use crate::run::Note;

/// From so many on the number before us is a guess: who is far behind looks rarely.
const ABOUT: usize = 20;

/// What is left of a long key at least.
const KEY: usize = 12;

/// How somebody waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    key: String,
    since: Moment,
    coloured: bool,
    reason: Option<Reason>,
    ahead: Option<usize>,
}

/// Why nobody but the holder has it.
#[derive(Debug, Clone)]
enum Reason {
    /// Somebody has it.
    Held(Option<Box<Record>>, Option<String>),
    /// The lock delay, until then where that is known.
    Delayed(Option<Moment>),
}

impl Waiting {
    /// Somebody who has waited since `since`, for `key` as far as is known yet.
    pub(crate) fn new(key: String, since: Moment, coloured: bool) -> Self {
        Self { key, since, coloured, reason: None, ahead: None }
    }

    /// Takes in what is told at `now`; false if that is not about the waiting, which is then over or beside the point.
    pub(crate) fn on(&mut self, note: &Note, now: Moment) -> bool {
        match note {
            Note::Waiting { key, holder } => {
                self.wait_for(key);
                self.reason = Some(Reason::Held(holder.record.clone(), Some(holder.session.to_string())));
            }
            Note::WaitingHere { key, holder } => {
                self.wait_for(key);
                self.reason = Some(Reason::Held(holder.clone().map(Box::new), None));
            }
            Note::Delayed { key, left } => {
                self.wait_for(key);
                self.reason = Some(Reason::Delayed(left.map(|left| now + left)));
            }
            Note::Ahead { key, ahead } => {
                self.wait_for(key);
                self.ahead = Some(*ahead);
            }
            _ => return false,
        }
        true
    }

    /// Of several keys this one is waited for now.
    fn wait_for(&mut self, key: &Key) {
        if key.as_str() != self.key {
            self.key = key.to_string();
            self.ahead = None;
            self.reason = None;
        }
    }

    /// The line, at most one column less than `width`, so that no terminal wraps it.
    pub(crate) fn line(&self, width: usize, now: Moment) -> String {
        let room = width.saturating_sub(1);
        // From the longest to the shortest.
        let reasons = match &self.reason {
            None => vec![],
            Some(Reason::Held(Some(record), _)) => {
                let [program, user, host] = [&record.command, &record.user, &record.host].map(|text| plain(text));
                let held = record.age().map_or_else(|| "held".to_owned(), |age| format!("held {}", show(age)));
                vec![
                    format!("{held} by {program} (pid {} of {user} on {host})", record.pid),
                    format!("{held} by {program} on {host}"),
                    format!("held by {program}"),
                ]
            }
            Some(Reason::Held(None, Some(session))) => {
                vec![format!("held by session {session}"), format!("held by session {}", elide(session, KEY))]
            }
            Some(Reason::Held(None, None)) => vec!["held by another process on this machine".to_owned()],
            Some(Reason::Delayed(until)) => {
                let left = until.map(|until| until.since(now)).filter(|left| !left.is_zero());
                let left = left.map(|left| format!(", {} at least", show(left + Duration::from_millis(999))));
                let left = left.unwrap_or_default();
                vec![format!("in its last holder's lock delay{left}"), format!("in its lock delay{left}")]
            }
        };
        let place = match self.ahead {
            None => String::new(),
            Some(0) => ", next in line".to_owned(),
            Some(ahead @ 1..ABOUT) => format!(", {ahead} before us"),
            Some(ahead) => format!(", about {ahead} before us"),
        };
        let (waited, key) = (show(now.since(self.since)), plain(&self.key));
        let head = |key: &str| format!("waiting {waited} for {key}{place}");
        let elided = |rest: usize| elide(&key, room.saturating_sub(columns(&head("")) + rest).max(KEY));
        let mut choices = Vec::new();
        for (number, reason) in reasons.iter().enumerate() {
            choices.push(format!("{}; {reason}", head(&key)));
            if number > 0 {
                choices.push(format!("{}; {reason}", head(&elided(2 + columns(reason)))));
            }
        }
        choices.push(head(&elided(0)));
        let least = cut(choices.last().map_or("", String::as_str), room);
        let line = choices.into_iter().find(|choice| columns(choice) <= room).unwrap_or(least);
        self.paint(&line)
    }

    fn paint(&self, line: &str) -> String {
        let style = if self.coloured { AnsiColor::Cyan.on_default() } else { Style::new() };
        match line.split_once(' ') {
            Some((first, rest)) => format!("{style}{first}{style:#} {rest}"),
            None => line.to_owned(),
        }
    }
}

/// A time in the two units that matter: `5s`, `2m 10s`, `1h 4m`, `3d 2h`.
fn show(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// `text` in at most `room` columns, without its middle where it is longer.
fn elide(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let head = cut(text, room.saturating_sub(2) / 2);
    let backwards: String = text.chars().rev().collect();
    let tail = cut(&backwards, room.saturating_sub(2 + columns(&head)));
    format!("{head}..{}", tail.chars().rev().collect::<String>())
}

/// The beginning of `text` that fits into `room` columns.
fn cut(text: &str, room: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += column(*c);
        used <= room
    };
    text.chars().take_while(fits).collect()
}

fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

/// Columns of a character, rather too many than too few: from Hangul on, some are two wide.
fn column(c: char) -> usize {
    if c < '\u{1100}' { 1 } else { 2 }
}

#[cfg(test)]
mod tests;
