//! Asking again while Consul gives no usable answer, as a lock does while it is acquired.

use std::time::Duration;

use super::error::Error;
use super::notice::{Notice, Tell, Trouble};
use super::patience::{Outlook, Patience};
use super::stop::Stop;
use crate::clock::Moment;

/// Asks until there is an answer, for `retry_for` at most of a Consul that is not there, and never after `until`. What is
/// worth another attempt is told as [`Notice::Retrying`].
///
/// # Errors
/// The last error of `ask`; [`Error::Stopped`].
pub fn retry<T>(
    retry_for: Duration,
    until: Option<Moment>,
    stop: &Stop,
    tell: &Tell,
    mut ask: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut patience = Patience::new(retry_for, until);
    loop {
        let sent = Moment::now();
        let error = match ask() {
            Err(Error::Consul(error)) => error,
            other => return other,
        };
        match patience.failed(Outlook::of(&error), sent, Moment::now()) {
            Some(pause) => {
                tell(Notice::Retrying(Trouble::from(&error)));
                stop.pause(pause)?;
            }
            None => return Err(error.into()),
        }
    }
}
