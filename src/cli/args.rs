//! What is typed. clap's structs go no further than the [plan](super::plan), which says what was meant.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use consul_lock::duration;
use nix::sys::signal::Signal;

use super::acquire::{self, AcquireArgs};
use super::completions::CompletionsArgs;
use super::completions::names::NamesArgs;
use super::connection::Connection;
use super::doctor::DoctorArgs;
use super::evict::EvictArgs;
use super::examples;
use super::list::ListArgs;
use super::man::ManArgs;
use super::output::Output;
use super::release::{self, ReleaseArgs};
use super::renew::{self, RenewArgs};
use super::signal;
use super::status::StatusArgs;
use super::wait::WaitArgs;

/// Runs a command while holding a Consul lock; it and everything it started is dead before anybody else can hold the
/// lock.
#[derive(Debug, Parser)]
#[command(name = "consul-lock", version, propagate_version = true, max_term_width = 100, after_long_help = examples::RUN)]
pub(crate) struct Line<C: Subcommand> {
    #[command(subcommand)]
    pub(crate) command: C,
}

/// A line with any of the commands.
pub(crate) type Cli = Line<Command>;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Hold(Hold),
    #[command(about = first_line(acquire::ABOUT), long_about = acquire::ABOUT, after_long_help = examples::ACQUIRE)]
    Acquire(Box<AcquireArgs>),
    #[command(about = first_line(renew::ABOUT), long_about = renew::ABOUT, after_long_help = examples::RENEW)]
    Renew(Box<RenewArgs>),
    #[command(about = first_line(release::ABOUT), long_about = release::ABOUT, after_long_help = examples::RELEASE)]
    Release(Box<ReleaseArgs>),
    /// Show who holds a lock, since when, from where, and who waits for it.
    #[command(after_long_help = examples::STATUS)]
    Status(Box<StatusArgs>),
    /// List the locks below a prefix.
    #[command(after_long_help = examples::LIST)]
    List(Box<ListArgs>),
    /// Wait until nobody holds a lock.
    #[command(after_long_help = examples::WAIT)]
    Wait(Box<WaitArgs>),
    /// Take a lock from its holder by ending its session.
    #[command(after_long_help = examples::EVICT)]
    Evict(Box<EvictArgs>),
    /// Check all that a lock needs, each with its mend.
    #[command(after_long_help = examples::DOCTOR)]
    Doctor(Box<DoctorArgs>),
    /// Print completions for a shell.
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print a page of the manual.
    #[command(after_long_help = examples::MAN)]
    Man(ManArgs),
    /// Print the names of locks for completions.
    #[command(hide = true)]
    Names(NamesArgs),
}

/// What the list of commands says.
fn first_line(about: &str) -> String {
    about.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

/// The command that must begin quickly.
#[derive(Debug, Subcommand)]
pub(crate) enum Hold {
    /// Hold the lock while a command runs.
    #[command(after_long_help = examples::RUN)]
    Run(Box<RunArgs>),
}

impl Command {
    /// Reads the line. clap makes every flag of all the commands that it is to know before it looks at the first word; so it
    /// is told of `run` alone where that is the one.
    ///
    /// # Errors
    /// What clap says of a line that makes no sense, and of one that asks for help.
    pub(crate) fn read<W: AsRef<OsStr> + Into<OsString> + Clone>(line: &[W]) -> Result<Self, clap::Error> {
        if line.get(1).is_some_and(|word| word.as_ref() == "run") {
            Ok(Self::Hold(Line::try_parse_from(line)?.command))
        } else {
            Ok(Cli::try_parse_from(line)?.command)
        }
    }
}

#[derive(Debug, Args)]
#[command(
    override_usage = "consul-lock run [OPTIONS] <KEY>... -- <COMMAND> [ARG]...\n       consul-lock run [OPTIONS] <KEY>... -c <STRING>"
)]
pub(crate) struct RunArgs {
    /// A key in Consul's KV, such as cron/backup.
    ///
    /// Or several keys, of which the command gets all or none.
    #[arg(required = true, num_args = 1.., value_name = "KEY")]
    pub(crate) keys: Vec<String>,

    /// The command and its arguments; no shell is involved.
    #[arg(last = true, hide_short_help = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// Run /bin/sh -c STRING instead of a COMMAND.
    #[arg(short = 'c', value_name = "STRING", conflicts_with = "command")]
    pub(crate) shell: Option<OsString>,

    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) session: Session,
    #[command(flatten)]
    pub(crate) loss: OnLoss,
    #[command(flatten)]
    pub(crate) local: Local,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Write the outcome here, for Prometheus.
    ///
    /// For node_exporter's textfile collector: whether the lock was acquired and lost, how long it was waited for and held, the
    /// exit code, the last success.
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = "Output")]
    pub(crate) metrics_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Waiting")]
