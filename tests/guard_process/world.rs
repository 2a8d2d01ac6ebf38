//! Where command and guard stand in the world: session and job, descriptors, signals, the lock's descriptor, processes that
//! are none of ours or that cannot be killed.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, getpgid, getsid};

use crate::Test;
use crate::guard::{Report, Status};
use crate::keeper::{Order, Said};
use crate::scene::{Notes, Scene, await_that, cast, marked};

pub fn tests() -> Vec<Test> {
    let tests: [(&str, fn()); 9] = [
        ("the command stays in the job, the guard does not", job),
        ("the command has the descriptors that it would have without us", descriptors),
        ("the command has the signals that it would have without us", signals),
        ("the lock's descriptor lives as long as the tree", lock_descriptor),
        ("with leave the tree does not have the lock's descriptor", lock_descriptor_left),
        ("the keeper's death before the start ends the guard without a word", death_before_start),
        ("children that the keeper's process had before are spared", spared_children),
        ("what cannot be killed is named, and awaited", unkillable),
        ("a keeper that takes over gives up what cannot be killed", unkillable_after_takeover),
    ];
    tests.into_iter().map(|(name, test)| (name.to_owned(), Box::new(test) as Box<_>)).collect()
}

fn far() -> Option<Moment> {
    Some(Moment::now() + Duration::from_secs(30))
}

fn kill_and_end(mut scene: Scene) {
    scene.order(&Order::Kill);
    scene.hear_gone();
    scene.end();
}

fn job() {
    let scene = cast(&["sleep", "600"]).start(far());
    let (keeper, guard, command) = (scene.keeper(), scene.guard(), scene.command());
    assert_eq!(getpgid(Some(command)), Ok(keeper));
    assert_eq!(getsid(Some(command)), getsid(Some(keeper)));
    assert_eq!((getsid(Some(guard)), getpgid(Some(guard))), (Ok(guard), Ok(guard)));
    assert_eq!(fs::read_to_string(format!("/proc/{guard}/comm")).expect("a guard").trim(), "lock-guard");
    assert_eq!(
        fs::read_dir(format!("/proc/{guard}/task")).expect("a guard").count(),
        1,
        "it has no thread but the first"
    );
    kill_and_end(scene);
}

/// What a descriptor of a process is.
fn target(pid: Pid, descriptor: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

fn open_descriptors(pid: Pid) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    let mut open: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    open.sort_unstable();
    open
}

/// Whether the process is sleep(1), and asleep.
fn is_asleep(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(sleep) S "))
}

fn descriptors() {
    let notes = Notes::new("inherited");
    let file = File::create(notes.path()).expect("a file");
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).expect("no CLOEXEC");
    let number = file.as_raw_fd();
    let mut without_us = Command::new("sleep").arg("600").spawn().expect("a sleep");
    let its_pid = Pid::from_raw(without_us.id().cast_signed());
    // The dynamic loader opens and closes some of its own at the start.
    await_that("a sleep that sleeps", || is_asleep(its_pid));
    let expected = open_descriptors(its_pid);
    without_us.kill().expect("a kill");
    without_us.wait().expect("an end");
    let scene = cast(&["sleep", "600"]).start(far());
    drop(file);
    let (keeper, guard, command) = (scene.keeper(), scene.guard(), scene.command());
    await_that("a command that sleeps", || is_asleep(command));
    assert_eq!(open_descriptors(command), expected);
    assert_eq!(target(command, number).as_deref(), Some(notes.path()));
    await_that("keeper and guard to let go", || {
        [keeper, guard].into_iter().all(|pid| {
            let null = Some("/dev/null".to_owned());
            target(pid, 0) == null && target(pid, 1) == null && target(pid, number).as_deref() != Some(notes.path())
        })
    });
    assert!(target(guard, 2).is_some_and(|target| target.starts_with("pipe:")));
    assert_eq!(target(guard, 2), target(command, 2));
    kill_and_end(scene);
}

fn signals() {
    let notes = Notes::new("signals");
    let script = format!("exec cat /proc/self/status > {}", notes.path());
    // As a shell does for nohup, and a careless parent with SIGCHLD. The mask is perl's to set.
    let mut scene = cast(&["sh", "-c", &script])
        .through(
            "trap '' HUP USR2 CHLD
             exec perl -MPOSIX -e 'sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGALRM)); exec @ARGV' \"$0\"",
        )
        .start(far());
    let status = scene.hear(|report| matches!(report, Report::Exited { .. }));
    assert_eq!(status, Report::Exited { status: Status::Code(0), left: 0 });
    let bits = |signals: &[Signal]| signals.iter().fold(0_u64, |bits, &signal| bits | 1 << (signal as i32 - 1));
    let found = |field: &str| {
        let text = notes.read();
        let value = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field").trim().to_owned();
        u64::from_str_radix(&value, 16).expect("a number")
    };
    assert_eq!(found("SigBlk:"), bits(&[Signal::SIGALRM]));
    // CHLD is set to default, or no status would be left for anybody; PIPE is default in the command.
    // 32 and 33 are the C library's own; a test runner may have been started with them ignored.
    assert_eq!(found("SigIgn:") & !(3 << 31), bits(&[Signal::SIGHUP, Signal::SIGUSR2]));
    assert_eq!(found("SigCgt:"), 0);
    scene.hear_gone();
    scene.end();
}

