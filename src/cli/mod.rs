//! What a person types and reads: from arguments to a plan, from an outcome to messages and an exit code.

mod acquire;
mod args;
mod completions;
mod connection;
mod detached;
mod doctor;
mod evict;
mod examples;
mod exit;
mod help;
mod interrupt;
mod list;
mod live;
mod man;
mod metrics;
mod misuse;
mod output;
mod plan;
mod program;
mod refusal;
mod release;
mod renew;
mod report;
mod run;
mod shell;
mod shown;
mod signal;
mod slip;
mod source;
mod status;
mod stdout;
mod systemd;
mod table;
mod wait;

use crate::guard::Inherited;
use crate::sys;
use args::{Command, Hold};
use exit::{Exit, code};
use refusal::Refusal;

/// Does what the arguments say.
///
/// # Errors
/// Faults of our own or of the machine, which nothing in the table of exit codes foresees.
pub(crate) fn main() -> anyhow::Result<Exit> {
    // First of all: what is opened or handled later would pass for inherited.
    let inherited = Inherited::read();
    sys::share_heap();
    let line: Vec<_> = std::env::args_os().collect();
    match Command::read(&line) {
        Ok(command) => match command {
            Command::Hold(Hold::Run(args)) => run::run(*args, inherited),
            Command::Status(args) => status::status(*args, &inherited),
            Command::List(args) => Ok(list::list(*args)),
            Command::Wait(args) => wait::wait(*args, &inherited),
            Command::Evict(args) => Ok(evict::evict(*args)),
            Command::Acquire(args) => acquire::acquire(*args, inherited),
            Command::Renew(args) => Ok(renew::renew(*args)),
            Command::Release(args) => Ok(release::release(*args)),
            Command::Doctor(args) => Ok(doctor::run(*args)),
            Command::Completions(args) => Ok(completions::run(&args)),
            Command::Man(args) => Ok(refused(man::run(&args))),
            Command::Names(args) => Ok(completions::names::run(&args)),
        },
        Err(error) => {
            let exit = misuse::answer(&error, &line);
            if shell::is_evaluated(line.iter().skip(1).map(|argument| argument.as_os_str())) {
                shell::fail(exit);
            }
            Ok(exit)
        }
    }
}

/// The exit of a command that may be refused, once that is told.
fn refused(result: Result<Exit, Refusal>) -> Exit {
    result.unwrap_or_else(|refusal| {
        report::write_last(format!("consul-lock: {}", refusal.message));
        Exit::Code(refusal.code)
    })
}

/// Tells a fault that nothing foresees, and ends.
pub(crate) fn fail(error: &anyhow::Error) -> ! {
    report::write_last(format!("consul-lock: {error:#}"));
    Exit::Code(code::INTERNAL).exit()
}
