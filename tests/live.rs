//! The live line of somebody who waits at a terminal, as it looks on the screen, and that nothing is left of it.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use support::agent::{Agent, PATIENCE};
use support::line::waiter;
use support::proxy::{Fault, Proxy};
use support::pty::Pty;
use support::running::Running;
use support::{consul_lock_at, consul_lock_on, eventually, hold, process_state, unique_key};

/// The command on a terminal that can take a line back.
fn at_terminal(command: &Command) -> Command {
    let mut wrapped = Command::new("env");
    wrapped.arg("TERM=xterm").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// A line with another for what no two machines and runs have in common: times, numbers, names.
fn normal(line: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches(['s', 'm', 'h', ',', ';', ')']);
        if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) {
            word.replacen(bare, "N", 1)
        } else {
            word.to_owned()
        }
    };
    let line = line.split(' ').map(word).collect::<Vec<_>>().join(" ").replace("Nm Ns", "Ns");
    match line.split_once(" by backup ") {
        Some((head, _)) => format!("{head} by backup X"),
        None => line,
    }
}

/// The blocks in a page of the documentation that show a screen, by the name in the comment before each.
fn captures(page: &str) -> Vec<(String, Vec<String>)> {
    let page = fs::read_to_string(format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let blocks = page.split("<!-- screen: ").skip(1);
    let block = |block: &str| {
        let (name, rest) = block.split_once(" -->\n```text\n").expect("a block after the comment");
        let (screen, _) = rest.split_once("\n```").expect("the end of the block");
        (name.to_owned(), screen.lines().map(str::to_owned).collect())
    };
    blocks.map(block).collect()
}

/// The screen is what the documentation shows under this name, but for times, numbers and names.
#[track_caller]
fn as_documented(name: &str, picture: &[String]) {
    let (_, documented) = captures("terminal.md").into_iter().find(|(found, _)| found == name).expect("a capture");
    let lines = |lines: &[String]| lines.iter().map(|line| normal(line)).collect::<Vec<_>>();
    assert_eq!(lines(picture), lines(&documented), "{name}:\n{}", picture.join("\n"));
}

#[test]
fn a_waiter_sees_who_has_it_and_its_place_and_afterwards_nothing() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = "deploy/web";
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    fs::write(&backup, "#!/bin/sh\necho started; exec sleep 1000\n").unwrap();
    fs::set_permissions(&backup, fs::Permissions::from_mode(0o755)).unwrap();
    let mut holder = Running::start(consul_lock_on(&agent).args(["run", key, "--"]).arg(&backup));
    holder.expect_stdout("started", PATIENCE);
    let (mut first, _) = waiter(&agent, &[], key, "echo first; exec sleep 1000");
    let mut command = consul_lock_at(&proxy.addr());
    command.args(["run", key, "-c", "echo it is ours; read line"]);
    let mut terminal = Pty::spawn(&at_terminal(&command));

    let shows = |words: &'static str| move |screen: &[String]| screen.last().is_some_and(|line| line.contains(words));
    let seen = terminal.expect_picture("the second's line", PATIENCE, shows(", 1 before us; held "));
    as_documented("second in line", &seen);
    let elapsed = |screen: &[String]| {
        let word = screen.last()?.strip_prefix("waiting ")?.split('s').next()?.parse::<u32>().ok()?;
        Some(word)
    };
    let then = elapsed(&seen).unwrap();
    terminal.expect_picture("time goes on", PATIENCE, |screen| elapsed(screen).is_some_and(|now| now > then + 1));

    // The one before us goes away, and then a message comes in between.
    first.signal(Signal::SIGTERM);
    assert_eq!(first.wait(PATIENCE).signal(), Some(15));
    as_documented("next in line", &terminal.expect_picture("the first", PATIENCE, shows(", next in line; held ")));
    proxy.set(Fault::Status(500, "No cluster leader".into()));
    let above = terminal.expect_picture("a message above", PATIENCE, |screen| {
        screen.len() > 1 && screen[0].contains("; trying again") && shows("next in line")(screen)
    });
    assert!(above[0].starts_with("consul-lock: ") && above.last().unwrap().starts_with("waiting "), "{above:#?}");
    proxy.set(Fault::None);

    // A narrower window shows less of it, and never a second row.
    terminal.resize(50, 24);
    let narrow = terminal.expect_picture("a short line", PATIENCE, |screen| {
        screen.last().is_some_and(|line| line.ends_with("for deploy/web, next in line"))
    });
    assert_eq!(narrow.iter().filter(|line| line.contains("waiting ")).count(), 1, "{narrow:#?}");
    terminal.resize(80, 24);
    terminal.expect_picture("the long line", PATIENCE, shows("; held "));

    // Records are dated to the second.
    let begun = SystemTime::now() - Duration::from_secs(1);
    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
    let after = terminal.expect_picture("the command's own", PATIENCE, shows("it is ours"));
    assert!(after.iter().all(|line| !line.contains("waiting ")), "{after:#?}");
    assert!(after[after.len() - 2].contains("trying again"), "{after:#?}");
    // Who waited has held it since the waiting ended.
    let record: serde_json::Value = agent.get(&format!("/v1/kv/{key}?raw")).json();
    let taken = humantime::parse_rfc3339(record["acquired_at"].as_str().unwrap()).unwrap();
    assert!(taken >= begun, "{taken:?} is before {begun:?}");
    terminal.send("\n");
    assert!(terminal.wait(PATIENCE).success());
}

