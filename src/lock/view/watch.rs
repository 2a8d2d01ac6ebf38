//! Being told when a lock changes. Blocking queries last on the key and on each folder below it; what they say is only
//! that it is time to look again, since an index belongs to one of them and the lock to all.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Kind, LockView};
use crate::clock::Moment;
use crate::consul::{Client, Error as ConsulError, Read};
use crate::lock::error::Error;
use crate::lock::notice::Trouble;
use crate::lock::patience::{Outlook, Patience};
use crate::lock::stop::{Stop, Stopped};

/// How long a blocking query lasts: a connection that was cut without a word is found out that late.
const TURN: Duration = Duration::from_secs(15);

/// Answers to one query are not more frequent than this: who watches a missing key is woken by each write around it.
const PAUSE: Duration = Duration::from_millis(100);

/// What a watch has to tell; the same may be told twice.
#[derive(Debug)]
pub enum Sight {
    /// The lock may have changed. The first one comes at once.
    Changed,
    /// Consul gives no usable answer; it is asked again, for ever.
    Trouble(Trouble),
    /// That will not change; the watch is over.
    Failed(Error),
}

/// Watches a lock until `stop` is thrown, in threads of its own, and tells what it sees.
///
/// # Errors
/// [`Error::Thread`].
pub fn watch(
    client: &Client,
    lock: &LockView,
    stop: &Stop,
    tell: impl Fn(Sight) + Send + Sync + 'static,
) -> Result<(), Error> {
    let key = &lock.key;
    let wholes = match lock.kind {
        Kind::Lock => {
            let below = [".slot", ".read", ".queue"].map(|part| Whole::Prefix(format!("{key}/{part}/")));
            [Whole::Key(key.clone())].into_iter().chain(below).collect()
        }
        // The contenders of a semaphore of Go's are beside its key.
        Kind::GoSemaphore => vec![Whole::Prefix(format!("{key}/"))],
    };
    let tell: Arc<dyn Fn(Sight) + Send + Sync> = Arc::new(tell);
    for whole in wholes {
        let query = Query { client: client.separate(), whole, stop: stop.clone(), tell: tell.clone() };
        thread::Builder::new().name("watch".into()).spawn(move || query.run())?;
    }
    Ok(())
}

/// What one query watches.
enum Whole {
    Key(String),
    Prefix(String),
}

struct Query {
    client: Client,
    whole: Whole,
    stop: Stop,
    tell: Arc<dyn Fn(Sight) + Send + Sync>,
}

impl Query {
    fn run(self) {
        let mut patience = Patience::new(Duration::MAX, None);
        let mut index = 0;
        loop {
            let sent = Moment::now();
            let pause = match self.ask(index) {
                Ok(seen) => {
                    patience.answered();
                    if seen != index || index == 0 {
                        (self.tell)(Sight::Changed);
                    }
                    // Consul's advice: an index that goes back is of another beginning.
                    index = if seen < index { 0 } else { seen };
                    PAUSE
                }
                Err(error) => match patience.failed(Outlook::of(&error), sent, Moment::now()) {
                    Some(pause) => {
                        // What happened meanwhile must not be missed.
                        index = 0;
                        (self.tell)(Sight::Trouble(Trouble::from(&error)));
                        pause
                    }
                    None => return (self.tell)(Sight::Failed(self.denied(error))),
                },
            };
            if let Err(Stopped) = self.stop.pause(pause) {
                return;
            }
        }
    }

    /// The index after `index`, or the same when the turn is over; an index of 0 is answered at once.
    fn ask(&self, index: u64) -> Result<u64, ConsulError> {
        let (read, timeout) = match index {
            0 => (Read::Consistent, Duration::from_secs(5)),
            _ => (Read::Blocking { index, wait: TURN }, TURN + TURN / 16 + Duration::from_secs(2)),
        };
        match &self.whole {
            Whole::Key(key) => self.client.get(key, read, timeout).map(|reply| reply.index),
            Whole::Prefix(prefix) => self.client.list(prefix, read, timeout).map(|listing| listing.index),
        }
    }

    fn denied(&self, error: ConsulError) -> Error {
        match &self.whole {
            Whole::Key(key) => Error::denied_reading(&self.client, "key", key, error),
            Whole::Prefix(prefix) => Error::denied_listing(&self.client, prefix, error),
        }
    }
}
