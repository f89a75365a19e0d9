//! Reading this process's own memory where there may be none: the kernel checks, so nothing faults.
//!
//! The memory is read through a file, because seccomp filters more often forbid `process_vm_readv`, some by
//! killing the process. The collector opens the file. A thread of the service only reads from it, with
//! `pread64`, even in a signal handler.
//!
//! A forked child inherits the descriptor, which leads to the parent's memory. So the child closes it at once:
//! otherwise a child that drops its rights could still read what the parent keeps from it. A child made without
//! the C library (`clone`) does not close it.
//!
//! The program may close the descriptor, as it closes everything that it does not know, and then open a file
//! of its own that gets the same number.
//! So a reader first asks for something that only its own memory has: a word on its stack that it has just
//! made up.
//!
//! # Synchronization
//!
//! The descriptor is one word, which only the collector changes, or a forked child its own copy. A reader with an outdated one finds that
//! out.

use crate::os::no_fork::NoFork;
use crate::os::read_memory::ReadMemory;
use crate::os::signal_chain::Errno;
#[cfg(not(target_os = "linux"))]
use libc::pread as pread64;
#[cfg(target_os = "linux")]
use libc::pread64;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The descriptor of `/proc/self/mem`, or one of those below.
static FILE: AtomicI32 = AtomicI32::new(CLOSED);
const CLOSED: libc::c_int = -2;
/// The kernel did not open it: the process may not be read, or has no `/proc`. It is not asked again: a security
/// module may log each refusal.
const REFUSED: libc::c_int = -1;
/// The kernel did not open it for want of descriptors or memory, which there may be later.
const SCARCE: libc::c_int = -3;

/// Of which file it is, by device and number.
static IDENTITY: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// A file that is known to lead to the memory of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnMemory(libc::c_int);

/// Opens the file, unless it is open. The collector calls this: a service may install a filter later that
/// kills for `open`.
pub(crate) fn open() {
    if FILE.load(Ordering::Relaxed) == REFUSED || OwnMemory::get().is_some() {
        return;
    }
    static WATCHED: Once = Once::new();
    // SAFETY: in the child, the function calls what a handler of a signal may.
    WATCHED.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(close_in_child));
    });
    // A child that does not know the descriptor yet would not close it. After a fork, the collector calls again.
    let Some(_no_fork) = NoFork::begin(1) else { return };
    // The number may belong to another file by now, so it is not closed.
    // SAFETY: the path has a zero at its end.
    let file = unsafe { libc::open(c"/proc/self/mem".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    let why = std::io::Error::last_os_error().raw_os_error();
    let identity = identity(file).unwrap_or_default();
    IDENTITY.iter().zip(identity).for_each(|(word, now)| word.store(now, Ordering::Relaxed));
    let is_scarce = matches!(
        why,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR | libc::EAGAIN)
    );
    let state = match file {
        0.. => file,
        _ if is_scarce => SCARCE,
        _ => REFUSED,
    };
    FILE.store(state, Ordering::Relaxed);
}

extern "C" fn close_in_child() {
    let _errno = Errno::keep();
    close_if_same(FILE.swap(CLOSED, Ordering::Relaxed));
}

/// Closes the descriptor, if it still is what it was.
fn close_if_same(file: libc::c_int) {
    let before = IDENTITY.each_ref().map(|word| word.load(Ordering::Relaxed));
    if file >= 0 && identity(file) == Some(before) {
        // SAFETY: it was opened here, and has not become another one.
        unsafe { libc::close(file) };
    }
}

fn identity(file: libc::c_int) -> Option<[u64; 2]> {
    let mut about = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the place is valid, and written if the call succeeds.
    let about =
        unsafe { (libc::fstat(file, about.as_mut_ptr()) == 0).then(|| about.assume_init()) };
    #[allow(clippy::unnecessary_cast, reason = "not every system has both as 64 bits")]
    about.map(|about| [about.st_dev as u64, about.st_ino as u64])
}

