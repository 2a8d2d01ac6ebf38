//! Signals that programs send: to a keeper whose command runs, to one that waits, to one that ends its command; and
//! those that were ignored or blocked before consul-lock was started. What a terminal sends is in terminal.rs.

mod support;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use support::agent::Agent;
use support::running::{Ended, Running};
use support::{consul_lock, consul_lock_on, eventually, is_alive, unique_key};

const SOON: Duration = Duration::from_secs(20);

/// Says each signal that it gets, once for each time.
const SAYS_SIGNALS: &str = r#"
for s in INT TERM HUP QUIT USR1 USR2 WINCH; do trap "echo got $s." $s; done
echo ready
while [ ! -e "$STOP" ]; do sleep 0.02; done
"#;

/// The keeper's pid, which is the parent's parent.
const KEEPER: &str = "read -r _ _ _ keeper _ </proc/$PPID/stat\n";

fn dir() -> TempDir {
    tempfile::tempdir().expect("a folder for locks")
}

/// `consul-lock run --local=DIR FLAGS... job -- COMMAND...`
fn run_here(dir: &TempDir, flags: &[&str], command: &[&str]) -> Command {
    let mut run = consul_lock();
    run.arg("run").arg(format!("--local={}", dir.path().display())).args(flags).args(["job", "--"]).args(command);
    run
}

fn shell_here(dir: &TempDir, script: &str) -> Command {
    run_here(dir, &[], &["sh", "-c", script])
}

/// The same command behind a program that changes something and then executes it.
fn behind(program: &[&str], command: &Command) -> Command {
    let mut behind = Command::new(program[0]);
    behind.args(&program[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => behind.env(name, value),
            None => behind.env_remove(name),
        };
    }
    behind
}

