//! The socket at which processes hand over their arenas, in a directory that only this user may enter. See
//! the recorder's `fd_handoff` for the other side.
//!
//! A peer is not trusted: this command never waits for one, keeps only regular files, and asks the kernel for
//! the peer's identity.

use super::watched_processes::Held;
use anyhow::anyhow;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs::{self, DirBuilder, File};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many silent connections to keep; the oldest are closed first.
const MOST_SILENT: usize = 64;
/// The prefix of our directories' names.
const NAME: &str = "lookback-run-";
/// A directory older than this, whose process was killed, is deleted.
const LEFT: Duration = Duration::from_secs(60);
/// How many names to try in a directory.
const ATTEMPTS: u32 = 64;

/// See the module.
pub struct Handover {
    listener: UnixListener,
    directory: PathBuf,
    path: PathBuf,
    silent: Vec<UnixStream>,
    /// No descriptor was available, so it pauses for a while.
    rests: bool,
}

impl Handover {
    /// Creates the socket in the first suitable directory.
    pub fn listen() -> anyhow::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let places = [Some(std::env::temp_dir()), runtime, Some("/dev/shm".into())];
        let mut refused = Vec::new();
        for place in places.into_iter().flatten() {
            match Self::listen_in(&place) {
                Ok(handover) => return Ok(handover),
                Err(error) => refused.push(format!("{}: {error}", place.display())),
            }
        }
        let refused = refused.join("; ");
        Err(anyhow!("no directory for a socket ({refused}); set TMPDIR to a short, writable path"))
    }

    fn listen_in(place: &Path) -> io::Result<Self> {
        // The service may change its working directory before it starts a recorder.
        let place = &std::path::absolute(place)?;
        clear_left_over(place);
        for number in 0..ATTEMPTS {
            let pid = std::process::id();
            let directory = place.join(format!("{NAME}{pid}-{number}"));
            let path = directory.join("socket");
            match DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Process 1 of a container has the same ID each time.
                    if !is_left_over(&directory, &path) {
                        continue;
                    }
                    let _ = fs::remove_file(&path);
                }
                Err(error) => return Err(error),
            }
            let listener = match UnixListener::bind(&path) {
                Ok(listener) => listener,
                Err(error) => {
                    let _ = fs::remove_dir(&directory);
                    return Err(error);
                }
            };
            listener.set_nonblocking(true)?;
            return Ok(Self { listener, directory, path, silent: Vec::new(), rests: false });
        }
        Err(io::Error::other("all names are taken"))
    }

    /// The path to pass to the service.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes everything that has been sent. Returns whether there was anything.
    pub fn take(&mut self, held: &mut Held) -> bool {
        self.rests = false;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.silent.push(stream),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.rests = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        let mut taken = false;
        self.silent.retain(|stream| match receive(stream) {
            Ok(Some(file)) => {
                held.add(lookback::command::peer_process(stream), file);
                taken = true;
                false
            }
            Ok(None) => false,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        });
        let surplus = self.silent.len().saturating_sub(MOST_SILENT);
        self.silent.drain(..surplus);
        taken
    }

    /// Adds its descriptors to a poll. Returns whether it pauses and must be called again later.
    pub fn add_to<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) -> bool {
        if !self.rests {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        fds.extend(self.silent.iter().map(|stream| PollFd::new(stream, PollFlags::IN)));
        self.rests
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Deletes what killed holders have left behind.
fn clear_left_over(place: &Path) {
    for entry in place.read_dir().into_iter().flatten().filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(NAME) {
            continue;
        }
        let (directory, socket) = (entry.path(), entry.path().join("socket"));
        let age = entry.metadata().and_then(|found| found.modified()).map(|time| time.elapsed());
        if age.is_ok_and(|age| age.is_ok_and(|age| age > LEFT)) && is_left_over(&directory, &socket)
        {
            let _ = fs::remove_file(&socket);
            let _ = fs::remove_dir(&directory);
        }
    }
}

/// Whether a directory is one of ours whose process is gone.
fn is_left_over(directory: &Path, socket: &Path) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    let metadata = fs::symlink_metadata(directory);
    let private = metadata.is_ok_and(|found| {
        found.is_dir() && found.st_uid() == ours && found.st_mode() & 0o077 == 0
    });
    // Connecting to another user's socket could block forever.
    if !private {
        return false;
    }
    let connected = UnixStream::connect(socket).map_err(|error| error.kind());
    let nobody = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    connected.is_err_and(|kind| nobody.contains(&kind))
}

/// The file that was sent; `None` if there was none, or it is no regular file.
fn receive(stream: &UnixStream) -> io::Result<Option<File>> {
    stream.set_nonblocking(true)?;
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(stream.as_fd(), &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let file = received.map(|descriptor: OwnedFd| File::from(descriptor));
    Ok(file.filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_socket_that_others_may_have_made_is_not_asked_at() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("lookback-run-1-0");
        fs::create_dir(&directory).unwrap();
        // Whatever the umask is.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        // Through its descriptor: the path itself may be too long for a socket.
        let opened = File::open(&directory).unwrap();
        let socket = PathBuf::from(format!("/proc/self/fd/{}/socket", opened.as_raw_fd()));
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(!is_left_over(&directory, &socket));
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // A live one of ours is not deleted, either; once its process is gone, it is.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!is_left_over(&directory, &socket));
        drop(listener);
        assert!(is_left_over(&directory, &socket));
    }
}
