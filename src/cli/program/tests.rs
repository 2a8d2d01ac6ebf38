use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use tempfile::TempDir;

fn write(directory: &TempDir, name: impl AsRef<OsStr>, text: &str, mode: u32) -> PathBuf {
    let path = directory.path().join(name.as_ref());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn search_path(directory: &TempDir, elements: &[&str]) -> OsString {
    let elements: Vec<_> = elements.iter().map(|element| directory.path().join(element)).collect();
    std::env::join_paths(elements).unwrap()
}

fn refusal(program: impl AsRef<OsStr>, path: Option<&OsStr>) -> (u8, String) {
    let error = find(program.as_ref(), path).expect_err("it should not be runnable");
    (error.exit_code(), error.to_string())
}

#[test]
fn an_empty_name_is_not_found() {
    assert_eq!(refusal("", None), (127, "the command's name is empty: check for an unset variable".to_owned()));
}

#[test]
fn a_name_with_a_slash_is_taken_as_it_is() {
    let dir = TempDir::new().unwrap();
    let tool = write(&dir, "tool", "", 0o755);
    assert_eq!(find(tool.as_os_str(), Some(OsStr::new(""))).unwrap(), tool);
    let (code, message) = refusal(dir.path().join("missing"), None);
    assert!(code == 127 && message.contains("missing: no such command:"), "{message}");
    let (code, message) = refusal(tool.join("below"), None);
    assert!(code == 127 && message.contains("no such command:"), "{message}");
}

#[test]
fn the_first_element_of_path_that_has_it_wins() {
    let dir = TempDir::new().unwrap();
    write(&dir, "b/tool", "", 0o755);
    write(&dir, "c/tool", "", 0o755);
    let path = search_path(&dir, &["a", "b", "c"]);
    assert_eq!(find(OsStr::new("tool"), Some(&path)).unwrap(), dir.path().join("b/tool"));
    let (code, message) = refusal("other", Some(&path));
    assert!(code == 127 && message.contains("other: no such command along PATH"), "{message}");
}

#[test]
fn without_path_the_system_directories_are_searched() {
    let found = find(OsStr::new("sh"), None).unwrap();
    assert!(found == Path::new("/bin/sh") || found == Path::new("/usr/bin/sh"), "{found:?}");
    assert_eq!(refusal("no-such-command", None).0, 127);
}

#[test]
fn an_empty_element_is_the_working_directory() {
    // Tests run in the package's own directory, where Cargo.toml is a file that nobody may execute.
    for path in ["", ":", "/nowhere:", ":/nowhere", "/nowhere::/nowhere"] {
        let (code, message) = refusal("Cargo.toml", Some(OsStr::new(path)));
        assert!(code == 126 && message.starts_with("./Cargo.toml cannot be executed"), "{path}: {message}");
    }
    assert_eq!(refusal("Cargo.toml", Some(OsStr::new("/nowhere"))).0, 127);
}

#[test]
fn what_may_not_be_executed_is_passed_over_and_remembered() {
    let dir = TempDir::new().unwrap();
    write(&dir, "a/tool", "", 0o644);
    fs::create_dir_all(dir.path().join("b/tool")).unwrap();
    write(&dir, "c/tool", "", 0o755);
    let path = search_path(&dir, &["a", "b", "c"]);
    assert_eq!(find(OsStr::new("tool"), Some(&path)).unwrap(), dir.path().join("c/tool"));
    let (code, message) = refusal("tool", Some(&search_path(&dir, &["a", "b", "d"])));
    assert!(code == 126 && message.contains("a/tool cannot be executed: this user may not"), "{message}");
}

#[test]
fn directories_and_pipes_are_found_and_not_executable() {
    let dir = TempDir::new().unwrap();
    let (code, message) = refusal(dir.path(), None);
    assert!(code == 126 && message.ends_with("it is a directory"), "{message}");
    let (code, message) = refusal("/dev/null", None);
    assert!(code == 126 && message.ends_with("it is no regular file"), "{message}");
}

#[test]
fn a_missing_interpreter_is_named() {
    let dir = TempDir::new().unwrap();
    let script = write(&dir, "a/tool", "#! \t/nowhere/python3 -u\nprint()\n", 0o755);
    let (code, message) = refusal(&script, None);
    assert!(code == 127 && message.contains("its interpreter \"/nowhere/python3\" does not exist"), "{message}");
    // To execvp that is ENOENT like any other, and the search goes on.
    write(&dir, "b/tool", "", 0o755);
    let path = search_path(&dir, &["a", "b"]);
    assert_eq!(find(OsStr::new("tool"), Some(&path)).unwrap(), dir.path().join("b/tool"));
    let (code, message) = refusal("tool", Some(&search_path(&dir, &["a", "c"])));
    assert!(code == 127 && message.contains("/nowhere/python3"), "{message}");
}

#[test]
fn windows_line_ends_are_recognised() {
    let dir = TempDir::new().unwrap();
    let script = write(&dir, "tool", "#!/bin/sh\r\necho\r\n", 0o755);
    let (code, message) = refusal(script, None);
    assert!(code == 127 && message.contains("\"/bin/sh\\r\"") && message.contains("Windows"), "{message}");
}

#[test]
fn an_interpreter_must_be_executable_itself() {
    let dir = TempDir::new().unwrap();
    let interpreter = write(&dir, "interpreter", "", 0o644);
    let script = write(&dir, "tool", &format!("#!{}\n", interpreter.display()), 0o755);
    let (code, message) = refusal(&script, None);
    assert!(code == 126 && message.contains("/interpreter cannot be executed"), "{message}");
    let script = write(&dir, "endless", &format!("#!{}\n", dir.path().join("endless").display()), 0o755);
    let (code, message) = refusal(script, None);
    assert!(code == 127 && message.contains("symbolic links"), "{message}");
}

#[test]
fn a_file_of_no_known_format_is_left_to_the_shell() {
    let dir = TempDir::new().unwrap();
    let long = format!("#!/{}", "x".repeat(300));
    for text in ["", "echo hello\n", "#!\n", "#! \t \necho\n", "#", &long] {
        let script = write(&dir, "tool", text, 0o755);
        assert_eq!(find(script.as_os_str(), None).unwrap(), script, "{text:?}");
    }
}

#[test]
fn an_interpreter_needs_no_line_end() {
    let dir = TempDir::new().unwrap();
    for (text, name) in [("#!/bin/sh", "/bin/sh"), ("#!/bin/sh\0x", "/bin/sh"), ("#!sh -e", "sh")] {
        let script = write(&dir, "tool", text, 0o755);
        assert_eq!(interpreter(&script), Some(PathBuf::from(name)), "{text:?}");
    }
}

/// What env(1) exits with, which is a plain execvp(3): 127 for ENOENT, 126 for any other refusal. A process that
/// another test is just starting may have a copy of the descriptor that wrote a script; then it is asked again.
fn exit_code_of_env(program: &OsStr, path: &OsStr) -> i32 {
    let mut variable = OsString::from("PATH=");
    variable.push(path);
    loop {
        let mut env = Command::new("/usr/bin/env");
        let output = env.env("LC_ALL", "C").arg("-i").arg(&variable).arg(program).output().unwrap();
        if !String::from_utf8_lossy(&output.stderr).contains("Text file busy") {
            return output.status.code().unwrap();
        }
    }
}

#[test]
fn execvp_itself_agrees() {
    let dir = TempDir::new().unwrap();
    write(&dir, "plain/tool", "", 0o644);
    fs::create_dir_all(dir.path().join("folder/tool")).unwrap();
    write(&dir, "orphan/tool", "#!/nowhere/python3\n", 0o755);
    write(&dir, "windows/tool", "#!/bin/sh\r\n", 0o755);
    write(&dir, "shell/tool", "exit 0\n", 0o755);
    write(&dir, "blank/tool", "#! \nexit 0\n", 0o755);
    write(&dir, "long/tool", &format!("#!/{}\nexit 0\n", "x".repeat(300)), 0o755);
    write(&dir, "text", "", 0o755);
    write(&dir, "indirect/tool", &format!("#!{}\n", dir.path().join("plain/tool").display()), 0o755);
    for depth in 0..=7 {
        let interpreter = if depth == 0 { "/bin/sh".into() } else { dir.path().join(format!("{}/tool", depth - 1)) };
        write(&dir, format!("{depth}/tool"), &format!("#!{}\n", interpreter.display()), 0o755);
    }
    let elements = ["none", "plain", "folder", "orphan", "windows", "shell", "blank", "long", "indirect", "0", "4"];
    let mut paths: Vec<_> = elements.iter().map(|&element| vec![element]).collect();
    // A file in PATH comes first only: at its end, ENOTDIR is what execvp ends with, and env has 126 for that.
    for first in elements.iter().chain(&["text"]) {
        paths.extend(["none", "plain", "orphan", "shell"].map(|second| vec![*first, second]));
    }
    for path in paths.iter().map(|elements| search_path(&dir, elements)) {
        let ours = find(OsStr::new("tool"), Some(&path)).map_or_else(|error| i32::from(error.exit_code()), |_| 0);
        assert_eq!(ours, exit_code_of_env(OsStr::new("tool"), &path), "{path:?}");
    }
    for depth in 0..=7 {
        let program = dir.path().join(format!("{depth}/tool"));
        let taken = exit_code_of_env(program.as_os_str(), OsStr::new("")) == 0;
        assert_eq!(find(program.as_os_str(), None).is_ok(), taken, "{depth}");
    }
}

#[test]
fn a_name_need_not_be_text() {
    let dir = TempDir::new().unwrap();
    let name = OsStr::from_bytes(b"t\xff\xfe");
    let tool = write(&dir, name, "", 0o755);
    assert_eq!(find(name, Some(dir.path().as_os_str())).unwrap(), tool);
    assert_eq!(refusal(OsStr::from_bytes(b"\xff"), Some(dir.path().as_os_str())).0, 127);
}

#[test]
fn links_are_followed_and_a_loop_is_not_found() {
    let dir = TempDir::new().unwrap();
    write(&dir, "tool", "", 0o755);
    symlink("tool", dir.path().join("link")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    let path = Some(dir.path().as_os_str());
    assert_eq!(find(OsStr::new("link"), path).unwrap(), dir.path().join("link"));
    assert_eq!(refusal("loop", path).0, 127);
    assert_eq!(refusal("x".repeat(300), path).0, 127);
}

#[test]
fn setuid_and_setgid_are_seen_where_they_give_something() {
    let dir = TempDir::new().unwrap();
    let gain_of = |mode, ours: bool| {
        let path = write(&dir, "tool", "", mode);
        let (binary, status) = examine(&path, 0).unwrap();
        let off = u32::from(!ours);
        gain(&binary, &status, Uid::from_raw(status.st_uid + off), Gid::from_raw(status.st_gid + off))
    };
    assert_eq!(gain_of(0o755, false), None);
    assert_eq!(gain_of(0o4755, false), Some(Gain::SetUid));
    assert_eq!(gain_of(0o2755, false), Some(Gain::SetGid));
    assert_eq!(gain_of(0o2745, false), None);
    assert_eq!(gain_of(0o6755, true), None);
}

#[test]
fn a_script_has_the_privileges_of_its_interpreter() {
    let dir = TempDir::new().unwrap();
    let interpreter = write(&dir, "interpreter", "", 0o4755);
    let script = write(&dir, "tool", &format!("#!{}\n", interpreter.display()), 0o755);
    let (binary, status) = examine(&script, 0).unwrap();
    assert_eq!(binary, interpreter);
    let somebody = Uid::from_raw(status.st_uid + 1);
    assert_eq!(gain(&binary, &status, somebody, Gid::from_raw(status.st_gid)), Some(Gain::SetUid));
}

#[test]
fn an_ordinary_command_is_not_refused() {
    let found = find(OsStr::new("sh"), None).unwrap();
    assert!(refuse_privileged(&found).is_ok());
}

#[test]
fn the_refusal_says_how_to_go_on() {
    let error = NotRunnable::Privileged { path: "/usr/bin/sudo".into(), gain: Gain::SetUid };
    let message = error.to_string();
    assert_eq!(error.exit_code(), 64);
    assert!(message.starts_with("/usr/bin/sudo is setuid, "), "{message}");
    assert!(message.contains("`sudo consul-lock run ...`") && message.contains("--no-guarantee"), "{message}");
}
