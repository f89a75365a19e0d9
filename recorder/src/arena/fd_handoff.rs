//! Handing the arena to its holder: `lookback run` starts a service and keeps the arena's descriptor, so that
//! the last seconds survive the service.
//!
//! The holder listens on a socket whose path it puts into the environment. A message stays in the socket's
//! queue whatever becomes of its sender, so neither side waits.
//!
//! The environment outlives the holder that set it: another user may have put a socket at the same path
//! since. So the listener must belong to this process's user.

use crate::arena::Arena;
#[cfg(target_os = "linux")]
use crate::os::rights;

/// The environment variable that holds the socket's path.
pub const SOCKET: &str = "LOOKBACK_RUN_SOCKET";

/// Hands the arena over, if the environment names a holder. Returns whether it did.
#[cfg(target_os = "linux")]
pub(crate) fn hand_over(arena: &Arena) -> bool {
    use std::os::fd::AsRawFd;
    let Some(path) = std::env::var_os(SOCKET) else { return false };
    // With other groups or capabilities than its user's, the program may record what the user must not read.
    if rights::are_raised() {
        return false;
    }
    // The holder may be gone: then nobody needs the arena.
    let Some(stream) = connect(&path) else { return false };
    if !is_of_our_user(&stream) {
        return false;
    }
    let mut byte = [0_u8];
    let mut data = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // Aligned like a control message's header.
    let mut room = [0_u64; 8];
    // SAFETY: all of it is plain data; the control message fits the room, which is aligned.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut data;
        message.msg_iovlen = 1;
        message.msg_control = room.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let control = libc::CMSG_FIRSTHDR(&message);
        (*control).cmsg_level = libc::SOL_SOCKET;
        (*control).cmsg_type = libc::SCM_RIGHTS;
        (*control).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(control).cast::<libc::c_int>().write_unaligned(arena.descriptor());
        libc::sendmsg(stream.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    sent == 1
}

/// Connects without waiting: a stopped holder with a full queue must not keep a service from starting.
#[cfg(target_os = "linux")]
fn connect(path: &std::ffi::OsStr) -> Option<std::os::unix::net::UnixStream> {
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::ffi::OsStrExt;
    // SAFETY: zeroes are a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // The path ends with a zero.
    let room = address.sun_path.len() - 1;
    let path = Some(path.as_bytes()).filter(|path| path.len() <= room)?;
    for (place, byte) in address.sun_path.iter_mut().zip(path) {
        *place = *byte as libc::c_char;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no preconditions.
    let socket = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if socket < 0 {
        return None;
    }
    // SAFETY: the descriptor was just made, and nothing else owns it.
    let stream = unsafe { std::os::unix::net::UnixStream::from_raw_fd(socket) };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: an address of this length.
    let connected =
        unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), length) };
    (connected == 0).then_some(stream)
}

/// Whether the kernel says that the listener runs as this process's user.
#[cfg(target_os = "linux")]
fn is_of_our_user(stream: &std::os::unix::net::UnixStream) -> bool {
    // SAFETY: no preconditions.
    peer_of(stream).is_some_and(|peer| peer.uid == unsafe { libc::geteuid() })
}

/// The ID of the process at the other end of a socket; `None` if it has none here, because it is in a PID
/// namespace that this one cannot see.
#[cfg(target_os = "linux")]
#[must_use]
pub fn peer_process(stream: &std::os::unix::net::UnixStream) -> Option<u32> {
    peer_of(stream).and_then(|peer| u32::try_from(peer.pid).ok()).filter(|pid| *pid > 0)
}

#[cfg(target_os = "linux")]
fn peer_of(stream: &std::os::unix::net::UnixStream) -> Option<libc::ucred> {
    use std::os::fd::AsRawFd;
    let mut peer = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, to plain data.
    let asked = unsafe {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        libc::getsockopt(stream.as_raw_fd(), level, name, (&raw mut peer).cast(), &mut length)
    };
    (asked == 0).then_some(peer)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn hand_over(_arena: &Arena) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::arena::Identity;
    use lookback_snapshot::wire::ClockKind;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::process::Command;

    #[test]
    fn a_program_with_more_rights_than_its_user_hands_nothing_over() {
        const CHILD: &str = "LOOKBACK_TEST_HANDS_OVER";
        const HANDED: i32 = 7;
        const KEPT: i32 = 8;
        let name = "arena::fd_handoff::tests::\
            a_program_with_more_rights_than_its_user_hands_nothing_over";
        if std::env::var_os(CHILD).is_some() {
            let identity = Identity {
                process_start: 0,
                boot_id: [0; 16],
                pid_namespace: 0,
                clock: ClockKind::Tsc,
                window: 10,
                metadata: b"",
            };
            let handed = hand_over(&Arena::new(1 << 20, &identity).unwrap());
            std::process::exit(match (rights::are_raised(), handed) {
                (false, true) => HANDED,
                (true, false) => KEPT,
                _ => 1,
            });
        }
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let program = place.path().join("program");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let socket = place.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let code = |mode| {
            std::fs::set_permissions(&program, PermissionsExt::from_mode(mode)).unwrap();
            let mut program = Command::new(&program);
            program.args([name, "--exact"]).env(CHILD, "1").env(SOCKET, &socket);
            loop {
                match program.status() {
                    // Another test has forked while the file was written, and its child has it open until it executes.
                    Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                    done => return done.unwrap().code(),
                }
            }
        };
        assert_eq!(code(0o755), Some(HANDED));
        // SAFETY: no preconditions.
        let group = unsafe { libc::getegid() };
        if chown(&program, None, Some(group + 1)).is_err() {
            println!("::only root can give a file to another group");
            return;
        }
        match code(0o2755) {
            Some(KEPT) => {}
            // On a file system without such programs.
            Some(HANDED) => println!("::set-group-id means nothing here"),
            other => panic!("{other:?}"),
        }
    }
}
