//! What the guard does and when, beside the table: how a command's end is told, what becomes of the processes that outlive
//! it, what a first signal is, how an end is hastened.

use std::fs;
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};

use crate::Test;
use crate::guard::{Cause, Report, Status};
use crate::keeper::Order;
use crate::scene::{Notes, Scene, await_that, cast, marked};

/// At once, on a machine that is busy with other tests; what is not at once takes longer than this in every test.
const SOON: Duration = Duration::from_secs(3);

pub fn tests() -> Vec<Test> {
    let tests: [(&str, fn()); 23] = [
        ("an exit code is told as it is", exit_code),
        ("a death by a signal is told as it is, realtime signals too", death_by_signal),
        ("what cannot be executed is told with its errno", not_started),
        ("a script without an interpreter's line is run by sh", script_without_line),
        ("what is prepared is in the job, executes nothing, and is what is started", prepared),
        ("who kills what is prepared has killed the command", prepared_and_killed),
        ("a signal that comes between preparation and start is the command's", prepared_and_signalled),
        ("what is prepared and never started goes with keeper or guard", prepared_in_vain),
        ("a start after the point of no return starts nothing", late_start),
        ("a confirmation moves the deadline", confirmation),
        ("the first signal comes once, and a trap's clean-up gets none", first_signal),
        ("a grace of nothing is SIGKILL at once", no_grace),
        ("a second end can only come sooner", hastened_end),
        ("kill is immediate", immediate_kill),
        ("a forwarded signal reaches the command alone", forwarded_signal),
        ("signals to the guard itself change nothing", deaf_guard),
        ("what outlives the command may end by itself within the grace", background_ends),
        ("what outlives the command and the grace is named and killed", background_killed),
        ("with wait the end of what outlives the command is awaited", background_wait),
        ("with leave nobody is waited for or killed", background_leave),
        ("a loss kills what outlives the command, with wait too", background_loss),
        ("kill ends what outlives the command at once", background_kill_asked),
        ("the start of true is told in a millisecond or so", hot_path),
    ];
    tests.into_iter().map(|(name, test)| (name.to_owned(), Box::new(test) as Box<_>)).collect()
}

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

fn far() -> Option<Moment> {
    Some(Moment::now() + Duration::from_secs(30))
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn exited(scene: &mut Scene) -> (Status, usize) {
    match scene.hear(|report| matches!(report, Report::Exited { .. })) {
        Report::Exited { status, left } => (status, left),
        other => panic!("{other:?}"),
    }
}

fn exit_code() {
    for code in [0, 1, 7, 255] {
        let mut scene = cast(&sh(&format!("exit {code}"))).start(far());
        assert_eq!(exited(&mut scene), (Status::Code(code), 0));
        scene.hear_gone();
        assert_eq!(scene.heard.len(), 3, "{:?}", scene.heard);
        assert_eq!(scene.end(), "");
    }
}

/// The process that is to be the command, which is the guard's one child.
fn unborn(scene: &mut Scene) -> Pid {
    scene.order(&Order::Prepare);
    let guard = scene.guard();
    let mut found = None;
    await_that("the command's process", || {
        let children = fs::read_to_string(format!("/proc/{guard}/task/{guard}/children")).unwrap_or_default();
        found = children.trim().parse().ok();
        // It has a name of its own once it is on its own.
        found.is_some_and(|pid: i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "lock-command\n")
        })
    });
    Pid::from_raw(found.expect("a child"))
}

fn prepared() {
    let notes = Notes::new("prepared");
    let mut scene = cast(&sh(&format!("echo ran >> {}; exec sleep 600", notes.path()))).set();
    let pid = unborn(&mut scene);
    assert_eq!(getpgid(Some(pid)), Ok(scene.keeper()), "it is not in the keeper's job");
    await_that("the guard to leave the job", || getpgid(Some(scene.guard())) == Ok(scene.guard()));
    // A second word changes nothing.
    scene.order(&Order::Prepare);
    assert_eq!(unborn(&mut scene), pid);
    assert_eq!(notes.read(), "");
    scene.order(&Order::Start(far()));
    scene.hear(|report| matches!(report, Report::Started { .. }));
    assert_eq!(scene.command(), pid);
    notes.await_line("ran");
    scene.order(&Order::Kill);
    scene.hear_gone();
    scene.end();
}

