//! Signals of a process that runs no command: each means that it should end. `ctrlc` takes the interrupt, `signal-hook`
//! the others. A signal that was ignored when we were started, as under nohup(1), gets no handler.

use nix::sys::signal::Signal;

use crate::guard::Inherited;

/// What is handled beside the interrupt.
const HANDLED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Installs the handlers; `tell` is called in threads of their own, until it answers that nobody listens.
///
/// # Errors
/// When the operating system gives no handler or no thread.
pub(super) fn listen(
    inherited: &Inherited,
    tell: impl Fn(Signal) -> bool + Clone + Send + 'static,
) -> anyhow::Result<()> {
    if !inherited.ignores(Signal::SIGINT) {
        let tell = tell.clone();
        ctrlc::set_handler(move || {
            tell(Signal::SIGINT);
        })?;
    }
    let handled: Vec<_> = HANDLED.iter().filter(|signal| !inherited.ignores(**signal)).map(|s| *s as i32).collect();
    let mut signals = signal_hook::iterator::Signals::new(handled)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().filter_map(|number| Signal::try_from(number).ok()).all(tell))?;
    Ok(())
}