#[test]
fn who_is_far_behind_sees_who_has_it_now_and_what_is_typed_meanwhile_is_painted_over() {
    let agent = Agent::plain();
    let key = "deploy/far";
    let mut holder = hold(&agent, &[], key);
    let waiters: Vec<_> = (0..3).map(|_| waiter(&agent, &[], key, "exec sleep 1000").0).collect();
    let mut terminal =
        Pty::spawn(&at_terminal(consul_lock_on(&agent).args(["run", key, "-c", "read line; echo \"<$line>\""])));
    let pid = |run: &Running| format!("(pid {} of ", run.pid());
    let shows = |words: [String; 2]| {
        move |screen: &[String]| screen.last().is_some_and(|line| words.iter().all(|part| line.contains(part)))
    };
    terminal.resize(120, 24);
    terminal.expect_picture("the holder", PATIENCE, shows([", 3 before us; held ".into(), pid(&holder)]));

    // The terminal echoes that over the line.
    terminal.send("typed");
    terminal.expect("typed", PATIENCE);
    let whole = |screen: &[String]| screen.len() == 1 && screen[0].starts_with("waiting ");
    terminal.expect_picture("the whole line again", PATIENCE, whole);

    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
    let next = pid(&waiters[0]);
    terminal.expect_picture("the next holder", PATIENCE, shows([", 2 before us; held ".into(), next]));
    for mut waiter in waiters.into_iter().rev() {
        waiter.signal(Signal::SIGTERM);
        waiter.wait(PATIENCE);
    }
    terminal.send("\n");
    terminal.expect("<typed>", PATIENCE);
    assert!(terminal.wait(PATIENCE).success());
}

#[test]
fn a_lock_delay_and_a_holder_with_a_hostile_name_are_shown_and_an_interrupt_leaves_nothing() {
    let agent = Agent::plain();
    let key = "deploy/web";
    let record = r#"{"host":"h\u001b]0;x\u0007","pid":1,"user":"u\u009b31m","command":"\u001b[2Jevil\r\u202ecod",
        "acquired_at":"2026-01-01T00:00:00Z","lock_delay":"30s","run":"r","tool":"t"}"#;
    let mut holder = hold(&agent, &["--value", record, "--lock-delay=40s"], key);
    let mut terminal = Pty::spawn(&at_terminal(consul_lock_on(&agent).args(["run", key, "--", "echo", "ran"])));
    let has = |words: &'static str| move |screen: &[String]| screen.len() == 1 && screen[0].contains(words);
    terminal.expect_picture("the holder", PATIENCE, has("evil"));
    let written = terminal.screen_so_far();
    for active in ["\x1b[2J", "\x1b]", "\x07", "\u{9b}", "\u{202e}"] {
        assert!(!written.contains(active), "{active:?} in {written:?}");
    }
    agent.destroy_session(&agent.holder(key).unwrap());
    holder.wait(PATIENCE);
    let delayed = terminal.expect_picture("the lock delay", PATIENCE, has("lock delay, "));
    as_documented("lock delay", &delayed);
    terminal.send("\x03");
    let status = terminal.wait(PATIENCE);
    assert_eq!(status.signal(), Some(2));
    assert_eq!(terminal.picture(), [""; 0]);
}

