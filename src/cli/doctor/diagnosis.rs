//! The checks as they are done, one after another, and what each came to.

use consul_lock::consul::Error as ConsulError;
use serde_json::Value;

use super::super::refusal::Refusal;

/// All checks by name, in their order.
pub(super) const NAMES: [&str; 14] = [
    "machine",
    "lease",
    "address",
    "connection",
    "tls",
    "leader",
    "clock",
    "version",
    "token",
    "session",
    "key",
    "queue",
    "slots",
    "readers",
];

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// Locks work, and something about it should be known.
    Warn,
    /// A run would end with this exit code.
    Fail(u8),
    /// Not to be said.
    Skip,
}

impl Status {
    /// As lines and JSON have it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail(_) => "fail",
            Self::Skip => "skip",
        }
    }
}

/// One check, done.
#[derive(Debug, Clone)]
pub(super) struct Check {
    /// One of [`NAMES`].
    pub(super) name: &'static str,
    pub(super) status: Status,
    /// What was found.
    pub(super) detail: String,
    /// What to do about it, perhaps on several lines.
    pub(super) mend: Option<String>,
    /// More about it, a line each, for those who ask (`-v`).
    pub(super) facts: Vec<String>,
    /// The same for programs.
    pub(super) data: Value,
    /// The failed check for whose sake this one was skipped.
    blocked_by: Option<&'static str>,
}

impl Check {
    fn new(status: Status, detail: impl Into<String>, mend: Option<String>) -> Self {
        Self { name: "", status, detail: detail.into(), mend, facts: Vec::new(), data: Value::Null, blocked_by: None }
    }

    pub(super) fn ok(detail: impl Into<String>) -> Self {
        Self::new(Status::Ok, detail, None)
    }

    pub(super) fn warn(detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Status::Warn, detail, Some(mend.into()))
    }

    pub(super) fn fail(code: u8, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Status::Fail(code), detail, Some(mend.into()))
    }

    /// A refusal of what was typed, whose message ends with the mend: `what is wrong: what to do`.
    pub(super) fn fail_with_mend(code: u8, message: &str) -> Self {
        match message.rsplit_once(": ") {
            Some((detail, mend)) => Self::fail(code, detail, mend),
            None => Self::new(Status::Fail(code), message, None),
        }
    }

    pub(super) fn skip(detail: impl Into<String>) -> Self {
        Self::new(Status::Skip, detail, None)
    }

    /// A request that had no usable answer, with the exit code that it gives a run.
    pub(super) fn failed(error: &ConsulError) -> Self {
        let code = Refusal::from(error.clone()).code;
        Self::new(Status::Fail(code), error.trouble(), error.mend().map(str::to_owned))
    }

    pub(super) fn with_mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }

    pub(super) fn with_facts(self, facts: Vec<String>) -> Self {
        Self { facts, ..self }
    }

    pub(super) fn with_data(self, data: Value) -> Self {
        Self { data, ..self }
    }
}

/// The checks so far. Each is told as soon as it is done.
pub(super) struct Diagnosis<T> {
    checks: Vec<Check>,
    tell: T,
}

/// All checks, done or skipped.
#[derive(Debug)]
pub(super) struct Checks(pub(super) Vec<Check>);

impl<T: FnMut(&Check)> Diagnosis<T> {
    pub(super) fn new(tell: T) -> Self {
        Self { checks: Vec::new(), tell }
    }

    /// Does a check, unless one of those that it needs failed or was skipped itself.
    pub(super) fn check(&mut self, name: &'static str, needs: &[&'static str], check: impl FnOnce() -> Check) {
        let missing = needs.iter().find_map(|need| self.root(need));
        let check = match missing {
            Some(root) => Check { blocked_by: Some(root), ..Check::skip(format!("needs {root}, which failed")) },
            None => check(),
        };
        let check = Check { name, ..check };
        (self.tell)(&check);
        self.checks.push(check);
    }

    /// The failed check that keeps others from being done for want of this one.
    fn root(&self, name: &'static str) -> Option<&'static str> {
        let check = self.checks.iter().find(|check| check.name == name)?;
        if matches!(check.status, Status::Fail(_)) { Some(name) } else { check.blocked_by }
    }

    /// Skips what was never come to, for want of an address.
    pub(super) fn end(mut self) -> Checks {
        for name in NAMES {
            if self.checks.iter().all(|check| check.name != name) {
                self.check(name, &["address"], || Check::skip("not looked at"));
            }
        }
        Checks(self.checks)
    }
}

impl Checks {
    /// The exit code: that of the first failure.
    pub(super) fn code(&self) -> u8 {
        let code = |check: &Check| if let Status::Fail(code) = check.status { Some(code) } else { None };
        self.0.iter().find_map(code).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_on_a_failure_is_skipped_and_names_it() {
        let mut told = Vec::new();
        let mut diagnosis = Diagnosis::new(|check: &Check| told.push((check.name, check.status.word())));
        diagnosis.check("machine", &[], || Check::fail(64, "no", "mend it"));
        diagnosis.check("address", &[], || Check::fail(78, "no", "mend it"));
        diagnosis.check("connection", &["address"], || unreachable!("nowhere to go"));
        diagnosis.check("tls", &["connection"], || unreachable!("nobody to talk to"));
        let checks = diagnosis.end();
        assert_eq!(checks.code(), 64);
        assert_eq!(checks.0.iter().map(|check| check.name).collect::<Vec<_>>().len(), NAMES.len());
        let blocked = checks.0.iter().filter(|check| check.detail == "needs address, which failed");
        assert_eq!(blocked.count(), NAMES.len() - 2, "{checks:?}");
        assert_eq!(told[..4], [("machine", "fail"), ("address", "fail"), ("connection", "skip"), ("tls", "skip")]);
    }

    #[test]
    fn what_was_skipped_for_its_own_sake_keeps_nothing_from_being_done() {
        let mut diagnosis = Diagnosis::new(|_: &Check| ());
        diagnosis.check("lease", &[], || Check::fail(64, "no", "mend it"));
        diagnosis.check("token", &[], || Check::skip("not readable"));
        diagnosis.check("session", &["token"], || Check::ok("made"));
        assert_eq!(diagnosis.end().0[2].status, Status::Ok);
    }

    #[test]
    fn a_message_that_ends_with_its_mend_is_taken_apart() {
        let check = Check::fail_with_mend(64, "the key \"a: b\" is no key: leave it out");
        assert_eq!(
            (check.detail.as_str(), check.mend.as_deref()),
            ("the key \"a: b\" is no key", Some("leave it out"))
        );
        assert_eq!(Check::fail_with_mend(64, "no").mend, None);
    }
}
