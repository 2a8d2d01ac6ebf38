//! Messages for programs: one JSON object a line, with `ts` and `event`, and `key`, `session` and `fence` as soon as
//! they are known; for several keys `keys` and `fences` in their place, and `key` where the event is about one of them. Durations are seconds.

use std::time::{Duration, SystemTime};

use consul_lock::lock::{Holder, Key, Record};
use consul_lock::plain::plain_json;
use serde_json::{Map, Value, json};

use super::Level;
use crate::run::Note;

/// Tells in JSON.
#[derive(Debug)]
pub(super) struct Json {
    keys: Vec<Key>,
    session: Option<String>,
    fences: Vec<u64>,
}

impl Json {
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self { keys, session: None, fences: Vec::new() }
    }

    /// The line for a note, if it is told at this level.
    pub(super) fn line(&mut self, note: &Note, level: Level) -> Option<String> {
        if let Note::Acquired { grant, .. } = note {
            self.session.clone_from(&grant.session);
            self.fences.clone_from(&grant.fences);
        }
        let (needed, event, fields) = word(note);
        (needed <= level).then(|| object(event, &self.keys, self.session.as_deref(), &self.fences, fields))
    }

    /// A line that is always told.
    pub(super) fn plain(&self, message: &str) -> String {
        object("message", &self.keys, self.session.as_deref(), &self.fences, json!({ "message": message }))
    }
}

/// The line for the error that ended everything.
pub(super) fn error(keys: &[Key], code: u8, message: &str) -> String {
    object("error", keys, None, &[], json!({ "message": message, "exit_code": code }))
}

/// What the guard needs to know of a lock for [`keeper_gone`].
pub(super) fn names(keys: &[Key]) -> String {
    match keys {
        [key] => json!({ "key": key.as_str() }),
        keys => json!({ "keys": keys.iter().map(Key::as_str).collect::<Vec<_>>() }),
    }
    .to_string()
}

/// The line of a guard whose keeper is gone.
pub(super) fn keeper_gone(names: &str, message: &str) -> String {
    let mut fields: Value = serde_json::from_str(names).unwrap_or_else(|_| json!({}));
    fields["message"] = message.into();
    object("keeper_gone", &[], None, &[], fields)
}