fn is_locked(path: &str) -> bool {
    let file = File::options().write(true).open(path).expect("the lock's file");
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
}

fn lock_descriptor() {
    let notes = Notes::new("lock");
    File::create(notes.path()).expect("a lock");
    let scene = cast(&["sh", "-c", "setsid sleep 600 & exec sleep 600"]).lock(notes.path()).start(far());
    scene.await_size(2);
    // Both at the same moment: nobody is left to kill the grandchild.
    scene.kill_guard(Signal::SIGSTOP);
    scene.kill_keeper(Signal::SIGKILL);
    scene.kill_guard(Signal::SIGKILL);
    await_that("the command's death", || marked(&scene.mark).len() == 1);
    assert!(is_locked(notes.path()));
    for pid in marked(&scene.mark) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a survivor");
    }
    scene.end();
    assert!(!is_locked(notes.path()));
}

fn lock_descriptor_left() {
    let notes = Notes::new("lock-left");
    File::create(notes.path()).expect("a lock");
    let mut scene = cast(&["sh", "-c", "sleep 1 & sleep 0.1"]).lock(notes.path()).background("leave").start(far());
    assert!(is_locked(notes.path()));
    scene.hear_gone();
    await_that("the end of keeper and guard", || !is_locked(notes.path()));
    assert_eq!(marked(&scene.mark).len(), 1, "it lives on, without the lock");
    scene.end();
}

fn death_before_start() {
    let scene = cast(&["sleep", "600"]).set();
    scene.kill_keeper(Signal::SIGKILL);
    assert_eq!(scene.end(), "");
}

fn spared_children() {
    let notes = Notes::new("spared");
    let mut scene = cast(&["sh", "-c", "setsid sleep 600 & sleep 600"])
        .through(&format!("sleep 599 & echo $! > {}", notes.path()))
        .start(far());
    scene.await_size(2);
    scene.kill_guard(Signal::SIGKILL);
    while scene.next() != Said::TookOver(true) {}
    assert_eq!(marked(&scene.mark), Vec::<i32>::new());
    let other = Pid::from_raw(notes.read().trim().parse().expect("a pid"));
    assert_eq!(fs::read_to_string(format!("/proc/{other}/comm")).expect("it lives").trim(), "sleep");
    kill(other, Signal::SIGKILL).expect("a process");
    scene.end();
}

/// A user who is not root, as the keeper, and a program that becomes root for good, as sudo does. None if we are not root.
fn somebody_elses(name: &str) -> Option<(Scene, Notes)> {
    const NOBODY: u32 = 65534;
    if !geteuid().is_root() {
        println!("only root can make the program that this needs: not run");
        return None;
    }
    let (program, keeper) = (Notes::new(name), Notes::new(&format!("{name}-keeper")));
    let perl = ["/usr/bin/perl", "/usr/local/bin/perl"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(perl.expect("a perl"), program.path()).expect("a copy");
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o4755)).expect("a mode");
    // Our own path may be hidden from others.
    fs::copy(std::env::current_exe().expect("our path"), keeper.path()).expect("a copy");
    fs::set_permissions(keeper.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let script = "POSIX::setuid(0); sleep 600 while 1";
    let scene = cast(&[program.path(), "-MPOSIX", "-e", script])
        .program(keeper.path())
        .with(|command| {
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
        })
        .start(far());
    let status = format!("/proc/{}/status", scene.command());
    await_that("another's process", || fs::read_to_string(&status).is_ok_and(|text| text.contains("Uid:\t0\t0\t0")));
    Some((scene, program))
}

fn unkillable() {
    let Some((mut scene, program)) = somebody_elses("unkillable") else { return };
    scene.order(&Order::Kill);
    let report = scene.hear(|report| matches!(report, Report::Unkillable { .. }));
    let pid = scene.command();
    let Report::Unkillable { pid: named, user, name } = report else { panic!("{report:?}") };
    assert_eq!((named, user.as_str()), (pid.as_raw(), "root"));
    assert!(program.path().contains(&name), "{name}");
    kill(pid, Signal::SIGKILL).expect("root may");
    scene.hear_gone();
    assert_eq!(scene.heard.iter().filter(|report| matches!(report, Report::Unkillable { .. })).count(), 1);
    scene.end();
}

fn unkillable_after_takeover() {
    let Some((mut scene, _program)) = somebody_elses("takeover") else { return };
    scene.kill_guard(Signal::SIGKILL);
    while scene.next() != Said::TookOver(false) {}
    assert!(scene.heard.iter().any(|report| matches!(report, Report::Unkillable { user, .. } if user == "root")));
    kill(scene.command(), Signal::SIGKILL).expect("root may");
    scene.end();
}
