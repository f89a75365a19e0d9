//! Checks where the arena is, and what that can cost.

use super::Findings;
use crate::format::bytes;
use crate::process;
use lookback::OutsideArena;
use rustix::fs::{Mode, OFlags, StatFs};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const HUGETLBFS: u64 = 0x9584_58f6;
const REMOTE: [(u64, &str); 5] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
];

pub fn look(pid: u32, arena: &OutsideArena, findings: &mut Findings) {
    if arena.is_in_memory() {
        let advice = "its memory is read instead, which takes CAP_SYS_PTRACE where Yama restricts that; \
                      `lookback run` keeps a descriptor of its own";
        findings.warning("arena", "the process has closed its arena's descriptor", advice);
    }
    if let Some(path) = arena.path() {
        return look_at(rustix::fs::statfs(as_seen_by(pid, path)).ok(), path, findings);
    }
    let holder = process::variable(pid, lookback::command::RUN_SOCKET);
    match holder.map(|socket| Holder::at(&as_seen_by(pid, Path::new(&socket)))) {
        Some(Holder::Listens) => {
            findings.ok("arena", "in memory, held by `lookback run`: it outlives the process");
        }
        Some(Holder::Gone) => {
            let what = "in memory only: the `lookback run` that held it is gone, so its last seconds are lost with the process";
            let advice = "`lookback snapshot PID` saves what is there now; start the service anew under `lookback run`";
            findings.warning("arena", what, advice);
        }
        Some(Holder::Unknown(error)) => {
            let what = format!(
                "in memory; whether the `lookback run` that started it still holds it is not known: {error}"
            );
            findings.unknown("arena", what);
        }
        None => {
            let advice = "to see its last seconds after SIGKILL: `lookback run -- COMMAND`, or `.black_box(path)`";
            findings.warning("arena", "in memory only: it is lost with the process", advice);
        }
    }
    if process::status_line(pid, "Uid:").is_none() {
        findings.warning(
            "process",
            "it has ended meanwhile",
            "its last snapshot may be in its snapshot_dir",
        );
    }
}

/// A path as the process sees it: it may have another root.
fn as_seen_by(pid: u32, path: &Path) -> PathBuf {
    let inside = path.strip_prefix("/").unwrap_or(path);
    Path::new("/proc").join(pid.to_string()).join("root").join(inside)
}

/// The `lookback run` that holds a process's arena.
#[derive(Debug)]
enum Holder {
    Listens,
    Gone,
    Unknown(Errno),
}

impl Holder {
    /// By its socket: the file stays after a holder that was killed, but the kernel refuses a connection then. Never
    /// waits for the other side.
    fn at(socket: &Path) -> Self {
        match connect(socket) {
            // Its queue is full.
            Ok(()) | Err(Errno::AGAIN) => Self::Listens,
            Err(Errno::CONNREFUSED | Errno::NOENT | Errno::NOTDIR | Errno::NOTSOCK) => Self::Gone,
            Err(error) => Self::Unknown(error),
        }
    }
}

fn connect(socket: &Path) -> rustix::io::Result<()> {
    // Through its directory's descriptor: the path itself may be too long for a socket.
    let (directory, name) = match (socket.parent(), socket.file_name()) {
        (Some(directory), Some(name)) => (directory, name),
        _ => return Err(Errno::NOENT),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let near = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let ours = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&ours, &SocketAddrUnix::new(&near)?)
}

/// Checks the file system of a black box.
pub fn look_at(system: Option<StatFs>, path: &Path, findings: &mut Findings) {
    let path = path.display();
    let Some(system) = system else {
        let advice = "a deleted black box cannot be found once the process is dead; do not remove it while the process runs";
        return findings.warning("arena", format!("{path}: no such file"), advice);
    };
    #[allow(clippy::unnecessary_cast, reason = "its type is not the same everywhere")]
    let kind = system.f_type as u64 & 0xffff_ffff;
    if [TMPFS, RAMFS, HUGETLBFS].contains(&kind) {
        let free = system.f_bavail.saturating_mul(system.f_bsize as u64);
        let what = format!(
            "a black box in memory, {path}: it outlives the process; {} free there",
            bytes(free)
        );
        return findings.ok("arena", what);
    }
    if let Some((_, name)) = REMOTE.iter().find(|(known, _)| *known == kind) {
        let what = format!("a black box on a network or user-space file system ({name}), {path}");
        let advice = "a store to it can wait for the network, or raise SIGBUS; put it on a tmpfs such as /dev/shm";
        return findings.problem("arena", what, advice);
    }
    let advice = "write-back can stop a thread in the middle of an event, for milliseconds while other files are \
                  written; on a tmpfs (/dev/shm) that never happens, but a power cut loses it";
    findings.warning("arena", format!("a black box on a disk, {path}"), advice);
}
