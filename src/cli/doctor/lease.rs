//! The flags that a lock's lease is made of, and the plan that they give.

use std::time::Duration;

use clap::Args;
use consul_lock::duration;
use consul_lock::lock::{LockDelay, LockOptions, Terms, Ttl};
use serde_json::json;

use super::super::exit::code;
use super::diagnosis::Check;

#[derive(Debug, Args)]
#[command(next_help_heading = "Plan")]
pub(super) struct Lease {
    /// The session's TTL, 10s to 24h [default: 15s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    ttl: Option<Duration>,
    /// Consul's pause between a lost lock and its next holder, up to 60s [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    lock_delay: Option<Duration>,
    /// Time between the first signal and SIGKILL [default: 5s].
    #[arg(short = 'k', long, value_name = "DURATION", value_parser = duration::parse)]
    kill_after: Option<Duration>,
    /// Try a session that is bound to this health check instead of serfHealth; repeatable.
    #[arg(long = "check", hide_short_help = true, value_name = "ID", conflicts_with = "no_checks")]
    pub(super) checks: Vec<String>,
    /// Try a session that is bound to no health check.
    #[arg(long, hide_short_help = true)]
    pub(super) no_checks: bool,
    /// Warn, and do not fail, where a run could not keep its promise.
    #[arg(long)]
    pub(super) no_guarantee: bool,
}

impl Lease {
    /// The plan, or why there is none.
    pub(super) fn check(&self) -> Check {
        let usage = |error: &dyn std::fmt::Display, mend| Check::fail(code::USAGE, error.to_string(), mend);
        let ttl = match self.ttl.map_or(Ok(Ttl::DEFAULT), Ttl::new) {
            Ok(ttl) => ttl,
            Err(error) => return usage(&error, "give a --ttl from 10s to 24h"),
        };
        let delay = match self.lock_delay.map_or(Ok(LockDelay::DEFAULT), LockDelay::new) {
            Ok(delay) => delay,
            Err(error) => return usage(&error, "give a --lock-delay up to 60s"),
        };
        let grace = self.kill_after.unwrap_or(LockOptions::DEFAULT_GRACE);
        let unsafe_detail = "with a lock delay of 0 Consul may give the lock to somebody else while the command runs";
        if delay.get().is_zero() && !self.no_guarantee {
            let mend = "choose a lock delay up to 60s, or give up the guarantee with --no-guarantee";
            return Check::fail(code::USAGE, unsafe_detail, mend);
        }
        let terms = match Terms::new(delay, ttl, grace) {
            Ok(terms) => terms,
            Err(error) => return Check::fail_with_mend(code::USAGE, &error.to_string()),
        };
        let [every, term, kill, safe] =
            [terms.interval(), terms.until_term(), terms.until_deadline(), terms.delay()].map(duration::show);
        let seconds = |time: Duration| time.as_secs_f64();
        let data = json!({
            "confirm_every": seconds(terms.interval()), "term_after": seconds(terms.until_term()),
            "kill_after": seconds(terms.until_deadline()), "lock_delay": seconds(terms.delay()),
        });
        let plan = format!(
            "confirmed every {every}; without a confirmation the first signal after {term}, SIGKILL after {kill}, nobody \
             else before {safe}"
        );
        let check = if terms.guaranteed() {
            Check::ok(plan)
        } else {
            Check::warn(unsafe_detail, "choose a lock delay up to 60s").with_facts(vec![plan])
        };
        check.with_data(data)
    }

    /// The lock delay for a session that is to be tried: Consul looks at it, and we never hold anything under it.
    pub(super) fn lock_delay(&self) -> Duration {
        self.lock_delay.unwrap_or(LockDelay::DEFAULT.get()).min(LockDelay::MAX.get())
    }
}
