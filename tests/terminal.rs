//! Runs at a terminal, with an interactive bash before it: job control, pipelines, the keyboard's signals, hang-ups. In
//! all of it the command must behave as it would without us, but for the lock.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use support::agent::Agent;
use support::pty::Pty;
use support::running::Running;
use support::{consul_lock, eventually, process_state, survivors, unique_key};

const SOON: Duration = Duration::from_secs(20);

/// A terminal whose shell knows `consul-lock`, and `run` as short for a run under a lock on this machine.
struct Desk {
    pty: Pty,
    locks: TempDir,
}

impl Desk {
    fn new() -> Self {
        let locks = tempfile::tempdir().expect("a folder for locks");
        let mut desk = Self { pty: Pty::bash(), locks };
        let bin = assert_cmd::cargo::cargo_bin!("consul-lock").parent().expect("a folder").to_owned();
        desk.line("unset ${!CONSUL_HTTP_*} CONSUL_LOCK_CHAIN NO_COLOR; ulimit -c 0");
        desk.line(&format!("PATH={}:$PATH", bin.display()));
        // A function would put a shell of bash's own into the job where it is one of a pipeline.
        desk.line(&format!("alias run='consul-lock run --local={} job'", desk.locks.path().display()));
        desk
    }

    /// Types a command that ends by itself, and waits for the prompt; returns what was written meanwhile.
    #[track_caller]
    fn line(&mut self, line: &str) -> String {
        self.pty.send(format!("{line}\n"));
        self.pty.expect("\n$ ", SOON)
    }

    /// Has a job in the background hold the lock.
    #[track_caller]
    fn hold(&mut self) {
        self.line("run -- sleep 1000 &");
        self.expect_state("sleep", 'S');
    }

    /// Types a command that goes on.
    fn start(&self, line: &str) {
        self.pty.send(format!("{line}\n"));
    }

    /// Starts a command that says `ready`.
    #[track_caller]
    fn start_until_ready(&mut self, line: &str) {
        self.start(line);
        self.pty.expect("ready\r\n", SOON);
    }

    /// The exit codes of the last line, separated by spaces.
    #[track_caller]
    fn codes(&mut self) -> String {
        self.pty.send("echo co''des ${PIPESTATUS[*]}.\n");
        self.pty.expect("codes ", SOON);
        let codes = self.pty.expect(".", SOON);
        self.pty.prompt(SOON);
        codes
    }

    #[track_caller]
    fn key_then_prompt(&mut self, key: &str) {
        self.pty.send(key);
        self.pty.prompt(SOON);
    }

    /// The pids of the terminal's processes with this name.
    fn named(&self, name: &str) -> Vec<i32> {
        survivors(self.pty.mark()).into_iter().filter(|(_, comm)| comm == name).map(|(pid, _)| pid).collect()
    }

    #[track_caller]
    fn expect_none(&self, names: &[&str]) {
        eventually(&format!("{names:?} are gone"), SOON, || {
            names.iter().all(|name| self.named(name).is_empty()).then_some(())
        });
    }

    #[track_caller]
    fn expect_state(&self, name: &str, state: char) {
        let what = format!("{name} is in state {state}");
        eventually(&what, SOON, || {
            let pids = self.named(name);
            (!pids.is_empty() && pids.iter().all(|pid| process_state(*pid) == Some(state))).then_some(())
        });
    }

    /// Whether the lock is free.
    fn is_free(&self) -> bool {
        let mut probe = consul_lock();
        probe.arg("run").arg(format!("--local={}", self.locks.path().display())).args(["-n", "job", "--", "true"]);
        let ended = Running::start(&mut probe).wait(SOON);
        assert!(matches!(ended.code(), Some(0 | 75)), "{ended:?}");
        ended.code() == Some(0)
    }

    fn screen_has(&self, text: &str) -> usize {
        self.pty.screen_so_far().matches(text).count()
    }
}

mod keys {
    use super::*;

