//! The outcome of a run for Prometheus, in a file for node_exporter's textfile collector. It is written when all is over:
//! it delays neither the death of a tree nor a release. The last success outlives runs that fail, so that "no success for a
//! day" can be asked of the file alone.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use consul_lock::clock::Moment;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg};
use nix::unistd::{AccessFlags, faccessat};

use super::exit::Exit;
use super::refusal::Refusal;
use crate::run::Note;

/// The name of the one number that is kept from the file before.
const LAST_SUCCESS: &str = "consul_lock_last_success_timestamp_seconds";

/// How long another run that writes to the same folder is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is known of a run, and where it is to be written.
#[derive(Debug)]
pub(crate) struct Metrics {
    path: PathBuf,
    key: String,
    started: Moment,
    acquired: Option<Moment>,
    /// When the lock was given back, or gone.
    ended: Option<Moment>,
    lost: bool,
    unconfirmed: Duration,
    /// How long the lock had gone without a confirmation when one failed last, and none has worked since.
    doubt: Duration,
}

impl Metrics {
    /// Metrics of a run for `key`, to be written to `path`.
    ///
    /// # Errors
    /// Nothing could be written there, as far as can be told before.
    pub(crate) fn new(path: PathBuf, key: &str) -> Result<Self, Refusal> {
        check(&path).map_err(|why| {
            let path = path.display();
            Refusal::configuration(format!(
                "--metrics-file {path} cannot be written: {why}; name a file in a folder that this user may write"
            ))
        })?;
        let (key, started) = (key.to_owned(), Moment::now());
        Ok(Self {
            path,
            key,
            started,
            acquired: None,
            ended: None,
            lost: false,
            unconfirmed: Duration::ZERO,
            doubt: Duration::ZERO,
        })
    }

    /// Takes in what the run tells.
    pub(crate) fn note(&mut self, note: &Note) {
        let now = Moment::now();
        match note {
            Note::Acquired { .. } => self.acquired = Some(now),
            Note::Unconfirmed { since, .. } => self.doubt = self.in_doubt(*since, now),
            Note::Confirmed { after_trouble: Some(time) } => {
                self.unconfirmed += self.in_doubt(*time, now);
                self.doubt = Duration::ZERO;
            }
            Note::Lost { .. } => self.lost = true,
            Note::Dead { .. } if self.lost => self.ended = Some(now),
            Note::Released | Note::GoneBeforeRelease | Note::ReleaseUnanswered(_) => {
                self.ended = self.ended.or(Some(now));
            }
            _ => {}
        }
    }

    /// The part of a time without confirmation, which ends at `now` or before, that the lock was held: the first
    /// confirmation is the request that took the lock, and it was sent before there was a lock to doubt.
    fn in_doubt(&self, unconfirmed: Duration, now: Moment) -> Duration {
        self.acquired.map_or(Duration::ZERO, |acquired| unconfirmed.min(now.since(acquired)))
    }

    /// Writes the file in one step: whoever reads it sees the one before or this one.
    ///
    /// # Errors
    /// What the system says, with the path.
    pub(crate) fn write(self, exit: Exit, success: bool) -> Result<(), String> {
        let path = self.path.clone();
        self.replace(exit, success)
            .map_err(|error| format!("the metrics were not written to {}: {error}", path.display()))
    }

