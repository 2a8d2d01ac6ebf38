use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::thread;

use super::*;
use tempfile::TempDir;

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn open_named(path: &Path) -> Result<Dir, Error> {
    Dir::open(&Place::Dir(path.to_owned()), false)
}

/// What `Place::Own` opens, with other bases.
fn open_own(bases: &[&Path]) -> Result<Dir, Error> {
    own(bases, geteuid()).and_then(|(fd, path)| Dir::enter(fd, path, false))
}

fn own_name() -> String {
    format!("consul-lock-{}", geteuid())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_users_directory_must_be_one() {
    let dir = TempDir::new().unwrap();
    let error = open_named(Path::new("")).unwrap_err();
    assert!(error == Error::NoName && !error.is_config());
    let missing = dir.path().join("missing");
    assert_eq!(open_named(&missing).unwrap_err(), Error::Missing(missing));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open_named(&file).unwrap_err();
    assert!(error.is_config());
    assert_eq!(error, Error::NotDirectory(file));
}

#[test]
fn a_relative_name_is_told_whole() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(open_named(Path::new("src")).unwrap().path, here.join("src"));
    assert_eq!(open_named(Path::new("no-such")).unwrap_err(), Error::Missing(here.join("no-such")));
}

#[test]
fn a_network_file_system_is_refused_with_both_ways_out() {
    let error = Error::Network { path: "/home/locks".into(), kind: "nfs" };
    assert!(error.is_config());
    let message = error.to_string();
    assert!(message.starts_with("/home/locks: it is on a network file system (nfs)"), "{message}");
    assert!(message.contains("--local=DIR") && message.ends_with("--no-guarantee"), "{message}");
}

#[test]
fn our_own_directory_is_made_for_us_alone_and_found_again() {
    let base = TempDir::new().unwrap();
    let first = open_own(&[base.path()]).unwrap();
    let path = base.path().join(own_name());
    assert_eq!((&first.path, mode(&path)), (&path, 0o700));
    let inode = fs::metadata(&path).unwrap().ino();
    let second = open_own(&[base.path()]).unwrap();
    assert_eq!(fstat(&second.fd).unwrap().st_ino, inode);
}

#[test]
fn the_second_base_is_for_machines_without_the_first() {
    let (missing, base) = (Path::new("/nowhere/run/lock"), TempDir::new().unwrap());
    assert_eq!(open_own(&[missing, base.path()]).unwrap().path, base.path().join(own_name()));
    let error = open_own(&[missing]).unwrap_err();
    assert!(error.is_config() && error.to_string().contains("--local=DIR"), "{error}");
}

#[test]
fn a_base_that_fails_otherwise_than_by_permission_is_no_reason_to_use_another() {
    let base = TempDir::new().unwrap();
    let looped = base.path().join("link");
    symlink("link", &looped).unwrap();
    let error = open_own(&[&looped, base.path()]).unwrap_err();
    assert!(matches!(error, Error::System { errno: Errno::ELOOP, .. }), "{error}");
}

#[test]
fn somebody_elses_directory_is_refused() {
    let base = TempDir::new().unwrap();
    let somebody = Uid::from_raw(geteuid().as_raw() + 1);
    let error = own(&[base.path()], somebody).unwrap_err();
    let path = base.path().join(format!("consul-lock-{somebody}"));
    assert_eq!(error, Error::Owner { path, owner: geteuid().as_raw(), user: somebody.as_raw() });
    assert!(error.is_config());
}

