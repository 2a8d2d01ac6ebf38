//! The file of metrics: what is in it after runs that ended in different ways, and when it cannot be written.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use support::agent::{Agent, PATIENCE};
use support::proxy::{Fault, Proxy};
use support::running::Running;
use support::{consul_lock, consul_lock_at, consul_lock_on, eventually, unique_key};

/// The samples in a file, by name, which must be in the text format of Prometheus: HELP, TYPE and one sample with this key.
#[track_caller]
fn samples(path: &Path, key: &str) -> BTreeMap<String, f64> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let lines: Vec<_> = text.lines().collect();
    let sample = |lines: &[&str]| {
        let [help, kind, sample] = lines else { panic!("{text}") };
        let (name, value) = sample.split_once(&format!("{{key=\"{key}\"}} ")).unwrap_or_else(|| panic!("{text}"));
        assert!(help.starts_with(&format!("# HELP {name} ")) && help.ends_with('.'), "{text}");
        assert_eq!(*kind, format!("# TYPE {name} gauge"));
        (name.strip_prefix("consul_lock_").expect("the prefix").to_owned(), value.parse().expect("a number"))
    };
    lines.chunks(3).map(sample).collect()
}

/// Runs a shell's command under a lock of this machine, with metrics.
fn local(folder: &Path, flags: &[&str], script: &str) -> Command {
    let mut command = consul_lock();
    command.arg("run").arg(format!("--local={}", folder.join("locks").display()));
    command.arg(format!("--metrics-file={}", folder.join("job.prom").display())).args(flags);
    command.args(["cron/backup", "-c", script]);
    command
}

#[test]
fn each_outcome_is_in_the_file_and_the_last_success_outlives_failures() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("locks")).unwrap();
    fs::set_permissions(folder.path().join("locks"), fs::Permissions::from_mode(0o700)).unwrap();
    let file = folder.path().join("job.prom");
    let run = |flags: &[&str], script: &str| Running::start(&mut local(folder.path(), flags, script)).wait(PATIENCE);
    let read = || samples(&file, "cron/backup");
    let unix = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();

    // Without any success there is none to tell of.
    assert_eq!(run(&[], "exit 3").code(), Some(3));
    let failed = read();
    assert_eq!((failed["acquired"], failed["exit_code"], failed["lost"]), (1.0, 3.0, 0.0));
    assert!(!failed.contains_key("last_success_timestamp_seconds"), "{failed:?}");

    let begun = unix();
    let mut shell = Command::new("sh");
    let strict = local(folder.path(), &[], "sleep 0.2");
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(strict.get_program()).args(strict.get_args());
    let ended = Running::start(&mut shell).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    let good = read();
    assert_eq!((good["acquired"], good["exit_code"], good["lost"], good["unconfirmed_seconds"]), (1.0, 0.0, 0.0, 0.0));
    assert!(good["held_seconds"] >= 0.2 && good["held_seconds"] < 20.0, "{good:?}");
    assert!(good["wait_seconds"] < 20.0, "{good:?}");
    let success = good["last_success_timestamp_seconds"];
    assert!(success >= begun && success <= unix() && success == good["last_run_timestamp_seconds"], "{good:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644, "the collector is another user");

    // Somebody else has it; a signal ends the waiting; the command cannot be found. A code that was chosen is no success.
    let holder = Running::start(consul_lock().args([
        "run",
        &format!("--local={}", folder.path().join("locks").display()),
        "cron/backup",
        "-c",
        "echo started; exec sleep 1000",
    ]));
    holder.expect_stdout("started", PATIENCE);
    assert_eq!(run(&["-w", "0.3", "-E", "0"], "true").code(), Some(0));
    let refused = read();
    assert_eq!((refused["acquired"], refused["exit_code"], refused["held_seconds"]), (0.0, 0.0, 0.0));
    assert!(refused["wait_seconds"] >= 0.3, "{refused:?}");
    assert_eq!(refused["last_success_timestamp_seconds"], success);
    let mut waiter = Running::start(&mut local(folder.path(), &[], "true"));
    waiter.expect_stderr("waiting for", PATIENCE);
    waiter.signal(Signal::SIGTERM);
    assert_eq!(waiter.wait(PATIENCE).signal(), Some(15));
    assert_eq!((read()["acquired"], read()["exit_code"]), (0.0, 143.0));
    let mut missing = local(folder.path(), &[], "true");
    missing.args(["--log-format=json"]);
    let words: Vec<_> = missing.get_args().map(|word| word.to_owned()).collect();
    let words = words.iter().take(words.len() - 3).cloned();
    let ended = Running::start(consul_lock().args(words).args(["--", "no-such-command"])).wait(PATIENCE);
    assert_eq!((ended.code(), read()["exit_code"]), (Some(127), 127.0));
    assert_eq!(read()["last_success_timestamp_seconds"], success);
    // Nothing but the file is left.
    let left = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(left.filter(|name| name != "locks" && name != "job.prom").count(), 0);
}

