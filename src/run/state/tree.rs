//! What becomes of the command and its descendants, by the guard's word or by its silence.

use super::*;

impl Run {
    pub(super) fn reported(&mut self, report: Report, now: Moment) -> Vec<Action> {
        match report {
            Report::Started { pid } => {
                if matches!(self.phase, Phase::Spawning) {
                    self.phase = Phase::Running { ended: None, unkillable: false };
                }
                vec![Action::Tell(Note::Started(pid))]
            }
            Report::NotStarted { errno } => {
                // The child that could not become the command is still to be reaped; the guard says when it is.
                if matches!(self.phase, Phase::Spawning) {
                    self.phase = Phase::Running { ended: Some(Outcome::NotStarted(errno)), unkillable: false };
                }
                Vec::new()
            }
            Report::Exited { status, left } => self.exited(status, left),
            Report::Ending { cause: Cause::Deadline } => self.lost(Loss::Unconfirmed, None, now),
            Report::Ending { .. } => Vec::new(),
            Report::Left { pid, name } => vec![Action::Tell(Note::KilledLeftBehind { pid, name })],
            Report::Unkillable { pid, user, name } => self.unkillable(Note::Unkillable { pid, user, name }),
            Report::Gone { at } => self.gone(at, now),
        }
    }

    fn exited(&mut self, status: Status, left: usize) -> Vec<Action> {
        let (code, signal) = match status {
            Status::Code(code) => (Some(code), None),
            Status::Signal(number) => (None, Signal::try_from(number).ok()),
        };
        let outcome = match (status, signal) {
            (_, Some(signal)) => Outcome::Killed(signal),
            (Status::Code(code), None) => Outcome::Exited(code),
            // A real-time signal, for which there is no name.
            (Status::Signal(number), None) => Outcome::Exited(128 + number),
        };
        if let Phase::Running { ended, .. } = &mut self.phase {
            *ended = Some(outcome);
        } else if matches!(self.phase, Phase::Spawning) {
            self.phase = Phase::Running { ended: Some(outcome), unkillable: false };
        }
        vec![Action::Tell(Note::Exited { code, signal, left })]
    }

    fn unkillable(&mut self, note: Note) -> Vec<Action> {
        match &mut self.phase {
            Phase::Running { unkillable, .. } if !*unkillable => {
                *unkillable = true;
                vec![Action::Tell(note), Action::Tell(Note::HoldingOn)]
            }
            Phase::Ending { unkillable, .. } => {
                *unkillable = true;
                vec![Action::Tell(note)]
            }
            _ => vec![Action::Tell(note)],
        }
    }

    /// The tree is dead, and was so at `at`; a keeper that was stopped hears it late.
    fn gone(&mut self, at: Moment, now: Moment) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Running { ended: Some(outcome), .. } => self.release(outcome, now, false, Vec::new()),
            Phase::Running { ended: None, .. } | Phase::Spawning => {
                self.release(Outcome::GuardDied, now, false, Vec::new())
            }
            Phase::Ending { loss, noticed, .. } => {
                let dead = self.dead(&loss, noticed, at);
                self.release(Outcome::Lost(loss), now, true, vec![dead])
            }
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    fn dead(&self, loss: &Loss, noticed: Moment, at: Moment) -> Action {
        // Nothing is left of a delay that somebody is past.
        let lease = self.lease.filter(|_| !loss.is_past_the_delay());
        let left = lease.map(|lease| lease.safe_until().since(at)).filter(|left| !left.is_zero());
        Action::Tell(Note::Dead { after: at.since(noticed), left })
    }

    pub(super) fn guard_silent(&mut self, now: Moment) -> Vec<Action> {
        let (outcome, noticed) = match &self.phase {
            Phase::Spawning | Phase::Running { .. } => (Outcome::GuardDied, now),
            Phase::Ending { loss, noticed, .. } => (Outcome::Lost(loss.clone()), *noticed),
            Phase::Waiting => return self.give_up(Outcome::GuardDied, now),
            Phase::Confirming => return self.release(Outcome::GuardDied, now, false, Vec::new()),
            Phase::GivingUp { .. } | Phase::TakingOver { .. } | Phase::Releasing { .. } | Phase::Finished => {
                return Vec::new();
            }
        };
        self.phase = Phase::TakingOver { outcome, noticed };
        vec![Action::Tell(Note::TakingOver), Action::TakeOver]
    }

    pub(super) fn taken_over(&mut self, all_dead: bool, now: Moment) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::TakingOver { outcome, noticed } => {
                let first = match &outcome {
                    Outcome::Lost(loss) => vec![self.dead(loss, noticed, now)],
                    _ => Vec::new(),
                };
                let lost = !first.is_empty();
                if !all_dead {
                    return vec![Action::Finish(outcome)];
                }
                self.release(outcome, now, lost, first)
            }
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }
}
