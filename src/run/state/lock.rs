//! What the lock has to tell: it is ours, it is confirmed, it is in doubt, it is lost.

use super::*;

impl Run {
    pub(super) fn acquired(&mut self, grant: Grant, now: Moment) -> Vec<Action> {
        self.lease = grant.lease;
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Waiting => {
                let mut actions = vec![Action::Tell(Note::Acquired { grant, after: now.since(self.started_at) })];
                if let Some(lease) = &self.lease {
                    actions.push(Action::Tell(Note::Plan(lease.terms())));
                    // Known only now where the session was given.
                    if !lease.terms().guaranteed() {
                        actions.push(Action::Tell(Note::NoGuarantee(
                            "with a lock delay of 0 Consul may give the lock to somebody else while the command runs",
                        )));
                    }
                }
                self.phase = Phase::Confirming;
                actions.extend(self.start_if_safe(now));
                actions
            }
            // The lock came while we gave it up: nothing was started under it.
            Phase::GivingUp { outcome, until } => {
                self.phase = Phase::Releasing { outcome, until: Some(until), was_lost: false };
                vec![Action::Release]
            }
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    fn start_if_safe(&mut self, now: Moment) -> Vec<Action> {
        if self.lease.is_some_and(|lease| !lease.may_start(now)) {
            return Vec::new();
        }
        self.phase = Phase::Spawning;
        vec![Action::Start(self.lease.as_ref().map(Lease::deadline))]
    }

    pub(super) fn not_acquired(&mut self, refused: Refused) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Waiting => {
                let by_ancestor = refused.holders.iter().find(|holder| self.ancestors.contains(holder));
                let refused = by_ancestor.map_or(refused.clone(), |holder| held_by_ancestor(holder));
                vec![Action::Finish(Outcome::NotAcquired(refused))]
            }
            Phase::GivingUp { outcome, .. } => vec![Action::Finish(outcome)],
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    pub(super) fn noticed(&mut self, notice: Notice, now: Moment) -> Vec<Action> {
        match notice {
            // Somebody may have ended the waiting already.
            Notice::Waiting { .. } if !matches!(self.phase, Phase::Waiting) => Vec::new(),
            Notice::Waiting { holder, .. } if self.ancestors.contains(&holder.session.to_string()) => {
                let refused = held_by_ancestor(&holder.session.to_string());
                self.give_up(Outcome::NotAcquired(refused), now)
            }
            Notice::Asking if matches!(self.phase, Phase::Waiting) => vec![Action::Prepare],
            Notice::RenewalFailing(trouble) => vec![Action::Tell(Note::RenewalFailing(trouble.0))],
            Notice::Confirmed(sent) => self.confirmed(sent, now),
            Notice::Unconfirmed(trouble) => self.unconfirmed(trouble.0, now),
            Notice::Lost { loss, key } => self.lost(loss, key, now),
            other => Note::while_waiting(other).map(Action::Tell).into_iter().collect(),
        }
    }

    pub(super) fn waiting_here(
        &mut self,
        key: Key,
        holder: Option<Box<Record>>,
        refused: Refused,
        now: Moment,
    ) -> Vec<Action> {
        if let Some(run) = refused.holders.iter().find(|run| self.ancestors.contains(run)) {
            return self.give_up(Outcome::NotAcquired(held_by_ancestor(run)), now);
        }
        if let Some(here) = &mut self.here {
            here.conflict = Some(refused);
        }
        vec![Action::Tell(Note::WaitingHere { key, holder: holder.map(|record| *record) })]
    }

    fn confirmed(&mut self, sent: Moment, now: Moment) -> Vec<Action> {
        // What has begun to end is not called back: the command has its signal.
        if !matches!(self.phase, Phase::Confirming | Phase::Spawning | Phase::Running { .. }) {
            return Vec::new();
        }
        let Some(lease) = &mut self.lease else { return Vec::new() };
        let before = lease.confirmed();
        lease.confirm(sent);
        let deadline = lease.deadline();
        let after_trouble = self.trouble.take().map(|_| sent.since(before));
        let mut actions = vec![Action::Tell(Note::Confirmed { after_trouble })];
        if matches!(self.phase, Phase::Confirming) {
            actions.extend(self.start_if_safe(now));
        } else {
            actions.push(Action::Extend(deadline));
        }
        actions
    }

    fn unconfirmed(&mut self, trouble: String, now: Moment) -> Vec<Action> {
        let Some(lease) = &self.lease else { return Vec::new() };
        let (since, left) = (now.since(lease.confirmed()), lease.term_at().since(now));
        let first = self.trouble.is_none();
        let state = self.trouble.get_or_insert(Trouble { told_urgent: false });
        let urgent = left < lease.terms().until_term() / 2 && !std::mem::replace(&mut state.told_urgent, true);
        vec![Action::Tell(Note::Unconfirmed { trouble, since, left, first, urgent })]
    }

    pub(super) fn lost(&mut self, loss: Loss, key: Option<Key>, now: Moment) -> Vec<Action> {
        let Some(lease) = &self.lease else { return Vec::new() };
        match &self.phase {
            Phase::Confirming => {
                self.phase = Phase::Finished;
                let tell = Note::Lost { loss: loss.clone(), key, grace: Duration::ZERO };
                self.release(Outcome::Lost(loss), now, true, vec![Action::Tell(tell)])
            }
            Phase::Spawning | Phase::Running { .. } => {
                let grace = lease.terms().grace();
                let kill_at = if loss.is_past_the_delay() { now } else { lease.deadline().min(now + grace).max(now) };
                let tell = Note::Lost { loss: loss.clone(), key, grace: kill_at.since(now) };
                let unkillable = matches!(self.phase, Phase::Running { unkillable: true, .. });
                self.phase = Phase::Ending { loss, noticed: now, kill_at, unkillable };
                let act = if kill_at <= now { Action::Kill } else { Action::End(Some(kill_at)) };
                vec![act, Action::Tell(tell)]
            }
            _ => Vec::new(),
        }
    }
}

fn held_by_ancestor(session: &str) -> Refused {
    let message = format!(
        "the run or the script that started this one holds the same lock (session {session}): it waits for us, and we would wait \
         for it for ever; use another key, or leave the inner run out"
    );
    Refused::new(Class::Usage, message)
}