    #[test]
    fn ctrl_c_ends_the_command_and_the_run_as_the_shell_expects() {
        let mut desk = Desk::new();
        desk.start_until_ready("run -- sh -c 'echo rea''dy; exec sleep 1000'");
        desk.key_then_prompt("\x03");
        assert_eq!(desk.codes(), "130");
        desk.expect_none(&["sleep", "lock-guard"]);
        assert!(desk.is_free());
    }

    #[test]
    fn ctrl_c_reaches_the_command_once() {
        let mut desk = Desk::new();
        let script = r#"trap "echo go""t it" INT; trap "exit 4" QUIT; echo rea""dy; while :; do sleep 0.02; done"#;
        desk.start_until_ready(&format!("run -v -- sh -c '{script}'"));
        desk.pty.send("\x03");
        desk.pty.expect("got it", SOON);
        desk.key_then_prompt("\x1c");
        assert_eq!(desk.codes(), "4");
        assert_eq!((desk.screen_has("got it"), desk.screen_has("passed")), (1, 0), "{}", desk.pty.screen_so_far());
    }

    #[test]
    fn ctrl_backslash_is_a_quit() {
        let mut desk = Desk::new();
        desk.start_until_ready("run -- sh -c 'echo rea''dy; exec sleep 1000'");
        desk.key_then_prompt("\x1c");
        assert_eq!(desk.codes(), "131");
        assert_eq!(desk.screen_has("core dumped"), 0);
        desk.expect_none(&["sleep", "lock-guard"]);
    }

    #[test]
    fn ctrl_c_stops_a_loop_of_runs() {
        let mut desk = Desk::new();
        desk.start_until_ready("for i in 1 2 3; do run -- sh -c 'echo rea''dy; exec sleep 1000'; done");
        desk.key_then_prompt("\x03");
        assert_eq!(desk.codes(), "130");
        assert_eq!(desk.screen_has("ready\r\n"), 1);
    }

    #[test]
    fn ctrl_c_at_any_moment_of_the_start_ends_the_run() {
        let locks = tempfile::tempdir().expect("a folder for locks");
        for round in 0..40 {
            let binary = assert_cmd::cargo::cargo_bin!("consul-lock");
            let script = "echo ready; exec \"$0\" run --local=\"$1\" job -- sleep 1000";
            let mut pty = Pty::spawn(Command::new("sh").args(["-c", script]).arg(binary).arg(locks.path()));
            pty.expect("ready", SOON);
            std::thread::sleep(Duration::from_micros(fastrand::u64(..12_000)));
            pty.send("\x03");
            let status = pty.wait(SOON);
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2), "round {round}: {status:?}");
            eventually("nothing is left", SOON, || survivors(pty.mark()).is_empty().then_some(()));
        }
    }

    #[test]
    fn another_window_size_reaches_the_command_by_the_terminal_alone() {
        let mut desk = Desk::new();
        let script = r#"trap "stty size" WINCH; trap "exit 3" QUIT; echo rea""dy; while :; do sleep 0.02; done"#;
        desk.start_until_ready(&format!("run -v -- sh -c '{script}'"));
        // stty(1) sets one number after the other.
        desk.pty.resize(100, 30);
        desk.pty.expect("30 100", SOON);
        desk.key_then_prompt("\x1c");
        assert_eq!(desk.codes(), "3");
        assert_eq!(desk.screen_has("passed"), 0);
    }
}

mod jobs {
    use super::*;

    #[test]
    fn ctrl_z_stops_keeper_and_command_and_fg_resumes_them() {
        let mut desk = Desk::new();
        desk.start_until_ready("run -- sh -c 'echo rea''dy; exec sleep 1000'");
        desk.expect_state("sleep", 'S');
        desk.pty.send("\x1a");
        desk.pty.expect("Stopped", SOON);
        desk.pty.prompt(SOON);
        assert!(desk.line("echo $?").contains("148"));
        desk.expect_state("sleep", 'T');
        desk.expect_state("consul-lock", 'T');
        assert!(!desk.is_free());
        assert!(desk.line("jobs").contains("Stopped"));
        desk.start("fg");
        desk.expect_state("sleep", 'S');
        desk.expect_state("consul-lock", 'S');
        desk.key_then_prompt("\x03");
        assert_eq!(desk.codes(), "130");
        assert!(desk.is_free());
    }

