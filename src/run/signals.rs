//! Signals become events. `ctrlc` takes the interrupt wherever no command runs; everything else, and the interrupt of a
//! running command, needs to know who sent it, which `signal-hook` tells. Both are installed for the interrupt, `ctrlc`
//! first (the other order would silence signal-hook), and the run's state knows that one interrupt comes twice. A
//! signal that was ignored when we were started, as under nohup(1), gets no handler.

use std::sync::mpsc::Sender;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpid, getsid};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin as Info};

use super::Input;
use super::event::{Event, Origin};
use crate::guard::{self, Inherited};

/// What is handled: the signals that people and programs send to a program they have started.
const HANDLED: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Installs the handlers and unblocks all but `mask`; from now on signals are events. Those that came while all were
/// blocked are so before this returns: the guard was not there to get them, and what follows must not overtake them.
///
/// # Errors
/// When the operating system gives no handler or no thread.
pub(super) fn listen(inherited: &Inherited, mask: &SigSet, guard: Pid, inbox: &Sender<Input>) -> anyhow::Result<()> {
    if !inherited.ignores(Signal::SIGINT) {
        let inbox = inbox.clone();
        ctrlc::set_handler(move || {
            // After the run nobody listens, and nothing is lost.
            let _ = inbox.send(Input::Event(Event::Interrupt));
        })?;
    }
    let handled: Vec<_> = HANDLED.iter().filter(|signal| !inherited.ignores(**signal)).map(|s| *s as i32).collect();
    let mut signals = SignalsInfo::<WithOrigin>::new(handled)?;
    mask.thread_set_mask()?;
    let inbox = inbox.clone();
    let tell = move |info| {
        let event = event(&info, guard);
        event.is_none_or(|event| inbox.send(Input::Event(event)).is_ok())
    };
    let _ = signals.pending().all(&tell);
    std::thread::Builder::new().name("signals".into()).spawn(move || signals.forever().all(tell))?;
    Ok(())
}

fn event(info: &Info, guard: Pid) -> Option<Event> {
    let signal = Signal::try_from(info.signal).ok()?;
    Some(Event::Signal { signal, origin: origin(info, guard) })
}

/// Where a signal came from. A sender that has ended meanwhile cannot be placed, and counts as outside.
fn origin(info: &Info, guard: Pid) -> Origin {
    match (info.cause, info.process) {
        // A terminal that hangs up tells the leader of its session alone (`ssh -t host consul-lock …`, `exec consul-lock …`),
        // and not the job that the command is in.
        (Cause::Kernel, _) if info.signal == Signal::SIGHUP as i32 && getsid(None) == Ok(getpid()) => Origin::Outside,
        (Cause::Kernel, _) => Origin::Terminal,
        (_, Some(sender)) if guard::descends(sender.pid, guard.as_raw()) => Origin::Tree,
        _ => Origin::Outside,
    }
}