    fn replace(self, exit: Exit, success: bool) -> io::Result<()> {
        let folder = folder(&self.path);
        // Of two runs that end together the later one must see the earlier one's success. The folder is what both have; a
        // collector locks nothing.
        let _lock = lock(File::open(folder)?);
        let now = unix(SystemTime::now());
        let before = fs::read_to_string(&self.path).ok().and_then(|text| last_success(&text, &self.key));
        let text = self.text(exit, now, if success { Some(now) } else { before });
        // The collector reads what ends in .prom, and nothing else.
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.join(format!(".{name}.{}", std::process::id()));
        let written = write(&temporary, &text).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn text(&self, exit: Exit, now: f64, last_success: Option<f64>) -> String {
        let end = self.ended.unwrap_or_else(Moment::now);
        let waited = self.acquired.unwrap_or(end).since(self.started);
        let held = self.acquired.map_or(Duration::ZERO, |acquired| end.since(acquired));
        let code = match exit {
            Exit::Code(code) => f64::from(code),
            Exit::Signal(signal) => f64::from(128 + signal as i32),
        };
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let gauges = [
            ("consul_lock_acquired", "Whether the last run had the lock.", Some(flag(self.acquired.is_some()))),
            ("consul_lock_wait_seconds", "How long the last run waited for the lock.", Some(seconds(waited))),
            ("consul_lock_held_seconds", "How long the last run held the lock.", Some(seconds(held))),
            ("consul_lock_exit_code", "The exit code of the last run; 128+n if it died of signal n.", Some(code)),
            ("consul_lock_lost", "Whether the last run lost the lock.", Some(flag(self.lost))),
            (
                "consul_lock_unconfirmed_seconds",
                "How long the last run's lock was in doubt, because a confirmation had failed.",
                Some(seconds(self.unconfirmed + self.doubt)),
            ),
            ("consul_lock_last_run_timestamp_seconds", "When the last run ended.", Some(now)),
            (LAST_SUCCESS, "When a run last ended with exit code 0 while it held the lock.", last_success),
        ];
        let label = escape(&self.key);
        let gauge = |(name, help, value): (&str, &str, Option<f64>)| {
            Some(format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{key=\"{label}\"}} {}\n", value?))
        };
        gauges.into_iter().filter_map(gauge).collect()
    }
}

/// flock(2), for which nobody waits longer than a moment.
fn lock(mut file: File) -> Option<Flock<File>> {
    let until = Moment::now() + PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err(_) if Moment::now() >= until => return None,
            Err((unlocked, _)) => file = unlocked,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `path` can be written, as far as can be told without doing it.
fn check(path: &Path) -> Result<(), String> {
    let may = |path: &Path, how| {
        faccessat(AT_FDCWD, path, how, AtFlags::AT_EACCESS)
            .map_err(|errno| format!("{}: {}", path.display(), errno.desc()))
    };
    if path.file_name().is_none() || path.is_dir() {
        return Err("it is a folder".to_owned());
    }
    // What is there is read at the end, which of a pipe would never come, and replaced: /dev/null as well.
    match fs::symlink_metadata(path).map(|there| there.file_type()) {
        Ok(kind) if kind.is_symlink() => {
            return Err("it is a symbolic link, which would be replaced: name what it leads to".to_owned());
        }
        Ok(kind) if !kind.is_file() => return Err("it is no plain file, and would be replaced by one".to_owned()),
        _ => {}
    }
    let folder = folder(path);
    if !folder.is_dir() {
        return Err(format!(
            "{}: {}",
            folder.display(),
            if folder.exists() { Errno::ENOTDIR } else { Errno::ENOENT }.desc()
        ));
    }
    may(folder, AccessFlags::W_OK | AccessFlags::X_OK)?;
    // For the last success in it.
    if path.exists() { may(path, AccessFlags::R_OK) } else { Ok(()) }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Not fsync(2): an exit must not wait for a disk, and a file that a power cut has emptied says that the run is overdue.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    // Cron's umask may be 077, and the collector is another user.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())
}

/// The last success of `key` in a file that was written before.
fn last_success(text: &str, key: &str) -> Option<f64> {
    let sample = format!("{LAST_SUCCESS}{{key=\"{}\"}} ", escape(key));
    text.lines().find_map(|line| line.strip_prefix(&sample)?.trim().parse().ok())
}

/// A label's value as the text format has it (Prometheus, "Exposition formats").
fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

fn unix(time: SystemTime) -> f64 {
    seconds(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(key: &str) -> Metrics {
        Metrics::new(std::env::temp_dir().join("consul-lock-test.prom"), key).expect("a folder to write to")
    }

    #[test]
    fn a_label_is_escaped_and_read_back() {
        let key = "a \"quoted\\ kéy\nb";
        let text = metrics(key).text(Exit::Code(0), 5.0, Some(4.25));
        assert!(text.contains(r#"consul_lock_exit_code{key="a \"quoted\\ kéy\nb"} 0"#), "{text}");
        assert_eq!(last_success(&text, key), Some(4.25));
        assert_eq!(last_success(&text, "another"), None);
    }

    #[test]
    fn without_any_success_there_is_no_such_line() {
        let text = metrics("k").text(Exit::Signal(nix::sys::signal::Signal::SIGINT), 5.0, None);
        assert!(text.contains("consul_lock_exit_code{key=\"k\"} 130\n") && !text.contains(LAST_SUCCESS), "{text}");
    }

    fn unconfirmed(seconds: u64) -> Note {
        Note::Unconfirmed {
            trouble: String::new(),
            since: Duration::from_secs(seconds),
            left: Duration::ZERO,
            first: true,
            urgent: false,
        }
    }

    #[test]
    fn doubt_is_summed_and_counts_until_the_end_if_nothing_ended_it() {
        let mut metrics = metrics("k");
        metrics.acquired = Some(Moment::now() - Duration::from_secs(60));
        metrics.note(&unconfirmed(3));
        metrics.note(&Note::Confirmed { after_trouble: Some(Duration::from_secs(4)) });
        assert!(metrics.text(Exit::Code(0), 5.0, None).contains("consul_lock_unconfirmed_seconds{key=\"k\"} 4\n"));
        metrics.note(&unconfirmed(20));
        assert!(metrics.text(Exit::Code(0), 5.0, None).contains("consul_lock_unconfirmed_seconds{key=\"k\"} 24\n"));
    }

    #[test]
    fn what_was_not_held_yet_is_not_in_doubt() {
        // The request that took the lock is the first confirmation: sent 5 s ago, answered 3 s ago.
        let (mut after_trouble, mut unended) = (metrics("k"), metrics("k"));
        let acquired = Moment::now() - Duration::from_secs(3);
        (after_trouble.acquired, unended.acquired) = (Some(acquired), Some(acquired));
        after_trouble.note(&Note::Confirmed { after_trouble: Some(Duration::from_secs(5)) });
        unended.note(&unconfirmed(5));
        let held = Moment::now().since(acquired);
        for (metrics, sum) in [(&after_trouble, after_trouble.unconfirmed), (&unended, unended.doubt)] {
            assert!(sum >= Duration::from_secs(3) && sum <= held, "{metrics:?}");
        }
    }
}
