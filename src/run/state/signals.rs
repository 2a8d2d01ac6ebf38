//! What a person or a program wants by a signal, which depends on how far the run is.

use super::*;

impl Run {
    pub(super) fn signalled(&mut self, signal: Signal, origin: Origin, now: Moment) -> Vec<Action> {
        let another = self.is_another(now);
        // A clean-up that signals its whole process group reaches us, too, and means its own children.
        if origin == Origin::Tree {
            return Vec::new();
        }
        let meant = self.is_meant_again(signal, now);
        if another && ends_us(signal) && self.cleans_up_after_a_signal() {
            return self.cut_short();
        }
        match &mut self.phase {
            Phase::Waiting if signal != Signal::SIGWINCH => self.end_waiting(signal, now),
            Phase::Confirming if signal != Signal::SIGWINCH => {
                self.release(Outcome::Interrupted(signal), now, false, Vec::new())
            }
            // What the terminal sent to the job before the command was born into it, the guard has got and passes on.
            Phase::Spawning | Phase::Running { ended: None, .. } if origin == Origin::Outside => forward(signal),
            Phase::Running { ended: Some(outcome), unkillable: true } if ends_us(signal) => {
                let outcome = outcome.clone();
                self.phase = Phase::Finished;
                vec![Action::Finish(outcome)]
            }
            Phase::Running { ended: Some(_), .. } if meant => kill(signal),
            // The command cannot take it any more, and what it left behind would never get it.
            Phase::Running { ended: Some(_), .. } if origin == Origin::Outside && ends_us(signal) => {
                vec![Action::End(None), Action::Tell(Note::Hurried(signal))]
            }
            Phase::Ending { kill_at, .. } if meant => {
                *kill_at = now.min(*kill_at);
                kill(signal)
            }
            Phase::Releasing { until, .. } if ends_us(signal) => {
                let soon = if meant { now } else { now + CLEAN_UP };
                *until = Some(until.map_or(soon, |until| until.min(soon)));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Whether this is one signal more, and no echo of the one before.
    fn is_another(&mut self, now: Moment) -> bool {
        self.last_heard.replace(now).is_none_or(|last| now.since(last) >= ECHO)
    }

    /// Whether an INT or TERM repeats one that came before.
    fn is_meant_again(&mut self, signal: Signal, now: Moment) -> bool {
        matches!(signal, Signal::SIGINT | Signal::SIGTERM)
            && self.last_signal.replace(now).is_some_and(|last| now.since(last) >= MEANT_AGAIN)
    }

    fn cleans_up_after_a_signal(&self) -> bool {
        let (Phase::GivingUp { outcome, .. } | Phase::Releasing { outcome, .. }) = &self.phase else { return false };
        matches!(outcome, Outcome::Interrupted(_))
    }

    fn end_waiting(&mut self, signal: Signal, now: Moment) -> Vec<Action> {
        let mut actions = vec![Action::Tell(Note::Hurried(signal))];
        actions.extend(self.give_up(Outcome::Interrupted(signal), now));
        actions
    }
}

fn forward(signal: Signal) -> Vec<Action> {
    vec![Action::Forward(signal), Action::Tell(Note::Forwarded(signal))]
}

fn kill(signal: Signal) -> Vec<Action> {
    vec![Action::Kill, Action::Tell(Note::Hurried(signal))]
}
