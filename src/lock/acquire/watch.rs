//! The two questions that the first in line for a semaphore asks: has the key changed, has any slot below it? Both are
//! in flight at once, and the first answer decides. The other question stays where it is, and is as good the next time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::clock::Moment;
use crate::consul::{Client, Error as ConsulError, Read};

/// What Consul is given beside the time that a query blocks.
const SLACK: Duration = Duration::from_secs(2);

/// An answer.
pub(super) struct Answer {
    side: usize,
    /// When it was asked for.
    pub(super) sent: Moment,
    /// What the question said, and what the answer does.
    pub(super) result: Result<(u64, u64), ConsulError>,
}

/// The questions in flight. Dropping it cuts them off.
#[derive(Debug)]
pub(super) struct Watches {
    /// Of its own: there may be two connections.
    client: Client,
    answers: Receiver<Answer>,
    answered: Sender<Answer>,
    in_flight: [bool; 2],
}

impl Watches {
    pub(super) fn new(client: &Client) -> Self {
        let (answered, answers) = channel();
        Self { client: client.separate(), answers, answered, in_flight: [false; 2] }
    }

    /// The client to cut off in order to end the waiting.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Waits until the key is past the first index, something below `prefix` past the second, or `wait` is over. Nothing if
    /// there was no answer in time, or no thread to ask.
    pub(super) fn wait(&mut self, key: &str, prefix: &str, indexes: [u64; 2], wait: Duration) -> Option<Answer> {
        for (side, index) in indexes.into_iter().enumerate() {
            if !self.in_flight[side] {
                self.in_flight[side] = self.ask(side, if side == 0 { key } else { prefix }, index, wait);
            }
        }
        if self.in_flight == [false; 2] {
            return None;
        }
        match self.answers.recv_timeout(wait + wait / 16 + SLACK) {
            Ok(answer) => {
                self.in_flight[answer.side] = false;
                Some(answer)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    fn ask(&self, side: usize, path: &str, index: u64, wait: Duration) -> bool {
        let (client, path, answered) = (self.client.clone(), path.to_owned(), self.answered.clone());
        let ask = move || {
            let sent = Moment::now();
            let (read, timeout) = (Read::Blocking { index, wait }, wait + wait / 16 + SLACK);
            let result = if side == 0 {
                client.get(&path, read, timeout).map(|reply| (index, reply.index))
            } else {
                client.list(&path, read, timeout).map(|listing| (index, listing.index))
            };
            // Nobody waits any more once a slot is ours.
            let _ = answered.send(Answer { side, sent, result });
        };
        std::thread::Builder::new().name("watch".into()).spawn(ask).is_ok()
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.client.shutdown();
    }
}
