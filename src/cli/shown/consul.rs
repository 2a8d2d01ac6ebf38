//! What was seen in Consul.

use consul_lock::consul::SessionInfo;
use consul_lock::lock::view::{Holding, Kind, LockView, Lost, Part, Program, Waiting};

use super::{Delay, Holder, Shown, Waiter, Who, since};

impl Shown {
    /// A lock in Consul, with the sessions that are known.
    pub(crate) fn in_consul(view: &LockView, sessions: &[SessionInfo]) -> Self {
        let holders = view.holders.iter().map(|holding| holder(holding, sessions)).collect();
        let delay = view.lost.iter().filter_map(delay).max_by_key(|delay| delay.at_most);
        Self {
            key: view.key.clone(),
            kind: match view.kind {
                Kind::Lock => "lock",
                Kind::GoSemaphore => "go-semaphore",
            },
            limit: view.limit,
            holders,
            queue: (!view.line_is_hidden).then(|| view.queue.iter().map(waiter).collect()),
            delay,
            see_also: None,
        }
    }
}

fn holder(holding: &Holding, sessions: &[SessionInfo]) -> Holder {
    let info = sessions.iter().find(|info| info.id == holding.session);
    let record = holding.record.as_ref();
    let client = match holding.program(info.map(|info| info.name.as_str())) {
        Program::ConsulLock => "consul-lock",
        Program::ConsulLockOfConsul => "consul lock",
        Program::GoClient => "Go client",
        Program::Other => "other",
    };
    Holder {
        slot: match holding.part {
            Part::Slot(number) => Some(number),
            Part::Reader => None,
        },
        client,
        who: record.map(Who::of).unwrap_or_default(),
        since: record.and_then(since),
        session: Some(holding.session.to_string()),
        info: info.cloned(),
        fence: Some(holding.entry.modify_index),
        lock_index: Some(holding.entry.lock_index),
        value: if record.is_some() { Vec::new() } else { holding.entry.value.clone() },
        run: record.map(|record| record.run.clone()),
    }
}

fn waiter(waiting: &Waiting) -> Waiter {
    let record = waiting.record.as_ref();
    Waiter {
        who: record.map(Who::of).unwrap_or_default(),
        since: record.and_then(since),
        session: Some(waiting.session.to_string()),
        shared: waiting.shared,
    }
}

fn delay(lost: &Lost) -> Option<Delay> {
    let at_most = lost.record.lock_delay().filter(|delay| !delay.is_zero())?;
    Some(Delay { at_most, last: Who::of(&lost.record), run: lost.record.run.clone(), until: None })
}