fn prepared_and_killed() {
    let mut scene = cast(&sh("exit 3")).set();
    let pid = unborn(&mut scene);
    kill(pid, Signal::SIGKILL).expect("a process");
    await_that("its end", || !fs::exists(format!("/proc/{pid}")).unwrap_or(true));
    scene.order(&Order::Start(far()));
    assert_eq!(exited(&mut scene), (Status::Signal(9), 0));
    assert_eq!(scene.command(), pid);
    scene.hear_gone();
    scene.end();
}

fn prepared_and_signalled() {
    let mut scene = cast(&sh("exec sleep 600")).set();
    let pid = unborn(&mut scene);
    kill(pid, Signal::SIGINT).expect("a process");
    scene.order(&Order::Start(far()));
    assert_eq!(exited(&mut scene), (Status::Signal(2), 0));
    scene.hear_gone();
    scene.end();
}

fn prepared_in_vain() {
    let endings: [fn(&mut Scene); 4] = [
        |scene| scene.order(&Order::Reap),
        |scene| scene.kill_keeper(Signal::SIGKILL),
        |scene| scene.kill_guard(Signal::SIGKILL),
        |scene| scene.kill_job(Signal::SIGKILL),
    ];
    for end in endings {
        let notes = Notes::new("prepared-in-vain");
        let mut scene = cast(&sh(&format!("echo ran >> {}", notes.path()))).set();
        let pid = unborn(&mut scene);
        end(&mut scene);
        scene.end();
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap_or(true), "it is left");
        assert_eq!(notes.read(), "");
    }
}

fn death_by_signal() {
    for signal in [1, 2, 9, 13, 15, 17 + 18, 64] {
        let script = format!("$SIG{{PIPE}} = 'DEFAULT'; kill {signal}, $$; sleep 600");
        let mut scene = cast(&["perl", "-e", &script]).start(far());
        assert_eq!(exited(&mut scene), (Status::Signal(signal), 0));
        scene.hear_gone();
        scene.end();
    }
}

fn not_started() {
    for (program, errno) in [("/nonexistent/program", 2), ("no-such-program", 2), ("/etc/passwd", 13), ("/tmp", 13)] {
        let mut scene = cast(&[program]).set();
        scene.order(&Order::Start(far()));
        let report = scene.hear(|_| true);
        assert_eq!(report, Report::NotStarted { errno }, "{program}");
        scene.hear_gone();
        assert_eq!(scene.heard.len(), 2, "{:?}", scene.heard);
        scene.end();
    }
}

