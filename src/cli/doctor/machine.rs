//! What a run needs of this machine.

use nix::sys::resource::{Resource, getrlimit};
use serde_json::json;

use super::super::exit::code;
use super::diagnosis::Check;
use crate::{guard, sys};

/// A run under a limit of 12 works and one under 8 does not, measured; and room for what it inherits.
const OPEN_FILES: u64 = 24;

/// Whether the command's descendants can be found and kept, and files opened.
pub(super) fn check(no_guarantee: bool) -> Check {
    let proc = guard::can_see_processes();
    let subreaper = sys::become_subreaper();
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let data = json!({ "proc": proc, "subreaper": subreaper.is_ok(), "open_files": open_files });
    let check = match subreaper {
        Ok(()) if !proc => {
            let detail = "/proc is not mounted here, or not this system's: the command's descendants are not all found";
            let mend = "mount it, or give up the guarantee with --no-guarantee";
            if no_guarantee { Check::warn(detail, mend) } else { Check::fail(code::USAGE, detail, mend) }
        }
        Ok(()) if open_files < OPEN_FILES => {
            let detail = format!("a limit of {open_files} open files, which is too few for a run");
            Check::warn(detail, "raise it (ulimit -n 1024)")
        }
        Ok(()) => Check::ok("the command's descendants can be found and kept"),
        Err(error) => {
            let detail = format!("this process cannot be a subreaper: {error}");
            Check::fail(code::INTERNAL, detail, "let it call prctl(2), for example in the container's seccomp profile")
        }
    };
    check.with_data(data)
}
