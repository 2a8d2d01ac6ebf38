//! What a service manager is told, where it asks to be (sd_notify(3), `Type=notify`): the service is ready once the lock
//! is held and the command was started, and a line of status says what it waits for until then. A thread of its own
//! does the telling, since a message never delays a decision; without NOTIFY_SOCKET there is none.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::run::Note;

/// How long the last word may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Tells the service manager.
pub(crate) struct Manager {
    /// The lock's keys, in words.
    names: String,
    teller: Option<(Sender<Word>, Receiver<()>)>,
}

struct Word {
    ready: bool,
    stopping: bool,
    status: String,
}

impl Manager {
    /// The manager that NOTIFY_SOCKET names, if there is one.
    pub(crate) fn new(names: String) -> Self {
        let wants = std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty());
        Self { names, teller: wants.then(start).flatten() }
    }

    /// Takes a note, and tells what of it concerns the service.
    pub(crate) fn tell(&self, note: &Note) {
        let Some((words, _)) = &self.teller else { return };
        let names = &self.names;
        let (ready, stopping, status) = match note {
            Note::Waiting { key, holder } => (false, false, format!("waiting for {key}, held by {holder}")),
            Note::WaitingHere { key, holder: Some(record) } => {
                (false, false, format!("waiting for {key}, held by {record}"))
            }
            Note::WaitingHere { key, holder: None } => (false, false, format!("waiting for {key}")),
            Note::Delayed { key, .. } => (false, false, format!("waiting for {key} until its lock delay is over")),
            Note::Retrying(why) => (false, false, format!("waiting for Consul: {why}")),
            Note::Started(_) => (true, false, format!("holding {names}")),
            Note::Unconfirmed { urgent: true, .. } => (false, false, format!("holding {names}, not confirmed")),
            Note::Confirmed { after_trouble: Some(_) } => (false, false, format!("holding {names}")),
            Note::Lost { loss, .. } => (false, true, format!("lost {names}: {loss}")),
            Note::Exited { .. } => (false, true, format!("releasing {names}")),
            _ => return,
        };
        // Nobody tells any more if there was no thread to be had.
        let _ = words.send(Word { ready, stopping, status });
    }

    /// Waits a moment until all is told.
    pub(crate) fn finish(self) {
        if let Some((words, done)) = self.teller {
            drop(words);
            let _ = done.recv_timeout(LAST_WORDS);
        }
    }
}

fn start() -> Option<(Sender<Word>, Receiver<()>)> {
    let (words, inbox) = channel::<Word>();
    let (finished, done) = channel::<()>();
    let tell = move || {
        for word in inbox {
            let mut states = vec![NotifyState::Status(&word.status)];
            states.extend(word.ready.then_some(NotifyState::Ready));
            states.extend(word.stopping.then_some(NotifyState::Stopping));
            // A manager that does not listen is no reason to do anything else.
            let _ = sd_notify::notify(&states);
        }
        drop(finished);
    };
    thread::Builder::new().name("systemd".into()).spawn(tell).ok()?;
    Some((words, done))
}