fn object(event: &str, keys: &[Key], session: Option<&str>, fences: &[u64], fields: Value) -> String {
    let mut map = Map::new();
    map.insert("ts".into(), humantime::format_rfc3339_millis(SystemTime::now()).to_string().into());
    map.insert("event".into(), event.into());
    // One key is told as one, and several as a list.
    let names: Vec<_> = keys.iter().map(Key::as_str).collect();
    let known = [
        ("key", (names.len() == 1).then(|| json!(names[0]))),
        ("keys", (names.len() > 1).then(|| json!(names))),
        ("session", session.map(Into::into)),
        ("fence", (fences.len() == 1).then(|| json!(fences[0]))),
        ("fences", (fences.len() > 1).then(|| json!(fences))),
    ];
    map.extend(known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    if let Value::Object(fields) = fields {
        map.extend(fields);
    }
    plain_json(&Value::Object(map).to_string())
}

fn word(note: &Note) -> (Level, &'static str, Value) {
    use Level::{Always, Debug, Normal};
    match note {
        Note::Waiting { key, holder } => (Normal, "waiting", waiting(key, &holder_of(holder))),
        Note::WaitingHere { key, holder } => (Normal, "waiting", waiting(key, &holder_here(holder.as_ref()))),
        Note::Delayed { key, left } => (Normal, "delayed", json!({ "key": key.as_str(), "left": left.map(seconds) })),
        Note::Ahead { key, ahead } => (Normal, "place", json!({ "key": key.as_str(), "ahead": ahead })),
        Note::Unqueued { key, reason } => (Normal, "unqueued", json!({ "key": key.as_str(), "reason": reason })),
        Note::OtherLimit { key, holder, theirs, ours } => {
            (Normal, "other_limit", other_limit(key, &holder_of(holder), *theirs, *ours))
        }
        Note::OtherLimitHere { key, holder, ours } => {
            (Normal, "other_limit", other_limit(key, &holder_here(Some(holder)), holder.limit, *ours))
        }
        Note::Retrying(why) => (Normal, "retrying", json!({ "reason": why })),
        Note::SessionReplaced(id) => (Normal, "session_replaced", json!({ "new_session": id })),
        Note::StartedAgain { lost, session } => {
            let mut fields = json!({ "new_session": session });
            if let Some(key) = lost {
                fields["key"] = key.as_str().into();
            }
            (Normal, "started_again", fields)
        }
        Note::Acquired { after, .. } => (Normal, "acquired", json!({ "after": seconds(*after) })),
        Note::Plan(terms) => {
            let [confirm_every, term_after, kill_after, lock_delay] =
                [terms.interval(), terms.until_term(), terms.until_deadline(), terms.delay()].map(seconds);
            let plan = json!({
                "confirm_every": confirm_every, "term_after": term_after, "kill_after": kill_after, "lock_delay": lock_delay,
            });
            (Normal, "lease", plan)
        }
        Note::NoGuarantee(why) => (Always, "no_guarantee", json!({ "reason": why })),
        Note::Started(pid) => (Normal, "started", json!({ "pid": pid })),
        Note::Unconfirmed { trouble, since, left, .. } => {
            (Normal, "unconfirmed", json!({ "reason": trouble, "since": seconds(*since), "left": seconds(*left) }))
        }
        Note::Confirmed { after_trouble } => {
            let level = if after_trouble.is_some() { Normal } else { Debug };
            (level, "confirmed", json!({ "after": after_trouble.map(seconds) }))
        }
        Note::RenewalFailing(why) => (Normal, "renewal_failing", json!({ "reason": why })),
        Note::Lost { loss, key, grace } => {
            let mut fields = json!({ "reason": loss.to_string(), "grace": seconds(*grace) });
            if let Some(key) = key {
                fields["key"] = key.as_str().into();
            }
            (Always, "lost", fields)
        }
        Note::Dead { after, left } => {
            (Always, "killed", json!({ "after": seconds(*after), "left": left.map(seconds) }))
        }
        Note::Forwarded(signal) => (Normal, "signal", json!({ "signal": signal.as_str(), "forwarded": true })),
        Note::Hurried(signal) => (Normal, "signal", json!({ "signal": signal.as_str(), "forwarded": false })),
        Note::Exited { code, signal, left } => {
            (Normal, "exited", json!({ "code": code, "signal": signal.map(|s| s.as_str()), "left_behind": left }))
        }
        Note::KilledLeftBehind { pid, name } => (Always, "killed_left_behind", json!({ "pid": pid, "program": name })),
        Note::Unkillable { pid, user, name } => {
            (Always, "unkillable", json!({ "pid": pid, "user": user, "program": name }))
        }
        Note::HoldingOn => (Always, "holding_on", json!({})),
        Note::TakingOver => (Always, "taking_over", json!({})),
        Note::Released => (Normal, "released", json!({})),
        Note::GoneBeforeRelease => (Always, "gone_before_release", json!({})),
        Note::MetricsUnwritten(why) => (Normal, "metrics_unwritten", json!({ "reason": why })),
        Note::ReleaseUnanswered(why) => (Normal, "release_unanswered", json!({ "reason": why })),
    }
}

fn waiting(key: &Key, holder: &Value) -> Value {
    json!({ "key": key.as_str(), "holder": holder })
}

fn other_limit(key: &Key, holder: &Value, theirs: u16, ours: u16) -> Value {
    json!({ "key": key.as_str(), "holder": holder, "their_limit": theirs, "our_limit": ours })
}

fn holder_of(Holder { session, record }: &Holder) -> Value {
    json!({ "session": session.to_string(), "record": record })
}

/// Of a lock on this machine, which has no session.
fn holder_here(record: Option<&Record>) -> Value {
    json!({ "record": record })
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use consul_lock::lock::{Detachment, Limit, Sharing};

    /// The fields that docs/events.md has for an event.
    fn documented(event: &str) -> Vec<&'static str> {
        let rows = include_str!("../../../docs/events.md").lines().filter_map(|line| {
            let (first, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
            (first == event).then(|| rest.split('`').next())?
        });
        rows.collect()
    }

    #[test]
    fn what_no_test_run_tells_is_documented_too() {
        let [why, name, user] = ["why", "name", "root"].map(str::to_owned);
        let rare = [
            Note::RenewalFailing(why.clone()),
            Note::SessionReplaced(why.clone()),
            Note::StartedAgain { lost: None, session: why },
            Note::Unkillable { pid: 1, user, name },
            Note::HoldingOn,
            Note::TakingOver,
            Note::GoneBeforeRelease,
        ];
        let mut json = Json::new(vec!["k".parse().expect("a key")]);
        let lines = rare.iter().filter_map(|note| json.line(note, Level::Debug)).collect::<Vec<_>>();
        for line in lines.into_iter().chain([json.plain("dropped")]) {
            let Ok(Value::Object(object)) = serde_json::from_str(&line) else { panic!("{line}") };
            let mut fields: Vec<_> =
                object.keys().filter(|name| !["ts", "event", "key"].contains(&name.as_str())).collect();
            let mut documented = documented(object["event"].as_str().expect("a name"));
            fields.sort();
            documented.sort_unstable();
            assert_eq!(fields, documented, "{line}");
        }
    }

    #[test]
    fn each_field_of_a_record_is_documented_and_no_other() {
        let limit = Sharing::Limit(Limit::new(2).expect("a limit"));
        let detached = Some(Detachment { own_session: true, keep_key: false, keys: 1 });
        let record = Record { detached, ..Record::new(None, Duration::ZERO).sharing(limit).released() };
        let Ok(Value::Object(fields)) = serde_json::to_value(Record { shared: true, ..record }) else {
            panic!("a map")
        };
        let (_, page) =
            include_str!("../../../docs/events.md").split_once("\n## The holder record\n").expect("a chapter");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let mut documented: Vec<_> = rows.clone().filter_map(|row| row.split('`').next()).collect();
        documented.sort_unstable();
        let mut told: Vec<_> = fields.keys().map(String::as_str).collect();
        told.sort_unstable();
        assert_eq!(told, documented);
        let within = rows.clone().find(|row| row.starts_with("detached")).expect("a row");
        let object = fields["detached"].as_object().expect("an object");
        assert!(object.keys().all(|field| within.contains(&format!("`{field}`"))), "{within}");
    }
}
