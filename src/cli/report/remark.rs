//! What the commands that only look have to say on standard error: that Consul does not answer, whom they wait for, and
//! the error that ended them, in the forms that a run has for the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use consul_lock::lock::{Notice, Tell};
use consul_lock::plain::plain_json;
use serde_json::{Map, Value, json};

use super::text::{self, Tone};
use super::{is_coloured, write_last};
use crate::cli::exit::Exit;
use crate::cli::output::{LogFormat, Output};
use crate::cli::refusal::Refusal;

/// Tells remarks about a lock.
#[derive(Debug)]
pub(crate) struct Remarks {
    output: Output,
    /// The key, or the prefix of keys.
    key: String,
    /// What is told once was told.
    told_retrying: AtomicBool,
}

impl Remarks {
    /// Remarks as `output` wants them.
    pub(crate) fn new(output: Output, key: &str) -> Arc<Self> {
        Arc::new(Self { output, key: key.to_owned(), told_retrying: AtomicBool::new(false) })
    }

    /// A place for the library's notices.
    pub(crate) fn teller(self: &Arc<Self>) -> Tell {
        let remarks = Arc::clone(self);
        Arc::new(move |notice| match notice {
            Notice::Waiting { key, holder } => {
                let fields = json!({ "holder": { "session": holder.session.to_string(), "record": holder.record } });
                remarks.tell("waiting", Tone::Plain, &format!("waiting for {key}, held by {holder}"), fields);
            }
            Notice::Retrying(trouble) => remarks.retrying(&trouble.0),
            _ => {}
        })
    }

    /// Consul is asked again; told once, or each time with `-vv`.
    pub(crate) fn retrying(&self, why: &str) {
        if !self.told_retrying.swap(true, Ordering::Relaxed) || self.output.verbose > 1 {
            self.tell("retrying", Tone::Warning, &format!("{why}; trying again"), json!({ "reason": why }));
        }
    }

    /// Consul has answered; the next silence is told again.
    pub(crate) fn answered(&self) {
        self.told_retrying.store(false, Ordering::Relaxed);
    }

    /// Anything else that is worth knowing.
    pub(crate) fn remark(&self, message: &str) {
        self.tell("message", Tone::Plain, message, json!({ "message": message }));
    }

    /// The error that ended everything, and how we end.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Exit {
        let fields = json!({ "message": refusal.message, "exit_code": refusal.code });
        self.write("error", Tone::Bad, &refusal.message, fields);
        Exit::Code(refusal.code)
    }

    fn tell(&self, event: &str, tone: Tone, message: &str, fields: Value) {
        if !self.output.quiet {
            self.write(event, tone, message, fields);
        }
    }

    fn write(&self, event: &str, tone: Tone, message: &str, fields: Value) {
        write_last(match self.output.log_format {
            LogFormat::Text => text::paint(tone, message, is_coloured(self.output.color)),
            LogFormat::Json => {
                let mut map = Map::new();
                map.insert("ts".into(), humantime::format_rfc3339_millis(SystemTime::now()).to_string().into());
                map.insert("event".into(), event.into());
                map.insert("key".into(), self.key.as_str().into());
                if let Value::Object(fields) = fields {
                    map.extend(fields);
                }
                plain_json(&Value::Object(map).to_string())
            }
        });
    }
}