fn script_without_line() {
    use std::os::unix::fs::PermissionsExt;
    let notes = Notes::new("script");
    fs::write(notes.path(), "exit 9").expect("a script");
    fs::set_permissions(notes.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut scene = cast(&[notes.path()]).start(far());
    assert_eq!(exited(&mut scene).0, Status::Code(9));
    scene.end();
}

fn late_start() {
    let mut scene = cast(&["sleep", "600"]).set();
    scene.order(&Order::Start(Some(Moment::now() + millis(250))));
    assert_eq!(scene.hear(|_| true), Report::Ending { cause: Cause::Deadline });
    scene.hear_gone();
    assert_eq!(scene.heard.len(), 2, "{:?}", scene.heard);
    scene.end();
}

fn confirmation() {
    let begun = Moment::now();
    let mut scene = cast(&["sleep", "600"]).start(Some(begun + millis(500)));
    let later = begun + millis(1000);
    scene.order(&Order::Extend(later));
    // A smaller one takes nothing back.
    scene.order(&Order::Extend(begun + millis(400)));
    let gone = scene.hear_gone();
    assert!(gone >= later - millis(300), "{:?} after the start", gone.since(begun));
    scene.end();
}

fn first_signal() {
    let notes = Notes::new("first");
    let path = notes.path();
    // The child is stopped, and must be woken for its trap; the clean-up is born after the signal, and takes its time.
    let script = format!(
        "sh -c 'trap \"echo child >> {path}; exit\" TERM; echo up >> {path}; kill -STOP $$; while :; do sleep 1; done' &
         trap '(trap \"echo hit >> {path}\" TERM; sleep 0.1; echo clean >> {path}); exit 3' TERM
         echo ready >> {path}; while :; do sleep 0.01; done"
    );
    let mut scene = cast(&sh(&script)).grace(millis(2000)).start(far());
    notes.await_line("ready");
    notes.await_line("up");
    scene.order(&Order::End(None));
    assert_eq!(exited(&mut scene).0, Status::Code(3));
    scene.hear_gone();
    let mut told: Vec<_> = notes.read().lines().map(str::to_owned).collect();
    told.sort();
    assert_eq!(told, ["child", "clean", "ready", "up"]);
    scene.end();
}

fn no_grace() {
    let notes = Notes::new("grace");
    let script = format!("trap 'echo hit >> {}' TERM; while :; do sleep 0.01; done", notes.path());
    for end in [Order::End(None), Order::End(Some(Moment::now() + millis(5000)))] {
        let mut scene = cast(&sh(&script)).grace(Duration::ZERO).start(far());
        let asked = Moment::now();
        scene.order(&end);
        assert!(scene.hear_gone().since(asked) < SOON);
        assert_eq!(notes.read(), "");
        scene.end();
    }
    let deadline = Moment::now() + millis(300);
    let mut scene = cast(&["sleep", "600"]).grace(Duration::ZERO).start(Some(deadline));
    assert!(scene.hear_gone() >= deadline);
    scene.end();
}

const DEAF: &str = "trap '' TERM; while :; do sleep 0.1; done";

fn hastened_end() {
    let mut scene = cast(&sh(DEAF)).grace(millis(10_000)).start(far());
    scene.await_size(2);
    let asked = Moment::now();
    scene.order(&Order::End(None));
    scene.order(&Order::End(Some(asked + millis(200))));
    scene.order(&Order::End(Some(asked + millis(5000))));
    let took = scene.hear_gone().since(asked);
    assert!((millis(200)..SOON).contains(&took), "{took:?}");
    scene.end();
}

fn immediate_kill() {
    let mut scene = cast(&sh(DEAF)).grace(millis(10_000)).start(far());
    scene.await_size(2);
    scene.order(&Order::End(None));
    scene.hear(|report| *report == Report::Ending { cause: Cause::Asked });
    let asked = Moment::now();
    scene.order(&Order::Kill);
    assert!(scene.hear_gone().since(asked) < SOON);
    scene.end();
}

fn forwarded_signal() {
    let notes = Notes::new("forward");
    let path = notes.path();
    let script = format!(
        "sh -c 'trap \"echo child >> {path}\" USR1; while :; do sleep 0.01; done' &
         trap 'echo command >> {path}' USR1; echo ready >> {path}; while :; do sleep 0.01; done"
    );
    let mut scene = cast(&sh(&script)).start(far());
    notes.await_line("ready");
    scene.order(&Order::Signal(Signal::SIGUSR1 as i32));
    notes.await_line("command");
    assert!(!notes.read().contains("child"));
    scene.order(&Order::Kill);
    scene.hear_gone();
    scene.end();
}

fn deaf_guard() {
    let mut scene = cast(&["sleep", "600"]).start(far());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGTSTP, Signal::SIGCHLD, Signal::SIGUSR1] {
        scene.kill_guard(signal);
    }
    scene.order(&Order::Signal(Signal::SIGTERM as i32));
    assert_eq!(exited(&mut scene), (Status::Signal(15), 0));
    scene.hear_gone();
    scene.end();
}