/// Whether the collector has opened it, and not closed it since.
pub(crate) fn is_open() -> bool {
    FILE.load(Ordering::Relaxed) >= 0
}

/// Whether the kernel refused to open it for the collector.
pub(crate) fn is_refused() -> bool {
    matches!(FILE.load(Ordering::Relaxed), REFUSED | SCARCE)
}

/// Closes the file, if it is still this file. The collector calls this.
pub(crate) fn close() {
    close_if_same(FILE.swap(CLOSED, Ordering::Relaxed));
}

impl OwnMemory {
    /// `None` if the file is not open, or the number belongs to another file. Safe in a signal handler; it
    /// preserves `errno`.
    pub(crate) fn get() -> Option<Self> {
        let file = Self(FILE.load(Ordering::Relaxed));
        (file.0 >= 0 && file.is_ours()).then_some(file)
    }

    /// Whether the file leads to this process's memory now. Only then can what was read before be trusted.
    pub(crate) fn is_ours(self) -> bool {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        // No other process, nor this thread at another time, has the same number in the same place.
        let number = crate::os::clock::monotonic().0 ^ ASKED.fetch_add(1, Ordering::Relaxed) << 48;
        let mut witness = MaybeUninit::<u64>::uninit();
        // SAFETY: the place is valid. The kernel reads it, which the compiler does not know: hence volatile.
        unsafe { witness.as_mut_ptr().write_volatile(number) };
        let found = [Cell::new(!number)];
        self.words(witness.as_ptr() as u64, &found) == 1 && found[0].get() == number
    }

    /// # Safety
    /// `room` must have this length.
    unsafe fn read(self, address: u64, room: *mut u8, length: usize) -> usize {
        let mut done = 0;
        while done < length {
            // No program has memory in the upper half.
            let Ok(from) = i64::try_from(address.wrapping_add(done as u64)) else { break };
            // SAFETY: the caller's promise; the kernel checks what is read.
            let copied = unsafe { pread64(self.0, room.add(done).cast(), length - done, from) };
            match usize::try_from(copied) {
                Ok(copied) if copied > 0 => done += copied,
                _ => break,
            }
        }
        done
    }
}

/// This process's memory, whose file is looked at when something is first read.
#[derive(Debug, Default)]
pub(crate) struct WhenRead(Cell<Option<Option<OwnMemory>>>);

impl WhenRead {
    /// `None` as for [`OwnMemory::get`].
    pub(crate) fn get(&self) -> Option<OwnMemory> {
        if self.0.get().is_none() {
            self.0.set(Some(OwnMemory::get()));
        }
        self.0.get().flatten()
    }
}

impl ReadMemory for &WhenRead {
    fn copy(self, address: u64, room: &mut [u8]) -> &[u8] {
        self.get().map_or(&[], |memory| memory.copy(address, room))
    }

    fn words(self, address: u64, room: &[Cell<u64>]) -> usize {
        self.get().map_or(0, |memory| memory.words(address, room))
    }

    fn is_sound(self) -> bool {
        // Nothing was read of it, or all of this process.
        self.0.get().is_none_or(|memory| memory.is_some_and(OwnMemory::is_ours))
    }
}

impl ReadMemory for OwnMemory {
    fn copy(self, address: u64, room: &mut [u8]) -> &[u8] {
        // SAFETY: `room` is that long.
        let done = unsafe { self.read(address, room.as_mut_ptr(), room.len()) };
        &room[..done]
    }

    fn words(self, address: u64, room: &[Cell<u64>]) -> usize {
        // SAFETY: `room` is that long, and cells may be written to.
        unsafe { self.read(address, room.as_ptr() as *mut u8, size_of_val(room)) / 8 }
    }