    #[test]
    fn a_command_reads_from_the_terminal() {
        let mut desk = Desk::new();
        desk.start_until_ready("run -- sh -c 'echo rea''dy; read -r x; echo \"go\"\"t $x\"'");
        desk.pty.send("hello\n");
        desk.pty.expect("got hello", SOON);
        desk.pty.prompt(SOON);
        assert_eq!(desk.codes(), "0");
    }

    #[test]
    fn a_background_job_that_reads_is_stopped_until_it_is_in_the_foreground() {
        let mut desk = Desk::new();
        desk.line("run -- sh -c 'read -r x; echo \"go\"\"t $x\"' &");
        desk.expect_state("sh", 'T');
        // A shell that has not heard of the stop yet takes the job for a running one, and `fg` sends it no SIGCONT.
        eventually("the shell knows that its job is stopped", SOON, || {
            desk.line("jobs").contains("Stopped").then_some(())
        });
        desk.start("fg");
        desk.expect_state("sh", 'S');
        desk.pty.send("hello\n");
        desk.pty.expect("got hello", SOON);
        desk.pty.prompt(SOON);
        assert_eq!(desk.codes(), "0");
    }

    #[test]
    fn a_shell_with_jobs_of_its_own_can_be_the_command() {
        let mut desk = Desk::new();
        desk.start("run -- bash --norc --noprofile -i");
        desk.pty.expect("\n$ ", SOON);
        desk.start("sleep 1000");
        desk.expect_state("sleep", 'S');
        desk.pty.send("\x1a");
        desk.pty.expect("Stopped", SOON);
        desk.pty.prompt(SOON);
        desk.start("fg");
        desk.expect_state("sleep", 'S');
        desk.key_then_prompt("\x03");
        assert_eq!(desk.codes(), "130");
        assert!(!desk.is_free());
        desk.line("exit 3");
        assert_eq!(desk.codes(), "3");
        assert!(desk.is_free());
    }

    #[test]
    fn a_job_that_is_killed_leaves_its_tree_to_the_guard() {
        let mut desk = Desk::new();
        // It is the one in a session of its own that says so: before that, the job's end would be its own.
        let script = r#"trap "" TERM; setsid sh -c "echo rea\"\"dy; exec sleep 1000" & while :; do sleep 0.1; done"#;
        desk.start_until_ready(&format!("run -k 0.5 -- sh -c '{script}' &"));
        desk.pty.send("kill -9 %1\n");
        desk.expect_none(&["sleep", "sh", "consul-lock", "lock-guard"]);
        desk.pty.expect("are dead", SOON);
        assert!(desk.is_free());
    }

    #[test]
    fn timeout_ends_a_command_and_what_it_kills_leaves_nothing() {
        let mut desk = Desk::new();
        desk.line(&format!(
            "alias limited='timeout -k 1 1 consul-lock run --local={} job'",
            desk.locks.path().display()
        ));
        desk.line("limited -- sleep 1000");
        assert_eq!(desk.codes(), "124");
        desk.line("limited -k 0.5 -- sh -c 'trap \"\" TERM; setsid sleep 1000 & while :; do sleep 0.1; done'");
        assert_eq!(desk.codes(), "137");
        desk.expect_none(&["sleep", "sh", "consul-lock", "lock-guard"]);
        assert!(desk.is_free());
    }

    #[test]
    fn a_job_that_is_stopped_for_longer_than_its_deadline_is_killed_and_says_so_in_the_foreground() {
        let (mut desk, agent, key) = (Desk::new(), Agent::plain(), unique_key("terminal"));
        desk.line(&format!("export CONSUL_HTTP_ADDR={}", agent.http_addr()));
        desk.start_until_ready(&format!(
            "consul-lock run --lock-delay 8s -k 1s {key} -- sh -c 'echo rea''dy; sleep 1000'"
        ));
        desk.pty.send("\x1a");
        desk.pty.expect("Stopped", SOON);
        desk.pty.prompt(SOON);
        desk.expect_none(&["sleep", "sh"]);
        desk.expect_state("consul-lock", 'T');
        desk.line("fg");
        assert_eq!(desk.codes(), "76");
        for text in ["lost test/terminal", "dead already", "before anybody else could hold the lock"] {
            assert_eq!(desk.screen_has(text), 1, "{text}: {}", desk.pty.screen_so_far());
        }
        assert_eq!(desk.screen_has("does not answer"), 0, "{}", desk.pty.screen_so_far());
        desk.expect_none(&["consul-lock", "lock-guard"]);
    }
}