/// Holds the lock, and another run that waits for it.
fn holder_and_waiter(dir: &TempDir) -> (Running, Running) {
    let holder = Running::start(&mut shell_here(dir, "echo ready; exec sleep 1000"));
    holder.expect_stdout("ready", SOON);
    let waiter = Running::start(&mut run_here(dir, &[], &["true"]));
    waiter.expect_stderr("waiting for", SOON);
    (holder, waiter)
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

/// A line of /proc/PID/status as a number, such as SigIgn.
fn status_bits(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
    u64::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("no {name} in {status}"))
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

mod while_the_command_runs {
    use super::*;

    #[test]
    fn what_a_process_sends_to_the_keeper_reaches_the_command_exactly_once() {
        let (dir, other) = (dir(), dir());
        let stop = other.path().join("stop");
        let mut run = Running::start(shell_here(&dir, SAYS_SIGNALS).env("STOP", &stop));
        run.expect_stdout("ready", SOON);
        let signals = ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH"];
        for name in signals {
            run.signal(format!("SIG{name}").parse().expect("a signal"));
            run.expect_stdout(&format!("got {name}."), SOON);
        }
        std::fs::write(&stop, "").expect("it can be made");
        let ended = run.wait(SOON);
        assert_eq!(ended.code(), Some(0));
        for name in signals {
            assert_eq!(count(&ended.stdout, &format!("got {name}.")), 1, "{}", ended.stdout);
        }
    }

    #[test]
    fn the_commands_own_handling_decides_and_its_code_is_the_runs() {
        let dir = dir();
        let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done";
        let mut run = Running::start(&mut shell_here(&dir, script));
        run.expect_stdout("ready", SOON);
        run.signal(Signal::SIGTERM);
        assert_eq!(run.wait(SOON).code(), Some(3));
        assert_eq!(Running::start(&mut run_here(&dir, &["-n"], &["true"])).wait(SOON).code(), Some(0));
    }

    #[test]
    fn a_command_that_takes_its_time_after_a_term_gets_it_without_any_grace() {
        let dir = dir();
        let script = "trap 'echo got; sleep 2; exit 4' TERM; echo ready; while :; do sleep 0.02; done";
        let mut run = Running::start(&mut run_here(&dir, &["-k", "0.1"], &["sh", "-c", script]));
        run.expect_stdout("ready", SOON);
        run.signal(Signal::SIGTERM);
        run.expect_stdout("got", SOON);
        assert_eq!(run.wait(SOON).code(), Some(4));
    }

    #[test]
    fn a_command_that_dies_of_a_signal_takes_the_keeper_with_it_in_the_shells_way() {
        let dir = dir();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
            let ended = end_of(&dir, signal);
            assert_eq!(ended.signal(), Some(signal as i32), "{ended:?}");
            assert!(!ended.status.core_dumped(), "a core of ours: {ended:?}");
        }
        for signal in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGUSR1, Signal::SIGALRM] {
            let ended = end_of(&dir, signal);
            assert_eq!(ended.code(), Some(128 + signal as i32), "{ended:?}");
        }
        let ended = Running::start(&mut shell_here(&dir, "kill -40 $$")).wait(SOON);
        assert_eq!(ended.code(), Some(168), "a realtime signal: {ended:?}");
    }

    fn end_of(dir: &TempDir, signal: Signal) -> Ended {
        let script = format!("ulimit -c 0; kill -{} $$", &signal.as_str()[3..]);
        let ended = Running::start(&mut shell_here(dir, &script)).wait(SOON);
        assert_eq!(ended.stderr, "", "{signal}");
        ended
    }

    #[test]
    fn what_the_command_sends_to_the_keeper_does_not_come_back_to_it() {
        let dir = dir();
        let script = format!(
            "trap 'echo got USR1' USR1; trap 'echo got USR2; exit 0' USR2\n{KEEPER}\
             kill -USR1 $keeper; echo sent; while :; do sleep 0.02; done"
        );
        let mut run = Running::start(&mut shell_here(&dir, &script));
        run.expect_stdout("sent", SOON);
        // Signals are taken in their order: what comes of the first is there when the second is.
        run.signal(Signal::SIGUSR2);
        run.expect_stdout("got USR2", SOON);
        let ended = run.wait(SOON);
        assert!(ended.code() == Some(0) && count(&ended.stdout, "got USR1") == 0, "{ended:?}");
    }

    #[test]
    fn what_a_descendant_sends_to_the_keeper_does_not_reach_the_command() {
        let dir = dir();
        // The sender lives on, in a session of its own and without its parent.
        let script = format!(
            "trap 'echo got USR1' USR1; trap 'echo got USR2; exit 0' USR2\n{KEEPER}\
             (setsid sh -c \"kill -USR1 $keeper; echo sent; exec sleep 1000\" &)\n\
             while :; do sleep 0.02; done"
        );
        let mut run = Running::start(&mut run_here(&dir, &["-k", "0"], &["sh", "-c", &script]));
        run.expect_stdout("sent", SOON);
        run.signal(Signal::SIGUSR2);
        run.expect_stdout("got USR2", SOON);
        let ended = run.wait(SOON);
        assert!(ended.code() == Some(0) && count(&ended.stdout, "got USR1") == 0, "{ended:?}");
        run.expect_no_survivors(SOON);
    }

    #[test]
    fn a_command_that_signals_its_whole_group_gets_that_signal_once() {
        let dir = dir();
        let script =
            "trap 'echo got TERM' TERM; trap 'exit 5' USR2; kill -TERM 0; echo sent; while :; do sleep 0.02; done";
        let mut run = Running::start(shell_here(&dir, script).process_group(0));
        run.expect_stdout("sent", SOON);
        run.signal(Signal::SIGUSR2);
        let ended = run.wait(SOON);
        assert_eq!((ended.code(), count(&ended.stdout, "got TERM")), (Some(5), 1), "{ended:?}");
    }

    #[test]
    fn an_interrupt_at_any_moment_of_the_start_ends_the_run() {
        let dir = dir();
        for round in 0..60 {
            let mut run = Running::start(run_here(&dir, &[], &["sleep", "1000"]).process_group(0));
            std::thread::sleep(Duration::from_micros(fastrand::u64(..12_000)));
            // To the keeper alone, or to everybody as an impatient shell script does.
            if round % 2 == 0 {
                run.signal(Signal::SIGINT);
            } else {
                killpg(run.pid(), Signal::SIGINT).expect("the group is there");
            }
            let ended = run.wait(SOON);
            assert_eq!(ended.signal(), Some(Signal::SIGINT as i32), "round {round}: {ended:?}");
            run.expect_no_survivors(SOON);
        }
    }
}

