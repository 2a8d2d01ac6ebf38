//! The interrupt of a command that only waits or watches.

use consul_lock::lock::Stop;
use nix::sys::signal::Signal;

use crate::guard::Inherited;

/// Calls `then` and throws `stop` when an interrupt comes, unless interrupts were ignored when we were started.
///
/// # Errors
/// When the operating system gives no handler or no thread.
pub(super) fn listen(inherited: &Inherited, stop: &Stop, then: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    if inherited.ignores(Signal::SIGINT) {
        return Ok(());
    }
    let stop = stop.clone();
    Ok(ctrlc::set_handler(move || {
        then();
        stop.throw();
    })?)
}
