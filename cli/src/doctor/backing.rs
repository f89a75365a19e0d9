//! Where the arena is, and what that can cost.

use super::Findings;
use crate::process;
use crate::text::bytes;
use lookback::OutsideArena;
use rustix::fs::StatFs;
use std::path::Path;

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
        let advice = "it is read out of the process's memory instead, which takes CAP_SYS_PTRACE where Yama \
                      restricts that; `lookback run` cannot lose it";
        findings.warning("arena", "the process has closed its arena's descriptor", advice);
    }
    if let Some(path) = arena.path() {
        // As the process sees it: it may have a root of its own.
        let inside = path.strip_prefix("/").unwrap_or(path);
        let seen = Path::new("/proc").join(pid.to_string()).join("root").join(inside);
        return look_at(rustix::fs::statfs(&seen).ok(), path, findings);
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let name = format!("{}=", lookback::RUN_SOCKET);
    let socket = environment
        .split(|byte| *byte == 0)
        .find_map(|pair| pair.strip_prefix(name.as_bytes()))
        .map(|path| String::from_utf8_lossy(path).into_owned());
    match socket {
        Some(socket) if Path::new(&socket).exists() => {
            findings.ok("arena", "in memory, held by `lookback run`: it outlives the process");
        }
        _ => {
            let advice = "to see its last seconds after SIGKILL: `lookback run -- COMMAND`, or `.black_box(path)`";
            findings.warning("arena", "in memory alone: it is gone with the process", advice);
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

/// A black box in this file system.
pub fn look_at(system: Option<StatFs>, path: &Path, findings: &mut Findings) {
    let path = path.display();
    let Some(system) = system else {
        let advice = "without its name nobody finds it when the process is dead: was it deleted?";
        return findings.warning("arena", format!("{path}: nothing is there"), advice);
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
        let what = format!("a black box on a file system of another's ({name}), {path}");
        let advice =
            "a store to it can wait for the network, and be a SIGBUS; put it on a tmpfs: /dev/shm";
        return findings.problem("arena", what, advice);
    }
    let advice = "write-back can hold a thread up in the middle of an event, for milliseconds while other \
                  files are written; on a tmpfs (/dev/shm) that never happens, but a power cut takes it along";
    findings.warning("arena", format!("a black box on a disk, {path}"), advice);
}