mod while_the_command_is_ended {
    use super::*;

    #[test]
    fn a_further_term_a_second_later_turns_the_grace_into_a_kill() {
        let (agent, key) = (Agent::plain(), unique_key("signals"));
        let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        let flags = ["run", "--lock-delay", "60s", "-k", "40s", &key, "--", "sh", "-c", script];
        let mut run = Running::start(consul_lock_on(&agent).args(flags));
        run.expect_stdout("ready", SOON);
        let session = agent.holder(&key).expect("somebody holds it");
        agent.destroy_session(&session);
        run.expect_stderr("lost", SOON);

        run.signal(Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(1200));
        assert!(run.try_wait().is_none(), "one TERM is none");
        run.signal(Signal::SIGTERM);
        let ended = run.wait(SOON);
        assert_eq!(ended.code(), Some(76), "{ended:?}");
        run.expect_no_survivors(SOON);
    }

    #[test]
    fn a_term_ends_what_the_command_left_behind_and_the_code_stays_its_own() {
        let dir = dir();
        let script = "sleep 1000 & echo left; exit 6";
        let mut run = Running::start(&mut run_here(&dir, &["-v", "--background", "wait"], &["sh", "-c", script]));
        run.expect_stderr("leaving a process behind", SOON);
        run.expect_process("sleep", SOON);
        run.signal(Signal::SIGTERM);
        let ended = run.wait(SOON);
        assert_eq!(ended.code(), Some(6), "{ended:?}");
        assert!(ended.stderr.contains("ended sleep"), "{ended:?}");
        run.expect_no_survivors(SOON);
    }
}

mod while_it_waits {
    use super::*;

