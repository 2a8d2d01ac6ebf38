//! Waiting until nobody holds a lock, without wanting it. One blocking query at a time, on an entry that is held; once it
//! changes all is read again. Whoever looks this way stands in no line: a lock that goes from one holder to the next
//! without a pause is held all the time.

use std::time::Duration;

use super::error::Error;
use super::key::Key;
use super::notice::{Holder, Notice, Tell};
use super::retry::retry;
use super::stop::Stop;
use super::view::{Holding, LockView};
use crate::clock::Moment;
use crate::consul::{Client, Read};

/// Longest wait for the reply to a request that Consul answers at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a blocking query lasts: a connection that was cut without a word is found out that late.
const TURN: Duration = Duration::from_secs(15);

/// Waits until nobody holds `key`, neither a slot of it nor a share in it, and returns it as it stands then. It may be
/// under a lock delay ([`LockView::lost`]). Gives up after `wait`, and after `retry_for` without an answer of Consul's; at
/// least one look is taken. Tells [`Notice::Waiting`] once a holder, and [`Notice::Retrying`].
///
/// # Errors
/// [`Error::Held`] when the time is up, [`Error::Stopped`], and whatever went wrong.
pub fn wait_until_free(
    client: &Client,
    key: &Key,
    wait: Option<Duration>,
    retry_for: Duration,
    stop: &Stop,
    tell: &Tell,
) -> Result<LockView, Error> {
    // Throwing the switch ends all connections of the client that waits, so that it must not be the caller's.
    let client = &client.separate();
    let until = wait.map(|wait| Moment::now() + wait);
    let mut told = None;
    loop {
        let look = |client: &Client| client.lock_view(key, TIMEOUT);
        let view = retry(retry_for, until, stop, tell, || stop.interruptible(client, look)?)?;
        let Some(holding) = view.holders.first() else { return Ok(view) };
        let record = holding.record.clone().map(Box::new);
        let holder = Holder { session: holding.session.clone(), record };
        if told.as_ref() != Some(&holder) {
            tell(Notice::Waiting { key: key.clone(), holder: holder.clone() });
            told = Some(holder.clone());
        }
        let mut index = holding.entry.modify_index;
        loop {
            let left = until.map_or(TURN, |until| until.since(Moment::now()).min(TURN));
            if left.is_zero() {
                return Err(Error::Held { key: key.clone(), holder });
            }
            let block = |client: &Client| block(client, holding, index, left);
            match retry(retry_for, until, stop, tell, || stop.interruptible(client, block)?)? {
                Some(same) => index = same,
                None => break,
            }
        }
    }
}

/// Blocks until the entry is another than it was at `index`; its index if it is not.
fn block(client: &Client, holding: &Holding, index: u64, wait: Duration) -> Result<Option<u64>, Error> {
    // Consul adds up to a sixteenth to a wait.
    let timeout = wait + wait / 16 + Duration::from_secs(2);
    let reply = client.get(&holding.entry.key, Read::Blocking { index, wait }, timeout)?;
    let same = reply.entry.is_some_and(|entry| entry.session.as_ref() == Some(&holding.session));
    Ok(same.then_some(reply.index))
}
