//! Which file systems reach over a network. flock(2) on them may be a lock of this machine alone, or may be lost with
//! the connection while we go on; fuse counts, because what is behind it cannot be told.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::statfs::fstatfs;

/// The magic numbers of statfs(2), as in the kernel's `include/uapi/linux/magic.h` or, for those outside it, in the
/// file systems' own sources.
#[cfg(target_os = "linux")]
const KINDS: [(u32, &str); 18] = [
    (0x0000_6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0000_517b, "smb"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x0000_564c, "ncp"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x2003_0528, "orangefs"),
    (0x1983_0326, "beegfs"),
    (0x786f_4256, "vboxsf"),
];

/// The usual name of the network file system that `fd` is on; `None` on a local one.
#[cfg(target_os = "linux")]
pub(super) fn kind(fd: &OwnedFd) -> Result<Option<&'static str>, Errno> {
    // The type is 32 bits wide, and some architectures extend its sign.
    Ok(kind_of(fstatfs(fd)?.filesystem_type().0 as u32))
}

#[cfg(target_os = "linux")]
fn kind_of(magic: u32) -> Option<&'static str> {
    KINDS.iter().find(|(known, _)| *known == magic).map(|(_, kind)| *kind)
}

/// The usual name of the network file system that `fd` is on; `None` on a local one.
#[cfg(not(target_os = "linux"))]
pub(super) fn kind(fd: &OwnedFd) -> Result<Option<&'static str>, Errno> {
    const KINDS: [&str; 7] = ["nfs", "smbfs", "afpfs", "webdav", "macfuse", "osxfuse", "fusefs"];
    let status = fstatfs(fd)?;
    Ok(KINDS.into_iter().find(|kind| *kind == status.filesystem_type_name()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, TMPFS_MAGIC};

    #[test]
    fn the_kernels_own_numbers_are_known() {
        assert_eq!(kind_of(NFS_SUPER_MAGIC.0 as u32), Some("nfs"));
        assert_eq!(kind_of(SMB_SUPER_MAGIC.0 as u32), Some("smb"));
        assert_eq!(kind_of(FUSE_SUPER_MAGIC.0 as u32), Some("fuse"));
        assert_eq!(kind_of(TMPFS_MAGIC.0 as u32), None);
        assert_eq!(kind_of(EXT4_SUPER_MAGIC.0 as u32), None);
    }

    #[test]
    fn proc_is_local() {
        let proc = OwnedFd::from(std::fs::File::open("/proc").unwrap());
        assert_eq!(kind(&proc), Ok(None));
    }
}