mod pipelines {
    use super::*;

    #[test]
    fn a_reader_that_has_enough_ends_the_command() {
        let mut desk = Desk::new();
        let screen = desk.line("run -- yes | head -1");
        assert!(screen.contains("\ny\r"), "{screen}");
        assert_eq!(desk.codes(), "141 0");
        desk.line("run -- cat /dev/zero | head -c 100000 | wc -c");
        assert_eq!(desk.codes(), "141 0 0");
    }

    #[test]
    fn a_pager_that_is_left_ends_the_command() {
        let mut desk = Desk::new();
        expect_less();
        desk.start("run -- seq 100000 | TERM=vt100 less");
        desk.pty.expect("\n22\r", SOON);
        // It wipes its own line, and the prompt comes there.
        desk.pty.send("q");
        desk.pty.expect("$ ", SOON);
        assert_eq!(desk.codes(), "141 0");
        desk.expect_none(&["seq", "lock-guard", "consul-lock"]);
    }

    #[test]
    fn a_pager_can_be_the_command() {
        let mut desk = Desk::new();
        expect_less();
        let book = desk.locks.path().join("book");
        let text: Vec<String> = (1..1000).map(|line| line.to_string()).collect();
        std::fs::write(&book, text.join("\n")).expect("it can be written");
        desk.start(&format!("TERM=vt100 run -- less {}", book.display()));
        desk.pty.expect("\n22\r", SOON);
        // It wipes its own line, and the prompt comes there.
        desk.pty.send("q");
        desk.pty.expect("$ ", SOON);
        assert_eq!(desk.codes(), "0");
    }

    fn expect_less() {
        assert!(Command::new("less").arg("--version").output().is_ok(), "less is not on PATH: apt-get install less");
    }

    #[test]
    fn a_run_in_the_middle_of_a_pipeline_lets_both_ends_through() {
        let mut desk = Desk::new();
        let screen = desk.line("seq 3 | run -- sed 's/$/0/' | tac");
        assert!(screen.contains("30\r\n20\r\n10\r"), "{screen}");
        assert_eq!(desk.codes(), "0 0 0");
        let screen = desk.line("echo \"a $(run -- echo b) c\"");
        assert!(screen.contains("\na b c\r"), "{screen}");
    }

    #[test]
    fn closed_descriptors_and_no_terminal_are_no_obstacle() {
        let mut desk = Desk::new();
        let script = "sh -c 'echo fi\"\"ne >/dev/tty; exit 3'";
        for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
            let screen = desk.line(&format!("run -- {script} {closed}"));
            assert!(screen.contains("fine"), "{closed}: {screen}");
            assert_eq!(desk.codes(), "3", "{closed}");
        }
        let alone = format!("setsid -w consul-lock run --local={} job", desk.locks.path().display());
        desk.line(&format!("{alone} -- sh -c 'exit 3' </dev/null"));
        assert_eq!(desk.codes(), "3");
    }
}

mod ends_of_the_terminal {
    use super::*;

    #[test]
    fn a_hang_up_ends_the_run_as_without_us() {
        let mut desk = Desk::new();
        desk.start_until_ready("run -- sh -c 'echo rea''dy; sleep 1000'");
        desk.pty.hang_up();
        desk.expect_none(&["sleep", "sh", "lock-guard", "consul-lock"]);
        assert!(desk.is_free());
    }

    #[test]
    fn a_hang_up_ends_a_waiter() {
        let mut desk = Desk::new();
        desk.hold();
        desk.start("run -- true");
        desk.pty.expect("waiting for", SOON);
        desk.pty.hang_up();
        desk.expect_none(&["sleep", "lock-guard", "consul-lock"]);
    }

