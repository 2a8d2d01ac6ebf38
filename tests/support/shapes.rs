//! Trees of processes in all the shapes that escape other tools. Each lives until it is killed.

/// A command and what it looks like when all of it runs.
#[derive(Debug, Clone)]
pub struct Shape {
    /// What it is, for a message.
    pub name: &'static str,
    /// The command.
    pub argv: Vec<String>,
    /// How many processes it has, at least, when it has come to its full size.
    pub size: usize,
}

/// Number of a system call that perl makes by number, by architecture.
const fn call(x86_64: u32, elsewhere: u32) -> u32 {
    if cfg!(target_arch = "x86_64") { x86_64 } else { elsewhere }
}

/// Every shape.
pub fn shapes() -> Vec<Shape> {
    let sh = |name, size, script: &str| shape(name, size, &["sh", "-c", script]);
    let perl = |name, size, script: &str| shape(name, size, &["perl", "-MPOSIX", "-e", script]);
    let mut all = vec![
        shape("one process", 1, &["sleep", "600"]),
        sh("a grandchild behind sh -c", 2, "sleep 600; true"),
        sh("a pipeline", 4, "sleep 600 | cat | cat; true"),
        sh("setsid", 2, "setsid sleep 600 & sleep 600"),
        sh("a double fork", 2, "(sleep 600 &); exec sleep 600"),
        perl(
            "a daemon (fork, setsid, fork)",
            2,
            "if (!fork) { POSIX::setsid(); fork and exit; $SIG{HUP} = 'IGNORE'; sleep 600 } sleep 600",
        ),
        sh("nohup", 2, "nohup sleep 600 >/dev/null 2>&1 & sleep 600"),
        sh("deaf to TERM, INT, HUP", 2, "trap '' TERM INT HUP; sleep 600; true"),
        sh("a stopped child", 2, "trap '' TERM; sleep 600 & kill -STOP $!; wait"),
        sh("stopped itself", 1, "kill -STOP $$; sleep 600"),
        perl(
            "a hopper: forks, exits, for ever",
            2,
            "$SIG{TERM} = 'IGNORE'; fork or do { while (1) { fork and POSIX::_exit(0); POSIX::setsid() } }; sleep 1 while 1",
        ),
        perl(
            "forks every millisecond",
            50,
            "$SIG{TERM} = 'IGNORE'; $SIG{CHLD} = 'IGNORE'; while (1) { fork or do { sleep 600; exit } ; select undef, undef, undef, 0.001 }",
        ),
        perl("a chain of 100", 100, "for (1 .. 99) { fork and last } sleep 600; sleep 600"),
        perl(
            "1000 descendants",
            1000,
            "for (1 .. 27) { fork or do { for (1 .. 36) { fork or last } sleep 600; exit } } sleep 600",
        ),
        perl("a sibling (CLONE_PARENT)", 2, &format!("syscall({}, 0x8000 | 17, 0, 0, 0, 0); sleep 600", call(56, 220))),
        perl("a child without SIGCHLD (__WCLONE)", 2, &format!("syscall({}, 0, 0, 0, 0, 0); sleep 600", call(56, 220))),
        perl(
            "a subreaper of its own",
            2,
            &format!(
                "syscall({}, 36, 1, 0, 0, 0); fork or do {{ fork and exit; sleep 600 }}; sleep 600 while 1",
                call(157, 167)
            ),
        ),
        shape(
            "a process whose first thread has exited",
            1,
            &["perl", "-Mthreads", "-e", &format!("async {{ sleep 600 }}; syscall({}, 0)", call(60, 93))],
        ),
    ];
    if may_unshare() {
        let script = "(setsid sleep 600 &); sleep 600; true";
        all.push(shape("a pid namespace (unshare -pf)", 4, &["unshare", "-pf", "--mount-proc", "sh", "-c", script]));
    }
    all
}

fn shape(name: &'static str, size: usize, argv: &[&str]) -> Shape {
    Shape { name, argv: argv.iter().map(|&arg| arg.to_owned()).collect(), size }
}

/// Whether this machine lets us make a pid namespace.
fn may_unshare() -> bool {
    std::process::Command::new("unshare")
        .args(["-pf", "--mount-proc", "true"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