pub(crate) struct Waiting {
    /// Give up after this; 0 is one attempt.
    ///
    /// Without it, wait for ever [default: wait for ever]. A duration is written as 15s, 1m30s or 500ms; a bare number is seconds.
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) wait: Option<Duration>,
    /// Up to N holders at once: a semaphore.
    ///
    /// From 1 to 1000 [default: 1].
    #[arg(long, value_name = "N", conflicts_with = "shared")]
    pub(crate) limit: Option<u32>,
    /// As a reader, beside other readers.
    ///
    /// Readers share the lock with each other; runs without this flag are the writers.
    #[arg(long)]
    pub(crate) shared: bool,
    /// Give up at once if it is taken: --wait 0.
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
    /// Exit code for "not acquired".
    #[arg(short = 'E', long, hide_short_help = true, value_name = "0-255", default_value_t = super::exit::code::CONFLICT)]
    pub(crate) conflict_exit_code: u8,
    /// How long a Consul that does not answer is asked again while acquiring and releasing [default: 30s].
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) retry_for: Option<Duration>,
}

impl Waiting {
    /// How long to wait; nothing is for ever.
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.no_wait { Some(Duration::ZERO) } else { self.wait }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Session")]
pub(crate) struct Session {
    /// What the key says while it is held [default: a record of host, pid, user, program].
    #[arg(long, hide_short_help = true, value_name = "TEXT", conflicts_with = "session")]
    pub(crate) value: Option<OsString>,
    /// Lock under this session, not one of our own.
    ///
    /// It is renewed, but neither made nor destroyed here.
    #[arg(long, hide_short_help = true, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// The session's name [default: consul-lock KEY].
    #[arg(long, hide_short_help = true, value_name = "TEXT")]
    pub(crate) session_name: Option<String>,
    /// The session's TTL, 10s to 24h [default: 15s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) ttl: Option<Duration>,
    /// Pause before a lost lock's next holder.
    ///
    /// Consul keeps it, up to 60s; it is the time that the promise is kept in [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) lock_delay: Option<Duration>,
    /// What becomes of the key when the session ends by itself [default: release].
    #[arg(long, hide_short_help = true, value_name = "WHAT")]
    pub(crate) behavior: Option<BehaviorArg>,
    /// Bind the session to this health check instead of serfHealth; repeatable.
    #[arg(long = "check", hide_short_help = true, value_name = "ID", conflicts_with = "no_checks")]
    pub(crate) checks: Vec<String>,
    /// Bind the session to no health check.
    #[arg(long, hide_short_help = true)]
    pub(crate) no_checks: bool,
    /// Leave the key in place on release.
    #[arg(long, hide_short_help = true)]
    pub(crate) keep_key: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "On loss")]
pub(crate) struct OnLoss {
    /// First signal to the whole tree.
    #[arg(short = 's', long, value_name = "SIGNAL", default_value = "TERM", value_parser = signal::parse)]
    pub(crate) kill_signal: Signal,
    /// SIGKILL after that; 0: at once [default: 5s].
    #[arg(short = 'k', long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) kill_after: Option<Duration>,
    /// Exit code for a lost lock.
    #[arg(long, hide_short_help = true, value_name = "0-255", default_value_t = super::exit::code::LOST)]
    pub(crate) lost_exit_code: u8,
    /// Failed confirmations in a row before the lock counts as lost [default: as many as the lease has time for].
    #[arg(long, hide_short_help = true, value_name = "N")]
    pub(crate) monitor_retries: Option<u32>,
    /// The pause after a failed confirmation [default: 1s].
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) monitor_retry_time: Option<Duration>,
    /// What becomes of processes that it leaves behind.
    #[arg(long, hide_short_help = true, value_name = "WHAT", default_value = "kill")]
    pub(crate) background: BackgroundArg,
    /// Go on where the promise cannot be kept; every run says so.
    #[arg(long, hide_short_help = true)]
    pub(crate) no_guarantee: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "One machine")]
pub(crate) struct Local {
    /// Lock on this machine only, without Consul.
    ///
    /// Among this user's processes; with DIR, among all that name it.
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    // Two options: `--local=` with an unset variable behind it must not pass for `--local`, or those who share the
    // directory would not exclude each other.
    pub(crate) local: Option<Option<OsString>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BehaviorArg {
    Release,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackgroundArg {
    /// Give them the grace to end, then kill them, by name
    Kill,
    /// Hold the lock until they end
    Wait,
    /// Release the lock at once and let them live
    Leave,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_own_flags_reach_it_untouched() {
        let read = Command::read(&["consul-lock", "run", "k", "--", "echo", "-n", "--ttl", "--", "-c"]);
        let Ok(Command::Hold(Hold::Run(args))) = read else { panic!("{read:?}") };
        assert_eq!(args.command, ["echo", "-n", "--ttl", "--", "-c"]);
        assert!(!args.waiting.no_wait && args.session.ttl.is_none());
    }

    #[test]
    fn what_is_said_of_a_run_does_not_depend_on_which_commands_are_known() {
        for words in [
            &["consul-lock", "run", "--help"][..],
            &["consul-lock", "run", "-h"],
            &["consul-lock", "run", "--version"],
            &["consul-lock", "run"],
            &["consul-lock", "run", "k", "--tll", "15s"],
            &["consul-lock", "run", "k", "--ttl", "soon", "--", "true"],
            &["consul-lock", "run", "k", "-n", "-w", "3", "--", "true"],
        ] {
            let alone = Command::read(words).expect_err("help or an error").render().to_string();
            let among_all = Cli::try_parse_from(words).expect_err("help or an error").render().to_string();
            assert_eq!(alone, among_all);
        }
    }
}
