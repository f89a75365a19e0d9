//! Handing the arena to who holds it: `lookback run` starts a service and keeps the arena's descriptor,
//! so that the last seconds are there when the service is not.
//!
//! It listens on a socket whose path it puts into the environment. What is sent there lies in the
//! socket's queue whatever becomes of the sender, so nothing is waited for.
//!
//! The environment outlives the one that has set it: where its socket was, another user may have put one.
//! So who listens there must be of this process's user.

use crate::arena::Arena;

/// The environment's name for the path of the socket.
pub const SOCKET: &str = "LOOKBACK_RUN_SOCKET";

/// Hands the arena over, if somebody asked for it. Whether it was.
#[cfg(target_os = "linux")]
pub(crate) fn hand_over(arena: &Arena) -> bool {
    use std::os::fd::AsRawFd;
    let Some(path) = std::env::var_os(SOCKET) else { return false };
    // Who asked may be gone: then nobody needs it.
    let Some(stream) = connect(&path) else { return false };
    if !is_of_our_user(&stream) {
        return false;
    }
    let mut byte = [0_u8];
    let mut data = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // Aligned as a control message's header.
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

/// Connects without waiting: a holder that is stopped, and has many waiting for it, must not keep a
/// service from starting.
#[cfg(target_os = "linux")]
fn connect(path: &std::ffi::OsStr) -> Option<std::os::unix::net::UnixStream> {
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::ffi::OsStrExt;
    // SAFETY: zeroes are an address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // A zero stands behind it.
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
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let stream = unsafe { std::os::unix::net::UnixStream::from_raw_fd(socket) };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: an address of this length.
    let connected =
        unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), length) };
    (connected == 0).then_some(stream)
}

/// Whether who listens there is, as the kernel says.
#[cfg(target_os = "linux")]
fn is_of_our_user(stream: &std::os::unix::net::UnixStream) -> bool {
    // SAFETY: no preconditions.
    peer_of(stream).is_some_and(|peer| peer.uid == unsafe { libc::geteuid() })
}

/// The number of the process at the other end of a socket; nothing if it has none here, because it is in a
/// namespace of process numbers that cannot be seen from this one.
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
    // SAFETY: as much as `length` says is written to what is plain data.
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
