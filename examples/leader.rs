//! Of several copies of this program one leads at a time, and another takes over when it ends or loses the lock:
//!
//!     cargo run --example leader -- service/billing/leader
//!
//! Consul is found by the variables that `consul` itself has (CONSUL_HTTP_ADDR and so on). Ctrl-C steps down.

use std::error::Error;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use consul_lock::Client;
use consul_lock::lock::{Error as LockError, LockOptions, Loss, Stop};

fn main() -> Result<(), Box<dyn Error>> {
    let key = std::env::args().nth(1).unwrap_or_else(|| "service/example/leader".to_owned());
    let stop = Stop::new();
    let interrupt = stop.clone();
    ctrlc::set_handler(move || interrupt.throw())?;

    // The work below notices a loss within a second, so that it needs no longer grace.
    let options = LockOptions { grace: Duration::from_secs(2), ..LockOptions::new(key.parse()?) };
    let mut lock = Client::from_env()?.lock_opts(options);
    while !stop.is_thrown() {
        println!("{key}: waiting to lead");
        let lost = match lock.lock(&stop) {
            Ok(lost) => lost,
            Err(LockError::Stopped) => break,
            Err(error) => return Err(error.into()),
        };
        if let Some(holding) = lock.holding() {
            // Whatever is written elsewhere while leading should carry the fence, so that a late write can be refused.
            println!("{key}: leading, fence {}", holding.fence());
        }
        if let Some(loss) = lead(&lost, &stop) {
            println!("{key}: not leading any more: {loss}");
        }
        match lock.unlock() {
            Ok(()) | Err(LockError::LostBefore(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    println!("{key}: stepped down");
    Ok(())
}

/// Leads, a second of work at a time: until the lock is lost, which is the answer, or until it is told to stop.
fn lead(lost: &Receiver<Loss>, stop: &Stop) -> Option<Loss> {
    while !stop.is_thrown() {
        match lost.recv_timeout(Duration::from_secs(1)) {
            Ok(loss) => return Some(loss),
            Err(RecvTimeoutError::Timeout) => { /* a second's work */ }
            // Only an unlock ends the channel.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    None
}
