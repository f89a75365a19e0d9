//! The socket at which processes hand their arenas over: in a directory that only this user may
//! enter. See `holder` of the recorder for the other side.
//!
//! Whoever connects is not trusted: nobody is waited for, what is no regular file is not kept, and
//! which process it is says the kernel.

use super::held::Held;
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

/// So many who have connected and say nothing are kept; the first of them go.
const MOST_SILENT: usize = 64;
/// How the name of a directory of ours begins.
const NAME: &str = "lookback-run-";
/// One whose process was killed is taken away when it is older than this.
const LEFT: Duration = Duration::from_secs(60);
/// So many names are tried in a directory.
const ATTEMPTS: u32 = 64;

/// See the module.
pub struct Handover {
    listener: UnixListener,
    directory: PathBuf,
    path: PathBuf,
    silent: Vec<UnixStream>,
    /// There were no descriptors left; so it rests for a while.
    rests: bool,
}

impl Handover {
    /// Makes the socket, where there is room for one.
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
        Err(anyhow!("no place for a socket ({refused}); set TMPDIR"))
    }

    fn listen_in(place: &Path) -> io::Result<Self> {
        // The service may change its directory before it starts a recorder.
        let place = &std::path::absolute(place)?;
        clear_left_over(place);
        for number in 0..ATTEMPTS {
            let pid = std::process::id();
            let directory = place.join(format!("{NAME}{pid}-{number}"));
            let path = directory.join("socket");
            match DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Process 1 of a container has the same number each time.
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

    /// What the service is to know.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all that has been sent. Whether something was.
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
                held.add(lookback::peer_process(stream), file);
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

    /// Waits for all of it. Whether it rests, and wants to be asked later.
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

/// Takes away what holders have left that were killed.
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

/// Whether a directory is one of ours, whose process is no more.
fn is_left_over(directory: &Path, socket: &Path) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    let metadata = fs::symlink_metadata(directory);
    let private = metadata.is_ok_and(|found| {
        found.is_dir() && found.st_uid() == ours && found.st_mode() & 0o077 == 0
    });
    // Whoever asks at a socket may have to wait, and be it for ever: not at one of somebody else.
    if !private {
        return false;
    }
    let connected = UnixStream::connect(socket).map_err(|error| error.kind());
    let nobody = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    connected.is_err_and(|kind| nobody.contains(&kind))
}

/// The file that was sent; `None` if none was, or if it is none.
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
        // Nor is one that lives, and is ours, taken away; when it is no more, it is.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!is_left_over(&directory, &socket));
        drop(listener);
        assert!(is_left_over(&directory, &socket));
    }
}