#[test]
fn a_lost_lock_and_one_in_doubt_are_in_the_file() {
    let agent = Agent::plain();
    let key = unique_key("a \"key\"");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lost.prom");
    let mut proxy = Proxy::start(&agent.http_addr());
    let mut command = consul_lock_at(&proxy.addr());
    command.args(["run", "-v", "--lock-delay=20s", "--metrics-file"]).arg(&file).args([
        &key,
        "-c",
        "echo started; sleep 1000",
    ]);
    let mut run = Running::start(&mut command);
    run.expect_stdout("started", PATIENCE);
    assert!(!file.exists(), "it is written at the end");
    proxy.set(Fault::Status(500, "No cluster leader".into()));
    run.expect_stderr("not confirmed for", PATIENCE);
    proxy.set(Fault::None);
    run.expect_stderr("confirmed again after", PATIENCE);
    // Held without doubt for a while.
    let confirmations = proxy.requests().len();
    eventually("it is confirmed once more", PATIENCE, || (proxy.requests().len() > confirmations).then_some(()));
    agent.destroy_session(agent.sessions()[0]["ID"].as_str().unwrap());
    assert_eq!(run.wait(PATIENCE).code(), Some(76));
    let lost = samples(&file, &key.replace('"', "\\\""));
    assert_eq!((lost["acquired"], lost["exit_code"], lost["lost"]), (1.0, 76.0, 1.0));
    assert!(lost["unconfirmed_seconds"] > 0.0 && lost["unconfirmed_seconds"] < lost["held_seconds"], "{lost:?}");
    assert!(!lost.contains_key("last_success_timestamp_seconds"), "{lost:?}");
}

#[test]
fn a_file_that_cannot_be_written_is_found_before_the_lock_is_taken_or_told_after() {
    let agent = Agent::plain();
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/job.prom");
    let below_a_file = folder.path().join("file/job.prom");
    fs::write(folder.path().join("file"), "").unwrap();
    // A new file in the place of these would be none that anybody wanted, and a pipe has no end to be read to.
    let (link, pipe) = (folder.path().join("link"), folder.path().join("pipe"));
    std::os::unix::fs::symlink(folder.path().join("file"), &link).unwrap();
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    for (path, why) in [
        (link.as_path(), "it is a symbolic link"),
        (&pipe, "it is no plain file"),
        (Path::new("/dev/null"), "it is no plain file"),
        (&missing, "No such file or directory"),
        (&below_a_file, "Not a directory"),
        (folder.path(), "it is a folder"),
    ] {
        let mut command = consul_lock_on(&agent);
        command.args(["run", "--metrics-file"]).arg(path).args(["k", "--", "echo", "ran"]);
        let ended = Running::start(&mut command).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("--metrics-file") && ended.stderr.contains(why), "{}", ended.stderr);
    }
    assert_eq!(agent.requests(), [""; 0]);

    let vanishing = folder.path().join("vanishing");
    fs::create_dir(&vanishing).unwrap();
    let mut command = consul_lock_on(&agent);
    command
        .args(["run", "--metrics-file"])
        .arg(vanishing.join("job.prom"))
        .args(["k", "--", "rm", "-r"])
        .arg(&vanishing);
    let ended = Running::start(&mut command).wait(PATIENCE);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("consul-lock: the metrics were not written to "), "{}", ended.stderr);
    agent.expect_nothing_left();
}

#[test]
fn on_a_full_disk_the_old_file_stays_and_the_code_is_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("locks")).unwrap();
    fs::set_permissions(folder.path().join("locks"), fs::Permissions::from_mode(0o700)).unwrap();
    let file = folder.path().join("job.prom");
    fs::write(&file, "old\n").unwrap();
    // A file may have 512 bytes, in which the metrics have no place, and the lock's record has.
    let mut shell = Command::new("sh");
    let limited = local(folder.path(), &[], "exit 3");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"])
        .arg(limited.get_program())
        .args(limited.get_args());
    let ended = Running::start(&mut shell).wait(PATIENCE);
    assert_eq!(ended.code(), Some(3), "{}", ended.stderr);
    let told = format!("consul-lock: the metrics were not written to {}: File too large", file.display());
    assert!(ended.stderr.starts_with(&told), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old\n");
    let left = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(left.filter(|name| name != "locks" && name != "job.prom").count(), 0);
}
