//! A generated token, kept in a file that only the service's own user can read.
//!
//! It lies in the snapshot directory: a user who can read that file can read the snapshots there, too. It
//! stays, so that it is the same after a restart, and for all processes that share the directory.

use super::access::{Access, TOKEN_LENGTH};
use lookback_recorder::integration::open_regular;
use lookback_recorder::{Error, stats};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The file's name.
pub(super) const NAME: &str = "debug-lookback.token";

/// The token of the recorder's snapshot directory, generated if there is none. `None` if it cannot be kept;
/// stderr then says why. This blocks.
pub(super) fn of_recorder() -> Result<Option<String>, Error> {
    let directory = stats()?.snapshot_dir;
    let path = directory.join(NAME);
    let established = fs::create_dir_all(&directory).and_then(|()| establish(&path));
    Ok(match established {
        Ok(token) => {
            let path = fs::canonicalize(&path).unwrap_or(path);
            say(format!("the token for {} is in {}", super::PATH, path.display()));
            Some(token)
        }
        Err(error) => {
            say(format!(
                "{} refuses all requests: no token is set, and none can be kept in {}: {error}; \
                 `Debug::token` sets one",
                super::PATH,
                directory.display(),
            ));
            None
        }
    })
}

/// Prints to stderr, once: paths are not for clients.
fn say(words: String) {
    static SAID: Mutex<String> = Mutex::new(String::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if *said != words {
        // A closed stderr is not an error here.
        let _ = writeln!(io::stderr(), "lookback: {words}");
        *said = words;
    }
}

/// Reads the token of this file, or generates one. Concurrent callers all get the same.
fn establish(path: &Path) -> io::Result<String> {
    let token = random()?;
    // Complete before it gets its name.
    let mut own = path.as_os_str().to_owned();
    own.push(format!(".{}", &token[..16]));
    let own = Removed(PathBuf::from(own));
    let mut file = new(&own.0)?;
    writeln!(file, "{token}")?;
    match fs::hard_link(&own.0, path) {
        Ok(()) => Ok(token),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path, &file.metadata()?),
        Err(error) => Err(error),
    }
}

/// Reads the token of a file, which must be as private as `own`.
fn read(path: &Path, own: &Metadata) -> io::Result<String> {
    let wrong = |what: &str| Err(io::Error::other(format!("{}: {what}", path.display())));
    let Some(file) = open_regular(path)? else { return wrong("not a file") };
    if !is_private(&file.metadata()?, own) {
        return wrong("another user owns it, or may read or change it: remove it");
    }
    let mut token = String::new();
    file.take(2 * *TOKEN_LENGTH.end() as u64).read_to_string(&mut token)?;
    let token = token.trim_end().to_owned();
    if Access::is_token(&token) { Ok(token) } else { wrong("not a token: remove it") }
}

#[cfg(unix)]
fn new(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(unix)]
fn is_private(found: &Metadata, own: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    found.is_file() && found.uid() == own.uid() && found.mode() & 0o077 == 0
}

#[cfg(not(unix))]
fn new(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(unix))]
fn is_private(_: &Metadata, _: &Metadata) -> bool {
    false
}

/// 128 random bits, in hexadecimal digits.
fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file that is removed when this is dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn all_have_the_same_token_and_nobody_else_can_read_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(NAME);
        let tokens: Vec<_> = std::thread::scope(|scope| {
            let each = || establish(&path).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(each)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0] && token.len() == 32), "{tokens:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing else is left there");
        assert_eq!(establish(&path).unwrap(), tokens[0]);
    }

    #[test]
    fn what_others_can_read_or_have_put_there_is_not_believed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(NAME);
        let refused = || establish(&path).unwrap_err().to_string();
        fs::write(&path, "0123456789abcdef").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused().contains("another user"), "{}", refused());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(establish(&path).unwrap(), "0123456789abcdef");
        fs::write(&path, "short").unwrap();
        assert!(refused().contains("not a token"), "{}", refused());
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(refused().contains("not a file"), "{}", refused());
        fs::remove_file(&path).unwrap();
        // Without a writer, opening it like a file blocks forever.
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(refused().contains("not a file"), "{}", refused());
    }
}
