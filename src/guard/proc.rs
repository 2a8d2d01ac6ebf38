//! What /proc says about processes (proc_pid_stat(5), proc_pid_task(5)). Everything in it may be gone by the next line, so
//! every answer is an `Option` or a list that may be empty.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process;

use consul_lock::clock::Moment;
use nix::unistd::{SysconfVar, sysconf};

/// The facts of /proc/PID/stat that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its parent.
    pub(super) parent: i32,
    /// Start time in clock ticks: with the pid it names one process and no later one.
    pub(super) born: u64,
    /// A zombie without a living thread. (State Z alone may be a leader whose other threads go on.)
    pub(super) is_dead: bool,
}

/// Reads /proc/PID/stat.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    // One read gets the whole line: open, read, close, a thousand times over in a large tree.
    let mut line = [0; 1024];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    parse_stat(&line[..length])
}

fn parse_stat(line: &[u8]) -> Option<Stat> {
    // The second field is the program's name in parentheses, and may contain anything, parentheses included.
    let name_end = line.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(&line[name_end + 1..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let threads: u32 = fields.nth(15)?.parse().ok()?;
    let born = fields.nth(1)?.parse().ok()?;
    Some(Stat { parent, born, is_dead: (state == "Z" || state == "X") && threads <= 1 })
}

/// A moment in the unit of [`Stat::born`].
pub(super) fn ticks(moment: Moment) -> u64 {
    // 100 on every Linux of today (sysconf(3), _SC_CLK_TCK).
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u128::try_from(ticks).ok());
    let ticks = moment.since_boot().as_nanos() * per_second.unwrap_or(100) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The program's name, as `ps -o comm` shows it.
pub(super) fn name(pid: i32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(name.trim_ascii_end()).into_owned()
}

/// Whose the process is.
pub(super) fn user(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok());
    uid.map_or_else(|| "?".to_owned(), consul_lock::user::name)
}

/// Whether /proc is there and shows the processes under the pids by which we know them; not so in a pid namespace that
/// still has the outer one's /proc.
pub(crate) fn is_ours() -> bool {
    fs::read_link("/proc/self").is_ok_and(|target| target.as_os_str() == process::id().to_string().as_str())
}

/// Who is whose child.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Children {
    /// Asked from the kernel for each process, in /proc/PID/task/TID/children.
    Files,
    /// Found by a scan of all processes' parent ids, for kernels without those files (CONFIG_PROC_CHILDREN).
    Listed(HashMap<i32, Vec<i32>>),
}

impl Children {
    /// A fresh view by the best way there is; none if /proc is missing or shows other processes than ours.
    pub(super) fn look() -> Option<Self> {
        if !is_ours() {
            None
        } else if fs::exists("/proc/thread-self/children").unwrap_or(false) {
            Some(Self::Files)
        } else {
            Some(Self::scan())
        }
    }

    /// A view in which `parent` has this child and nobody else has any.
    pub(super) fn only(parent: i32, child: Option<i32>) -> Self {
        Self::Listed(HashMap::from([(parent, child.into_iter().collect())]))
    }

    /// A view by parent ids.
    pub(super) fn scan() -> Self {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for pid in numbered("/proc") {
            if let Some(stat) = stat(pid) {
                children.entry(stat.parent).or_default().push(pid);
            }
        }
        Self::Listed(children)
    }

    /// The children of a process, of all its threads.
    pub(super) fn of(&self, pid: i32) -> Vec<i32> {
        match self {
            Self::Files if has_one_thread(pid) => children_of_thread(pid, pid),
            Self::Files => {
                numbered(&format!("/proc/{pid}/task")).flat_map(|thread| children_of_thread(pid, thread)).collect()
            }
            Self::Listed(children) => children.get(&pid).cloned().unwrap_or_default(),
        }
    }
}

/// The directory of the threads has a link for each, beside the two that every directory has.
fn has_one_thread(pid: i32) -> bool {
    fs::metadata(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.nlink() == 3)
}

fn children_of_thread(pid: i32, thread: i32) -> Vec<i32> {
    let mut list: Vec<u8> = Vec::new();
    let Ok(mut file) = File::open(format!("/proc/{pid}/task/{thread}/children")) else { return Vec::new() };
    let mut part = [0; 4096];
    // A process that dies meanwhile ends the list early.
    while let Ok(length @ 1..) = file.read(&mut part) {
        list.extend_from_slice(&part[..length]);
    }
    list.split(|&byte| byte == b' ').filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok()).collect()
}

/// The entries of a directory whose names are numbers.
fn numbered(directory: &str) -> impl Iterator<Item = i32> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_program_is_called() {
        let line =
            b"41 (a) Z 9 (b)) S 7 41 5 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 9876 1000 200 18446744073709551615\n";
        assert_eq!(parse_stat(line), Some(Stat { parent: 7, born: 9876, is_dead: false }));
        for broken in [&b""[..], b"41 (sh", b"41 (sh) S", b"41 (sh) S x", b"41 (sh) S 7 41 5 0 -1"] {
            assert_eq!(parse_stat(broken), None);
        }
    }

    #[test]
    fn a_zombie_is_dead_only_without_a_living_thread() {
        let line = |threads| format!("41 (sh) Z 7 41 5 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 {threads} 0 9876 1000");
        assert!(parse_stat(line(1).as_bytes()).is_some_and(|stat| stat.is_dead));
        assert!(parse_stat(line(2).as_bytes()).is_some_and(|stat| !stat.is_dead));
    }

    #[test]
    fn both_ways_of_looking_see_the_same_children() {
        let before = ticks(Moment::now());
        let mut shell =
            Command::new("sh").args(["-c", "sleep 60 & read line"]).stdin(Stdio::piped()).spawn().expect("a shell");
        let pid = shell.id().cast_signed();
        let found = loop {
            let found = Children::Files.of(pid);
            if !found.is_empty() {
                break found;
            }
        };
        assert_eq!(Children::scan().of(pid), found);
        let child = stat(found[0]).expect("a child");
        assert_eq!((child.parent, child.is_dead), (pid, false));
        assert!((before..=ticks(Moment::now())).contains(&child.born), "{} {before}", child.born);
        assert!(Children::Files.of(std::process::id().cast_signed()).contains(&pid));
        assert!(is_ours());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(found[0]), nix::sys::signal::Signal::SIGKILL)
            .expect("a kill");
        shell.kill().expect("a kill");
        shell.wait().expect("an end");
        assert_eq!(stat(pid), None);
        assert!(Children::Files.of(pid).is_empty());
    }
}