    #[test]
    fn under_nohup_a_run_outlives_its_terminal() {
        let mut desk = Desk::new();
        desk.line(&format!(
            "nohup consul-lock run --local={} job -- sleep 1000 </dev/null >/dev/null 2>&1 &",
            desk.locks.path().display()
        ));
        desk.expect_state("sleep", 'S');
        desk.pty.hang_up();
        desk.expect_none(&["bash"]);
        assert_eq!((desk.named("sleep").len(), desk.named("consul-lock").len()), (1, 1));
        assert!(!desk.is_free());
    }

    #[test]
    fn a_run_can_take_the_shells_place() {
        let mut desk = Desk::new();
        let exec = format!("exec consul-lock run --local={} job", desk.locks.path().display());
        desk.start_until_ready(&format!("{exec} -- sh -c 'echo rea''dy; read -r x; exit 3'"));
        desk.pty.send("\n");
        assert_eq!(desk.pty.wait(SOON).code(), Some(3));
    }

    #[test]
    fn a_hang_up_that_only_the_keeper_hears_of_is_passed_on_once() {
        let mut desk = Desk::new();
        let said = desk.locks.path().join("said");
        let script =
            format!("trap \"echo hup >>{}; exit 0\" HUP; echo rea\"\"dy; while :; do sleep 0.02; done", said.display());
        let exec = format!("exec consul-lock run --local={} job", desk.locks.path().display());
        desk.start_until_ready(&format!("{exec} -- sh -c '{script}'"));
        desk.pty.hang_up();
        desk.expect_none(&["sleep", "sh", "lock-guard", "consul-lock"]);
        assert_eq!(std::fs::read_to_string(&said).expect("it was said"), "hup\n");
        assert!(desk.is_free());
    }
}

mod waiting {
    use super::*;

    #[test]
    fn a_waiter_says_one_line_and_ctrl_c_gives_up() {
        let mut desk = Desk::new();
        desk.hold();
        desk.start("run -- true");
        desk.pty.expect("waiting for job", SOON);
        desk.key_then_prompt("\x03");
        assert_eq!(desk.codes(), "130");
        assert_eq!(desk.screen_has("consul-lock: "), 1, "{}", desk.pty.screen_so_far());
    }

    #[test]
    fn a_waiter_can_be_stopped_and_resumed_and_gets_the_lock() {
        let mut desk = Desk::new();
        desk.hold();
        desk.start("run -- echo my tu''rn");
        desk.pty.expect("waiting for job", SOON);
        desk.pty.send("\x1a");
        desk.pty.expect("Stopped", SOON);
        desk.pty.prompt(SOON);
        desk.line("kill %1");
        desk.expect_none(&["sleep"]);
        desk.start("fg %2");
        desk.pty.expect("my turn", SOON);
        desk.pty.prompt(SOON);
        assert_eq!(desk.codes(), "0");
    }

    #[test]
    fn a_waiter_that_is_stopped_keeps_nobody_waiting() {
        let mut desk = Desk::new();
        desk.hold();
        desk.start("run -- echo my tu''rn");
        let file = desk.locks.path().join("job.consul-lock");
        let inode = format!(":{} ", fs::metadata(&file).expect("the lock's file").ino());
        let waits = || {
            let locks = fs::read_to_string("/proc/locks").expect("/proc/locks");
            locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&inode)).then_some(())
        };
        eventually("the first waits for the key", SOON, waits);
        desk.pty.send("\x1a");
        desk.pty.expect("Stopped", SOON);
        desk.pty.prompt(SOON);

        let mut lock = consul_lock();
        let lock = lock.arg("run").arg(format!("--local={}", desk.locks.path().display()));
        let mut next = Running::start(lock.args(["job", "--", "true"]));
        eventually("the next waits for the key", SOON, waits);
        desk.line("kill %1");
        assert_eq!(next.wait(SOON).code(), Some(0));
        eventually("the key is free", SOON, || desk.is_free().then_some(()));

        desk.start("fg %2");
        desk.pty.expect("my turn", SOON);
        desk.pty.prompt(SOON);
        assert_eq!(desk.codes(), "0");
    }
}