    fn is_sound(self) -> bool {
        self.is_ours()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::testing::alone;

    const THIS: &str = "os::own_memory::tests::";

    fn opened() -> OwnMemory {
        open();
        OwnMemory::get().unwrap()
    }

    #[test]
    fn memory_is_copied_up_to_where_there_is_none() {
        let length = 5 * 4096;
        // SAFETY: a mapping of a file that ends before its last page: the kernel checks even memory that may
        // not be accessed.
        let address = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let file = libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC);
            assert_eq!(libc::ftruncate(file, 4 * 4096), 0);
            let flags = libc::MAP_SHARED;
            let address = libc::mmap(std::ptr::null_mut(), length, access, flags, file, 0);
            libc::close(file);
            assert_ne!(address, libc::MAP_FAILED);
            address.cast::<u8>().add(4096 + 123).write(7);
            address as u64
        };
        let mut room = vec![0; 1 << 20];
        let copy = opened().copy(address + 4096 + 8, &mut room);
        assert_eq!(copy.len(), 3 * 4096 - 8);
        assert_eq!(copy[115], 7);
    }

    #[test]
    fn where_there_is_nothing_nothing_is_copied() {
        assert!(opened().copy(16, &mut [0; 64]).is_empty());
        assert!(opened().copy(u64::MAX - 8, &mut [0; 64]).is_empty());
    }

    #[test]
    fn a_refusal_is_final_for_a_recorder_and_a_lack_of_descriptors_is_not() {
        let name =
            format!("{THIS}a_refusal_is_final_for_a_recorder_and_a_lack_of_descriptors_is_not");
        alone(&name, || {
            FILE.store(REFUSED, Ordering::Relaxed);
            open();
            assert!(is_refused() && OwnMemory::get().is_none(), "the kernel is not asked again");
            close();
            let limit = |most| {
                // SAFETY: the place is valid.
                unsafe {
                    let mut limit = std::mem::zeroed::<libc::rlimit>();
                    libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
                    let before = std::mem::replace(&mut limit.rlim_cur, most);
                    assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
                    before
                }
            };
            let before = limit(0);
            open();
            assert!(is_refused() && OwnMemory::get().is_none());
            limit(before);
            opened();
            assert!(!is_refused());
        });
    }

    #[test]
    fn a_number_that_was_closed_and_is_another_files_is_not_read_nor_closed() {
        let name =
            format!("{THIS}a_number_that_was_closed_and_is_another_files_is_not_read_nor_closed");
        alone(&name, || {
            let number = opened().0;
            let other = std::fs::File::open("/proc/self/exe").unwrap();
            let memory_of_another = std::process::Command::new("sleep").arg("60").spawn();
            let mut another = memory_of_another.unwrap();
            let memory = std::fs::File::open(format!("/proc/{}/mem", another.id()));
            for file in [Some(other), memory.ok()].into_iter().flatten() {
                use std::os::fd::AsRawFd;
                // SAFETY: the number is this module's, and what happens to it is the test.
                assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
                assert!(OwnMemory::get().is_none());
                close();
                // SAFETY: only queries the descriptor.
                assert!(unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0, "not ours to close");
                FILE.store(number, Ordering::Relaxed);
            }
            another.kill().unwrap();
            another.wait().unwrap();
            assert_ne!(opened().0, number, "opened anew");
        });
    }

    #[test]
    fn a_forked_child_closes_its_parents_memory_and_does_not_take_it_for_its_own() {
        let name = format!(
            "{THIS}a_forked_child_closes_its_parents_memory_and_does_not_take_it_for_its_own"
        );
        // Alone, as other tests must not find this one forking.
        alone(&name, || {
            let memory = opened();
            let number = memory.0;
            // SAFETY: the descriptor is open.
            let copy = unsafe { libc::dup(number) };
            // SAFETY: the child calls only what a signal handler may, and exits.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    let is_open = libc::fcntl(number, libc::F_GETFD) >= 0;
                    // As in a child that has it all the same.
                    libc::dup2(copy, number);
                    libc::_exit(libc::c_int::from(is_open || memory.is_ours()));
                }
                // The parent does the same at the same place.
                assert!(memory.is_ours());
                let mut status = -1;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                assert_eq!(status, 0);
                libc::close(copy);
            }
        });
    }
}