    #[test]
    fn the_keeper_dies_of_the_signal_that_would_have_killed_it() {
        let dir = dir();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            let (_holder, mut waiter) = holder_and_waiter(&dir);
            waiter.signal(signal);
            let ended = waiter.wait(SOON);
            assert_eq!(ended.signal(), Some(signal as i32), "{ended:?}");
            waiter.expect_no_survivors(SOON);
        }
    }

    #[test]
    fn another_signal_ends_the_waiting_with_the_shells_number_and_a_new_window_size_does_not() {
        let dir = dir();
        let (_holder, mut waiter) = holder_and_waiter(&dir);
        waiter.signal(Signal::SIGWINCH);
        waiter.signal(Signal::SIGUSR1);
        let ended = waiter.wait(SOON);
        assert_eq!(ended.code(), Some(128 + Signal::SIGUSR1 as i32), "{ended:?}");
    }

    #[test]
    fn a_quit_leaves_no_core_of_ours() {
        let dir = dir();
        let cores = dir.path().join("cores");
        std::fs::create_dir(&cores).expect("it can be made");
        let holder = Running::start(&mut shell_here(&dir, "echo ready; exec sleep 1000"));
        holder.expect_stdout("ready", SOON);
        let unlimited = ["sh", "-c", "ulimit -c unlimited; exec \"$@\"", "sh"];
        let mut waiter = Running::start(behind(&unlimited, &run_here(&dir, &[], &["true"])).current_dir(&cores));
        waiter.expect_stderr("waiting for", SOON);
        waiter.signal(Signal::SIGQUIT);
        let ended = waiter.wait(SOON);
        assert_eq!(ended.signal(), Some(Signal::SIGQUIT as i32), "{ended:?}");
        assert!(!ended.status.core_dumped(), "{ended:?}");
        assert_eq!(files(&cores), 0);
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).expect("it is there").count()
    }

    #[test]
    fn a_waiter_that_is_interrupted_leaves_nothing_in_consul() {
        let (agent, key) = (Agent::plain(), unique_key("signals"));
        let holder =
            Running::start(consul_lock_on(&agent).args(["run", &key, "--", "sh", "-c", "echo ready; exec sleep 1000"]));
        holder.expect_stdout("ready", SOON);
        let before = (agent.keys(""), agent.sessions().len());
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1] {
            let mut waiter = Running::start(consul_lock_on(&agent).args(["run", &key, "--", "true"]));
            waiter.expect_stderr("waiting", SOON);
            waiter.signal(signal);
            let ended = waiter.wait(SOON);
            match signal {
                Signal::SIGUSR1 => assert_eq!(ended.code(), Some(138), "{ended:?}"),
                _ => assert_eq!(ended.signal(), Some(signal as i32), "{ended:?}"),
            }
            assert_eq!((agent.keys(""), agent.sessions().len()), before, "after {signal}: {ended:?}");
            waiter.expect_no_survivors(SOON);
        }
    }

    #[test]
    fn timeout_ends_a_waiter_which_leaves_nothing_in_consul() {
        let (agent, key) = (Agent::plain(), unique_key("signals"));
        let holder =
            Running::start(consul_lock_on(&agent).args(["run", &key, "--", "sh", "-c", "echo ready; exec sleep 1000"]));
        holder.expect_stdout("ready", SOON);
        let mut waiter = consul_lock_on(&agent);
        waiter.args(["run", &key, "--", "true"]);
        let mut waiter = Running::start(&mut behind(&["timeout", "1"], &waiter));
        waiter.expect_stderr("waiting", SOON);
        assert_eq!(waiter.wait(SOON).code(), Some(124));
        waiter.expect_no_survivors(SOON);
        assert_eq!(agent.sessions().len(), 1);
    }

    #[test]
    fn a_loop_of_runs_stops_at_an_interrupt_whether_they_run_or_wait() {
        let dir = dir();
        for held in [false, true] {
            let holder = held.then(|| Running::start(&mut shell_here(&dir, "echo ready; exec sleep 1000")));
            if let Some(holder) = &holder {
                holder.expect_stdout("ready", SOON);
            }
            let script = "for i in 1 2 3; do echo turn >&2; \"$@\"; done; echo after >&2";
            let run = run_here(&dir, &[], &["sh", "-c", "echo runs >&2; exec sleep 1000"]);
            let mut looping = Running::start(behind(&["bash", "-c", script, "bash"], &run).process_group(0));
            looping.expect_stderr(if held { "waiting for" } else { "runs" }, SOON);
            // As a terminal does, to the whole job.
            killpg(looping.pid(), Signal::SIGINT).expect("the group is there");
            let ended = looping.wait(SOON);
            assert_eq!(ended.signal(), Some(Signal::SIGINT as i32), "{ended:?}");
            assert_eq!((count(&ended.stderr, "turn"), count(&ended.stderr, "after")), (1, 0), "{ended:?}");
            looping.expect_no_survivors(SOON);
        }
    }
}

mod what_was_inherited {
    use super::*;

    /// The signal lines of /proc/PID/status of a program behind `prefix`, with us and without.
    fn with_and_without(prefix: &[&str]) -> (String, String) {
        let dir = dir();
        let look = ["grep", "^Sig", "/proc/self/status"];
        let with = Running::start(&mut behind(prefix, &run_here(&dir, &[], &look))).wait(SOON);
        let mut plain = Command::new(look[0]);
        plain.args(&look[1..]);
        let without = Running::start(&mut behind(prefix, &plain)).wait(SOON);
        assert_eq!((with.code(), without.code()), (Some(0), Some(0)), "{with:?}");
        (with.stdout, without.stdout)
    }