#[test]
fn there_is_no_live_line_where_nobody_could_see_it_or_wants_it() {
    let agent = Agent::plain();
    let key = unique_key("plain");
    let _holder = hold(&agent, &[], &key);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stderr");
    let redirect = format!("exec \"$@\" 2>{}", file.display());
    let ways: [(&[&str], &[&str], &str); 4] = [
        (&[], &["-q"], ""),
        (&[], &["--log-format=json"], "\"event\":\"waiting\""),
        // Who builds in CI often has a dumb terminal.
        (&["CI=true", "TERM=dumb"], &[], "consul-lock: waiting for "),
        (&["sh", "-c", &redirect, "sh"], &[], ""),
    ];
    for (before, flags, expected) in ways {
        let mut command = Command::new("env");
        command.arg("TERM=xterm").args(before).arg(consul_lock_on(&agent).get_program());
        command
            .arg("run")
            .args(flags)
            .args(["-w", "0.5", &key, "--", "true"])
            .env("CONSUL_HTTP_ADDR", agent.http_addr());
        let mut terminal = Pty::spawn(&command);
        assert_eq!(terminal.wait(PATIENCE).code(), Some(75));
        let written = terminal.screen_so_far();
        assert!(!written.contains('\x1b') && written.contains(expected), "{flags:?}: {written:?}");
    }
    let written = fs::read_to_string(file).unwrap();
    assert!(!written.contains('\x1b') && written.starts_with("consul-lock: waiting for "), "{written:?}");
}

/// A shell at a terminal, a lock on this machine that is held, and the line that waits for it.
struct Desk {
    pty: Pty,
    holder: Running,
    _locks: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let locks = tempfile::tempdir().unwrap();
        let local = format!("--local={}", locks.path().display());
        let mut command = support::consul_lock();
        let holder = Running::start(command.args(["run", &local, "job", "-c", "echo started; exec sleep 1000"]));
        holder.expect_stdout("started", PATIENCE);
        let mut pty = Pty::bash();
        let binary = support::consul_lock().get_program().to_string_lossy().into_owned();
        pty.send(format!(
            "alias waits='TERM=xterm {binary} run --color=never {local} job -- echo it is ours'; stty tostop\n"
        ));
        pty.prompt(PATIENCE);
        Self { pty, holder, _locks: locks }
    }

    #[track_caller]
    fn expect_line(&self) {
        self.pty.expect_picture("the live line", PATIENCE, |screen| {
            screen.last().is_some_and(|line| line.starts_with("waiting ") && line.contains("s for job; held "))
        });
    }
}

#[test]
fn a_stop_takes_the_line_away_and_the_foreground_has_it_again() {
    let mut desk = Desk::new();
    desk.pty.send("waits\n");
    desk.expect_line();
    desk.pty.send("\x1a");
    desk.pty.prompt(PATIENCE);
    let stopped = desk.pty.picture();
    assert!(stopped.iter().all(|line| !line.contains("waiting ")), "{stopped:#?}");
    assert!(stopped.iter().any(|line| line.contains("Stopped")), "{stopped:#?}");

    // Nothing is drawn from the background, in more than one turn, and `tostop` stops nobody.
    desk.pty.send("bg; sleep 1.5; jobs -r\n");
    desk.pty.expect("Running", PATIENCE);
    desk.pty.prompt(PATIENCE);
    let behind = desk.pty.picture();
    assert!(behind.iter().all(|line| !line.contains("waiting ")), "{behind:#?}");

    desk.pty.send("fg\n");
    desk.expect_line();
    // Twice, as the first time; and a stop that no terminal sent.
    let group = desk.pty.foreground();
    nix::sys::signal::kill(group, Signal::SIGTSTP).unwrap();
    desk.pty.prompt(PATIENCE);
    assert!(desk.pty.picture().iter().all(|line| !line.contains("waiting ")), "{:#?}", desk.pty.picture());
    desk.pty.send("fg\n");
    desk.expect_line();
    desk.holder.signal(Signal::SIGTERM);
    desk.pty.expect("it is ours", PATIENCE);
    desk.pty.prompt(PATIENCE);
    let after = desk.pty.picture();
    assert!(after.iter().all(|line| !line.contains("waiting ")), "{after:#?}");
}

