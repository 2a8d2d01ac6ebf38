//! A lock as a JSON object, as docs/json.md has it. Moments are RFC 3339 in UTC, durations seconds; what is not known is
//! null.

use std::time::{Duration, SystemTime};

use consul_lock::consul::{Behavior, SessionInfo};
use consul_lock::plain::plain_json;
use serde_json::{Value, json};

use super::{Delay, Holder, Shown, Waiter, Who};

/// Longest value of a stranger's that is shown, in bytes.
const LONGEST: usize = 1000;

impl Shown {
    /// The object on one line.
    pub(crate) fn json(&self, now: SystemTime) -> String {
        let object = json!({
            "ts": humantime::format_rfc3339_millis(now).to_string(),
            "key": self.key,
            "kind": self.kind,
            "held": self.is_held(),
            "limit": self.limit,
            "holders": self.holders.iter().map(|holder| holder.json(now)).collect::<Vec<_>>(),
            "queue": self.queue.as_ref().map(|queue| queue.iter().map(|one| one.json(now)).collect::<Vec<_>>()),
            "lock_delay": self.delay.as_ref().map(|delay| delay.json(now)),
            "see_also": self.see_also,
        });
        plain_json(&object.to_string())
    }
}

impl Holder {
    fn json(&self, now: SystemTime) -> Value {
        let text = std::str::from_utf8(&self.value).ok();
        let mut object = self.who.json();
        object["slot"] = json!(self.slot);
        object["shared"] = json!(self.slot.is_none());
        object["client"] = json!(self.client);
        object["since"] = json!(self.since.map(timestamp));
        object["held_for"] = json!(ago(self.since, now));
        object["session"] = json!(self.session);
        object["session_info"] = json!(self.info.as_ref().map(info));
        object["fence"] = json!(self.fence);
        object["lock_index"] = json!(self.lock_index);
        object["value"] = json!(text.filter(|text| !text.is_empty() && text.len() <= LONGEST));
        object["value_bytes"] = json!(self.value.len());
        object
    }
}

impl Waiter {
    fn json(&self, now: SystemTime) -> Value {
        let mut object = self.who.json();
        object["since"] = json!(self.since.map(timestamp));
        object["waiting_for"] = json!(ago(self.since, now));
        object["session"] = json!(self.session);
        object["shared"] = json!(self.shared);
        object
    }
}

impl Delay {
    fn json(&self, now: SystemTime) -> Value {
        let left = self.until.map(|until| seconds(until.duration_since(now).unwrap_or_default()));
        json!({ "at_most": seconds(self.at_most), "left": left, "last_holder": self.last.json() })
    }
}

impl Who {
    fn json(&self) -> Value {
        json!({ "host": self.host, "pid": self.pid, "user": self.user, "program": self.program })
    }
}

fn info(info: &SessionInfo) -> Value {
    let behavior = match info.behavior {
        Behavior::Release => "release",
        Behavior::Delete => "delete",
    };
    let checks: Vec<_> = info.node_checks.iter().chain(&info.service_checks).collect();
    json!({
        "name": info.name, "node": info.node, "ttl": info.ttl.map(seconds), "lock_delay": seconds(info.lock_delay),
        "behavior": behavior, "checks": checks,
    })
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// How long ago; nothing if it is still to come, by the clock of another machine.
fn ago(since: Option<SystemTime>, now: SystemTime) -> Option<f64> {
    now.duration_since(since?).ok().map(seconds)
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