    #[test]
    fn the_command_gets_mask_and_dispositions_as_if_we_were_not_there() {
        for prefix in [
            &["env"][..],
            &["nohup"],
            &["env", "--ignore-signal=HUP,INT,QUIT,USR1,TSTP,WINCH"],
            &["env", "--block-signal=INT,TERM,USR1,CHLD"],
            &["env", "--block-signal"],
        ] {
            let (with, without) = with_and_without(prefix);
            for line in ["SigBlk", "SigIgn", "SigCgt"] {
                assert_eq!(status_bits(&with, line), status_bits(&without, line), "{line} behind {prefix:?}");
            }
        }
    }

    #[test]
    fn broken_pipes_and_dead_children_are_always_heard_of() {
        let (with, without) = with_and_without(&["env", "--ignore-signal=PIPE,CHLD,USR2"]);
        let ours = bit(Signal::SIGPIPE) | bit(Signal::SIGCHLD);
        assert_eq!(status_bits(&without, "SigIgn") & ours, ours);
        assert_eq!(status_bits(&with, "SigIgn"), status_bits(&without, "SigIgn") & !ours);
        let dir = dir();
        let run = run_here(&dir, &[], &["sh", "-c", "(exit 2); exit 3"]);
        assert_eq!(Running::start(&mut behind(&["env", "--ignore-signal=CHLD"], &run)).wait(SOON).code(), Some(3));
    }

    #[test]
    fn under_nohup_a_hang_up_is_nobodys_business() {
        let dir = dir();
        let script = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.02; done";
        let mut run = Running::start(&mut behind(&["nohup"], &shell_here(&dir, script)));
        run.expect_stdout("ready", SOON);
        let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).expect("it lives");
        assert_ne!(status_bits(&status, "SigIgn") & bit(Signal::SIGHUP), 0, "{status}");
        run.signal(Signal::SIGHUP);
        run.signal(Signal::SIGUSR1);
        let ended = run.wait(SOON);
        assert_eq!(ended.code(), Some(7), "{ended:?}");
    }

    #[test]
    fn under_nohup_a_waiter_waits_on_after_a_hang_up() {
        let dir = dir();
        let holder = Running::start(&mut shell_here(&dir, "echo ready; exec sleep 1000"));
        holder.expect_stdout("ready", SOON);
        let mut waiter = Running::start(&mut behind(&["nohup"], &run_here(&dir, &[], &["true"])));
        waiter.expect_stderr("waiting for", SOON);
        waiter.signal(Signal::SIGHUP);
        holder.signal(Signal::SIGTERM);
        let ended = waiter.wait(SOON);
        assert_eq!(ended.code(), Some(0), "{ended:?}");
    }

    #[test]
    fn a_shells_background_job_ignores_the_interrupt_with_us_as_without() {
        let dir = dir();
        let run = shell_here(&dir, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done");
        let script = "\"$@\" & echo pid $!; wait $!; echo code $?";
        let mut shell = Running::start(&mut behind(&["sh", "-c", script, "sh"], &run));
        shell.expect_stdout("ready", SOON);
        let keeper = eventually("the shell says the pid", SOON, || {
            shell.stdout().lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok())
        });
        let keeper = Pid::from_raw(keeper);
        kill(keeper, Signal::SIGINT).expect("it lives");
        kill(keeper, Signal::SIGQUIT).expect("it lives");
        kill(keeper, Signal::SIGTERM).expect("it lives");
        let ended = shell.wait(SOON);
        assert!(ended.stdout.contains("code 7"), "{ended:?}");
        assert!(!is_alive(keeper.as_raw()));
    }
}