#[test]
fn a_directory_open_to_others_is_refused() {
    for refused in [0o701, 0o710, 0o750, 0o755, 0o777, 0o1777] {
        let base = TempDir::new().unwrap();
        let path = base.path().join(own_name());
        fs::create_dir(&path).unwrap();
        set(&path, refused);
        let error = open_own(&[base.path()]).unwrap_err();
        assert_eq!(error, Error::Mode { path, mode: refused & 0o777 });
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
}

#[test]
fn a_link_or_a_file_in_our_directorys_place_is_refused() {
    let base = TempDir::new().unwrap();
    let (path, elsewhere) = (base.path().join(own_name()), base.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    set(&elsewhere, 0o700);
    symlink(&elsewhere, &path).unwrap();
    assert_eq!(open_own(&[base.path()]).unwrap_err(), Error::NotDirectory(path.clone()));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert_eq!(open_own(&[base.path()]).unwrap_err(), Error::NotDirectory(path));
}

#[test]
fn files_are_open_to_those_who_may_write_in_the_directory() {
    for (directory, below, file) in [
        (0o700, 0o700, 0o600),
        (0o755, 0o700, 0o600),
        (0o770, 0o770, 0o660),
        (0o2770, 0o2770, 0o660),
        (0o1777, 0o1777, 0o666),
    ] {
        let base = TempDir::new().unwrap();
        set(base.path(), directory);
        let (dir, key) = (open_named(base.path()).unwrap(), key(&"x".repeat(201)));
        assert!(dir.make(&key, Part::KEY).unwrap().is_some());
        let path = dir.path(&key, Part::KEY);
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (below, file), "{directory:o}");
    }
}

/// The umask belongs to the whole process, so the test runs itself once more under one that takes everything away.
#[test]
fn the_umask_does_not_matter() {
    const BASE: &str = "CONSUL_LOCK_TEST_BASE";
    let key = key(&"x".repeat(201));
    if let Some(base) = std::env::var_os(BASE) {
        let dir = open_own(&[Path::new(&base)]).unwrap();
        assert!(dir.make(&key, Part::KEY).unwrap().is_some());
        assert!(dir.make(&key, Part::KEY).unwrap().is_some());
        return;
    }
    let base = TempDir::new().unwrap();
    let status = Command::new("sh")
        .args(["-c", r#"umask 777 && exec "$0" --exact local::dir::tests::the_umask_does_not_matter"#])
        .arg(std::env::current_exe().unwrap())
        .env(BASE, base.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let dir = open_own(&[base.path()]).unwrap();
    let path = dir.path(&key, Part::KEY);
    let modes = [&dir.path, path.parent().unwrap(), &path].map(mode);
    assert_eq!(modes, [0o700, 0o700, 0o600]);
}

#[test]
fn what_a_killed_creator_left_closed_is_opened() {
    let base = TempDir::new().unwrap();
    let key = key(&"x".repeat(201));
    let path = open_own(&[base.path()]).unwrap().path(&key, Part::KEY);
    assert!(open_own(&[base.path()]).unwrap().make(&key, Part::KEY).unwrap().is_some());
    set(&path, 0);
    set(path.parent().unwrap(), 0);
    set(&base.path().join(own_name()), 0);
    assert!(open_own(&[base.path()]).unwrap().make(&key, Part::KEY).unwrap().is_some());
}

#[test]
fn systemd_tmpfiles_finds_the_directory_locked_while_it_is_open() {
    let base = TempDir::new().unwrap();
    let cleaner = File::open(&base).unwrap();
    let clean = || flock(cleaner.as_fd(), FlockArg::LockExclusiveNonblock);
    let (one, other) = (open_named(base.path()).unwrap(), open_named(base.path()).unwrap());
    assert_eq!(clean(), Err(Errno::EWOULDBLOCK));
    drop(one);
    assert_eq!(clean(), Err(Errno::EWOULDBLOCK));
    drop(other);
    // Blocking: a process that another test is just starting has a copy of every descriptor until it executes.
    assert_eq!(flock(cleaner.as_fd(), FlockArg::LockExclusive), Ok(()));
}

#[test]
fn a_directory_that_is_being_cleaned_is_waited_for() {
    let base = TempDir::new().unwrap();
    let cleaner = File::open(&base).unwrap();
    flock(cleaner.as_fd(), FlockArg::LockExclusive).unwrap();
    let path = base.path().to_owned();
    let opener = thread::spawn(move || open_named(&path).map(|_| ()));
    assert!(!opener.is_finished());
    flock(cleaner.as_fd(), FlockArg::Unlock).unwrap();
    assert_eq!(opener.join().unwrap(), Ok(()));
}