fn background_ends() {
    let mut scene = cast(&sh("sleep 0.2 & exit 4")).grace(millis(5000)).start(far());
    assert_eq!(exited(&mut scene), (Status::Code(4), 1));
    let ended = Moment::now();
    let took = scene.hear_gone().since(ended);
    assert!((millis(100)..millis(2000)).contains(&took), "{took:?}");
    assert_eq!(scene.heard.len(), 3, "{:?}", scene.heard);
    scene.end();
}

fn background_killed() {
    let mut scene = cast(&sh("sleep 600 & (trap '' TERM; exec sleep 601) & exit 4")).start(far());
    assert_eq!(exited(&mut scene), (Status::Code(4), 2));
    let ended = Moment::now();
    let gone = scene.hear_gone();
    assert!((millis(550)..millis(1500)).contains(&gone.since(ended)), "{:?}", gone.since(ended));
    let named = scene.heard.iter().filter(|report| matches!(report, Report::Left { name, .. } if name == "sleep"));
    assert_eq!(named.count(), 2, "{:?}", scene.heard);
    assert!(scene.heard.contains(&Report::Ending { cause: Cause::Background }));
    scene.end();
}

fn background_wait() {
    let mut scene = cast(&sh("sleep 1 & exit 4")).background("wait").start(far());
    assert_eq!(exited(&mut scene), (Status::Code(4), 1));
    let ended = Moment::now();
    let took = scene.hear_gone().since(ended);
    assert!((millis(700)..millis(3000)).contains(&took), "{took:?}");
    assert_eq!(scene.heard.len(), 3, "{:?}", scene.heard);
    scene.end();
}

fn background_leave() {
    let mut scene = cast(&sh("sleep 0.5 & exit 4")).background("leave").start(far());
    assert_eq!(exited(&mut scene), (Status::Code(4), 1));
    let ended = Moment::now();
    assert!(scene.hear_gone().since(ended) < millis(200));
    assert_eq!(marked(&scene.mark).len(), 1, "it lives on");
    scene.end();
}

fn background_loss() {
    for policy in ["kill", "wait"] {
        let script = sh("trap '' TERM; sleep 600 & exit 0");
        let mut scene = cast(&script).background(policy).grace(millis(400)).start(Some(Moment::now() + millis(900)));
        exited(&mut scene);
        let asked = Moment::now();
        scene.order(&Order::End(Some(asked + millis(100))));
        let took = scene.hear_gone().since(asked);
        assert!((millis(100)..millis(400)).contains(&took), "{took:?}");
        assert!(scene.heard.contains(&Report::Ending { cause: Cause::Asked }), "{:?}", scene.heard);
        scene.end();
    }
    let deadline = Moment::now() + millis(900);
    let mut scene = cast(&sh("trap '' TERM; sleep 600 & exit 0")).background("wait").start(Some(deadline));
    let gone = scene.hear_gone();
    assert!(gone >= deadline && gone < deadline + SOON);
    scene.end();
}

fn background_kill_asked() {
    for policy in ["kill", "wait"] {
        let mut scene = cast(&sh("sleep 600 & exit 0")).background(policy).grace(millis(10_000)).start(far());
        exited(&mut scene);
        let asked = Moment::now();
        scene.order(&Order::Kill);
        assert!(scene.hear_gone().since(asked) < SOON);
        scene.end();
    }
}

/// Measured by the keeper, since the way to us is longer: from the order to the proof that nobody is left.
fn hot_path() {
    let mut took: Vec<_> = (0..40)
        .map(|_| {
            let mut scene = cast(&["true"]).set();
            let begun = Moment::now();
            scene.order(&Order::Start(far()));
            let took = scene.hear_gone().since(begun);
            assert_eq!(scene.heard.len(), 3, "{:?}", scene.heard);
            scene.end();
            took
        })
        .collect();
    took.sort();
    println!("true: order to proof {:?} at best, {:?} in the median", took[0], took[took.len() / 2]);
    assert!(took[0] < millis(10), "{:?}", took[0]);
}
