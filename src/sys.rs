//! The system calls that no safe wrapper offers. This is the only file with `unsafe`.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether the file at `path`, followed through symbolic links, has the extended attribute `name` (getxattr(2)). A file
/// that cannot be asked, or a file system without such attributes, has none.
#[cfg(target_os = "linux")]
pub(crate) fn has_attribute(path: &Path, name: &CStr) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both strings end in a NUL and outlive the call; a size of 0 asks for the length, and nothing is written.
    let length = unsafe { nix::libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    length >= 0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_seen_through_a_link() {
        // Beside the test itself rather than in /tmp: a tmpfs has such attributes since Linux 6.6 only.
        let directory = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(directory.parent().unwrap()).unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let path = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
        let name = c"user.consul-lock-test";
        // SAFETY: both strings end in a NUL and outlive the call; the value is one byte long.
        let set = unsafe { nix::libc::setxattr(path.as_ptr(), name.as_ptr(), [1_u8].as_ptr().cast(), 1, 0) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        assert!(has_attribute(&file, name) && has_attribute(&link, name));
        assert!(!has_attribute(&link, c"user.consul-lock-other"));
    }

    #[test]
    fn a_plain_file_and_no_file_have_no_attribute() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!has_attribute(file.path(), c"user.consul-lock-test"));
        assert!(!has_attribute(Path::new("/nowhere/at/all"), c"user.consul-lock-test"));
    }
}