#[test]
fn a_job_in_the_background_says_it_in_a_line_and_a_stopped_terminal_delays_nobody() {
    let mut desk = Desk::new();
    desk.pty.send("waits & sleep 1.5\n");
    desk.pty.expect("consul-lock: waiting for job, held by sh (pid ", PATIENCE);
    desk.pty.prompt(PATIENCE);
    assert!(!desk.pty.screen_so_far().contains('\x1b'), "{}", desk.pty.screen_so_far());
    desk.pty.send("fg\n");
    desk.expect_line();
    let group = desk.pty.foreground();
    // Ctrl-S: the terminal takes nothing, and the command gets the lock all the same; Ctrl-Q lets all of it out.
    desk.pty.send("\x13");
    desk.holder.signal(Signal::SIGTERM);
    desk.holder.wait(PATIENCE);
    let locked = || support::survivors(desk.pty.mark()).iter().any(|(_, name)| name == "echo");
    eventually("the command runs, or has run and waits for the terminal", PATIENCE, || {
        (locked() || process_state(group.as_raw()).is_none()).then_some(())
    });
    desk.pty.send("\x11");
    desk.pty.expect("it is ours", PATIENCE);
    desk.pty.prompt(PATIENCE);
    assert!(desk.pty.picture().iter().all(|line| !line.starts_with("waiting ")), "{:#?}", desk.pty.picture());
}

#[test]
fn what_is_typed_below_the_line_leaves_nothing_and_touches_nothing_above() {
    // At the top of the screen, at its bottom, and where what is typed is not the command's.
    for (earlier, input) in [(3, "/dev/tty"), (40, "/dev/tty"), (3, "/dev/null")] {
        let locks = tempfile::tempdir().unwrap();
        let local = format!("--local={}", locks.path().display());
        let mut command = support::consul_lock();
        let mut holder = Running::start(command.args(["run", &local, "job", "-c", "echo started; exec sleep 1000"]));
        holder.expect_stdout("started", PATIENCE);
        let binary = support::consul_lock().get_program().to_string_lossy().into_owned();
        let script = format!(
            "seq {earlier}; TERM=xterm {binary} run --color=never {local} job -- sed 's/.*/<&>/;7q' <{input}; echo over"
        );
        let mut terminal = Pty::spawn(Command::new("sh").args(["-c", &script]));
        let rows = |more: &[&str]| -> Vec<String> {
            let all = (1..=earlier).map(|row| row.to_string()).chain(more.iter().map(ToString::to_string));
            all.collect()
        };
        // Enter in the last row has the terminal make room for another one, as ever.
        let is_whole = |screen: &[String]| {
            let above = rows(&[]);
            screen.split_last().is_some_and(|(last, rest)| {
                last.starts_with("waiting ")
                    && last.contains("s for job; held ")
                    && above.ends_with(rest)
                    && rest.len() >= above.len().min(22)
            })
        };
        terminal.expect_picture("the live line", PATIENCE, is_whole);
        let text_then_end = if earlier == 3 { "abc\x04" } else { "" };
        let typed = ["\n", "\n", "\n", "\n", "\n", "\n", text_then_end, "some text\n"];
        for (number, keys) in typed.iter().filter(|keys| !keys.is_empty()).enumerate() {
            terminal.send(keys);
            eventually("the line is taken back", PATIENCE, || {
                (terminal.screen_so_far().matches("\x1b[A").count() > number).then_some(())
            });
            terminal.expect_picture("the live line where it was", PATIENCE, is_whole);
        }

        holder.signal(Signal::SIGTERM);
        holder.wait(PATIENCE);
        terminal.expect("over\r\n", PATIENCE);
        let last = if earlier == 3 { "<abcsome text>" } else { "<some text>" };
        let output =
            if input == "/dev/tty" { vec!["<>", "<>", "<>", "<>", "<>", "<>", last, "over"] } else { vec!["over"] };
        let all = rows(&output);
        assert_eq!(terminal.picture(), all[all.len().saturating_sub(23)..], "{earlier} from {input}");
    }
}
