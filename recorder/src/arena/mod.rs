//! The arena: the one mapping that holds all trace data.
//!
//! On Linux it is an anonymous file (`memfd_create`), sealed so that nobody can shrink it, grow it, or map it
//! writable anew; a process of the same user can read it through `/proc/PID/fd` even while its owner hangs.
//! Its pages are allocated and touched at once, so that recording never faults for want of memory. Elsewhere
//! it is private memory.
//!
//! Readers copy out of it by `pread` on the descriptor: the kernel reads while writers write, which inside
//! the program would be a data race. The ring decides whether a copy is sound.

pub(crate) mod arena_read;
#[cfg(target_os = "linux")]
pub(crate) mod black_box;
pub(crate) mod block_header;
pub(crate) mod block_totals;
pub(crate) mod fd_handoff;
#[cfg(target_os = "linux")]
pub(crate) mod room;

use crate::arena::arena_read::Source;
use crate::error::Error;
use crate::os::file_size;
use crate::protocol::ring::Ring;
use lookback_snapshot::wire::{ARENA_MAGIC, ARENA_VERSION, BLOCK_GRANULE, ClockKind, offset};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const MOST_BYTES: usize = 16 << 30;

/// See the module.
#[derive(Debug)]
pub(crate) struct Arena {
    base: *mut u8,
    length: usize,
    /// `drop` closes it only if it is still ours.
    #[cfg(target_os = "linux")]
    file: std::mem::ManuallyDrop<std::fs::File>,
    #[cfg(target_os = "linux")]
    identity: (u64, u64),
    /// Writers may still be inside: never unmap it.
    leaked: std::sync::atomic::AtomicBool,
}

// SAFETY: the mapping is shared memory; all access to it is atomic or through the kernel, except to the
// payload of blocks, which only its carver writes and nobody in this process reads.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// What the header says about the process; it never changes.
#[derive(Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) process_start: u64,
    pub(crate) boot_id: [u8; 16],
    pub(crate) pid_namespace: u64,
    pub(crate) clock: ClockKind,
    pub(crate) window: u64,
    pub(crate) metadata: &'a [u8],
}

/// The length of such an arena, header included.
fn length_of(max_bytes: usize) -> usize {
    max_bytes / BLOCK_GRANULE * BLOCK_GRANULE
}

impl Arena {
    /// Makes an arena of `max_bytes`, header included, and allocates all of it.
    pub(crate) fn new(max_bytes: usize, identity: &Identity<'_>) -> Result<Self, Error> {
        let length = length_of(max_bytes);
        let arena = Self::allocate(length).map_err(|error| Error::Arena { length, error })?;
        arena.write_header(identity);
        Ok(arena)
    }

    /// Makes an arena of `max_bytes` in a file of its own, which outlives the process. Keeps the last `kept`
    /// boxes of predecessors that died, and returns the path of the one that it found now.
    #[cfg(target_os = "linux")]
    pub(crate) fn in_black_box(
        max_bytes: usize,
        identity: &Identity<'_>,
        path: &std::path::Path,
        kept: usize,
    ) -> Result<(Self, Option<std::path::PathBuf>), Error> {
        let at = |error| Error::BlackBox { path: path.to_owned(), error };
        let length = length_of(max_bytes);
        check_file_size_limit(length).map_err(at)?;
        let new = crate::arena::black_box::NewBox::create(path, length, kept)?;
        let made = new.file.try_clone().and_then(|file| Self::map(file, length, length));
        let arena = match made {
            Ok(arena) => arena,
            Err(error) => {
                new.abandon();
                return Err(at(error));
            }
        };
        arena.write_header(identity);
        let predecessor = new.publish()?;
        Ok((arena, predecessor))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn in_black_box(
        _max_bytes: usize,
        _identity: &Identity<'_>,
        path: &std::path::Path,
        _kept: usize,
    ) -> Result<(Self, Option<std::path::PathBuf>), Error> {
        let error = io::ErrorKind::Unsupported.into();
        Err(Error::BlackBox { path: path.to_owned(), error })
    }

    #[cfg(target_os = "linux")]
    fn allocate(length: usize) -> io::Result<Self> {
        use std::os::fd::FromRawFd;
        check_file_size_limit(length)?;
        // SAFETY: the name ends with a zero.
        let descriptor = unsafe {
            libc::memfd_create(c"lookback".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nothing else owns it.
        let file = unsafe { std::fs::File::from_raw_fd(descriptor) };
        // This sizes the file and allocates its pages, or the first of them: missing memory is an error now
        // and not a fault later.
        let there = crate::arena::room::allocate_front(&file, length)?;
        let arena = Self::map(file, length, there)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        for seal in [seals | libc::F_SEAL_FUTURE_WRITE, seals] {
            // A kernel before 5.1 has no seal against new writable mappings; it gets the others.
            // SAFETY: the descriptor is open.
            if unsafe { libc::fcntl(descriptor, libc::F_ADD_SEALS, seal) } == 0 {
                break;
            }
        }
        Ok(arena)
    }

    /// Maps a file of this length, of which `there` bytes are allocated.
    #[cfg(target_os = "linux")]
    fn map(file: std::fs::File, length: usize, there: usize) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        use std::os::linux::fs::MetadataExt;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, flags, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(crate::os::mmap::without_room());
        }
        // The rest is touched later: see `growth`. A failure here does no harm.
        // SAFETY: the range is in the mapping.
        let _ = unsafe {
            crate::arena::room::populate(base.cast(), length.min(crate::arena::room::AT_ONCE))
        };
        let metadata = file.metadata().inspect_err(|_| {
            // SAFETY: the mapping was just made, and nothing refers to it.
            unsafe { libc::munmap(base, length) };
        })?;
        let identity = (metadata.st_dev(), metadata.st_ino());
        let file = std::mem::ManuallyDrop::new(file);
        let arena = Self { base: base.cast(), length, file, identity, leaked: false.into() };
        let growing = if there < length { there - offset::DATA } else { 0 };
        arena.growing().store(growing as u64, Ordering::Relaxed);
        Ok(arena)
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(length: usize) -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        for page in (0..length).step_by(4096) {
            // SAFETY: the page lies within the mapping, which nothing else refers to.
            unsafe { base.cast::<u8>().add(page).write_volatile(0) };
        }
        Ok(Self { base: base.cast(), length, leaked: false.into() })
    }

    fn write_header(&self, identity: &Identity<'_>) {
        let put = |at: usize, bytes: &[u8]| {
            assert!(at + bytes.len() <= offset::DATA);
            // SAFETY: within the header, and nothing else refers to the mapping yet.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(at), bytes.len());
            }
        };
        put(offset::VERSION, &ARENA_VERSION.to_le_bytes());
        put(offset::HEADER_LENGTH, &(offset::DATA as u32).to_le_bytes());
        put(offset::CAPACITY, &self.capacity().to_le_bytes());
        put(offset::PID, &std::process::id().to_le_bytes());
        put(offset::CLOCK_KIND, &(identity.clock as u32).to_le_bytes());
        put(offset::PROCESS_START, &identity.process_start.to_le_bytes());
        put(offset::BOOT_ID, &identity.boot_id);
        put(offset::WINDOW, &identity.window.to_le_bytes());
        put(offset::PID_NAMESPACE, &identity.pid_namespace.to_le_bytes());
        let most = offset::SAVES - offset::METADATA - 4;
        // Metadata that does not fit is left out whole: half a record would be damage.
        if identity.metadata.len() <= most {
            put(offset::METADATA, &(identity.metadata.len() as u32).to_le_bytes());
            put(offset::METADATA + 4, identity.metadata);
        }
        // The magic last: a reader that sees it sees the rest.
        // SAFETY: the mapping is aligned to a page, and
        // this is its first word.
        let magic = unsafe { &*self.base.cast::<AtomicU64>() };
        magic.store(u64::from_ne_bytes(ARENA_MAGIC), Ordering::Release);
    }

    /// The address of the header.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// The descriptor of the arena's file.
    #[cfg(target_os = "linux")]
    pub(crate) fn descriptor(&self) -> libc::c_int {
        std::os::fd::AsRawFd::as_raw_fd(&*self.file)
    }

    /// How many bytes of data it holds.
    pub(crate) fn capacity(&self) -> u64 {
        (self.length - offset::DATA) as u64
    }

    /// The ring in its header.
    pub(crate) fn ring(&self) -> &Ring {
        // SAFETY: the header holds a ring at this offset, and zeroes are one.
        unsafe { &*self.base.add(offset::HEAD).cast::<Ring>() }
    }

    /// Whether the descriptor still names the arena's file. A program may close all descriptors, and another
    /// file may get the number.
    #[cfg(target_os = "linux")]
    fn descriptor_is_ours(&self) -> bool {
        use std::os::linux::fs::MetadataExt;
        self.file.metadata().is_ok_and(|m| (m.st_dev(), m.st_ino()) == self.identity)
    }

    /// How many bytes of data have memory so far; 0 once all have.
    pub(crate) fn growing(&self) -> &AtomicU64 {
        // SAFETY: the header holds a word at this offset.
        unsafe { &*self.base.add(offset::GROWING).cast::<AtomicU64>() }
    }

    /// The length of the arena, header included.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Notes that the recording was ended in order: the arena holds no process's last words.
    pub(crate) fn note_end(&self) {
        // SAFETY: the header holds a word at this offset.
        let ended = unsafe { &*self.base.add(offset::ENDED).cast::<AtomicU64>() };
        ended.store(1_u64.to_le(), Ordering::Release);
    }

    /// Never unmaps the arena: a writer may be stuck in it.
    pub(crate) fn leak(&self) {
        self.leaked.store(true, Ordering::Relaxed);
    }
}

impl Source for Arena {
    fn capacity(&self) -> u64 {
        Self::capacity(self)
    }

    fn read(&self, from: u64, into: &mut [u8]) -> io::Result<()> {
        assert!(from as usize + into.len() <= self.length);
        #[cfg(target_os = "linux")]
        if self.descriptor_is_ours() {
            use std::os::unix::fs::FileExt;
            return self.file.read_exact_at(into, from);
        }
        // Word by word, each read atomically: the ring's check detects torn data.
        for (at, piece) in (from as usize..).step_by(8).zip(into.chunks_mut(8)) {
            // SAFETY: offsets and lengths are multiples of eight within the mapping.
            let word = unsafe { &*self.base.add(at).cast::<AtomicU64>() };
            piece.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()[..piece.len()]);
        }
        Ok(())
    }

    fn tail_after_copy(&self) -> io::Result<u64> {
        Ok(self.ring().tail_after_copy())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // If a program has closed all descriptors, the number may belong to another file by now.
        #[cfg(target_os = "linux")]
        if self.descriptor_is_ours() {
            // SAFETY: nothing uses it after this.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.file) };
        }
        if !*self.leaked.get_mut() {
            // SAFETY: the mapping is ours. No writer is in it: the advancer established that when the
            // recording was stopped, whatever became of its last generation (see `advance::last`), or the
            // arena was leaked.
            unsafe { libc::munmap(self.base.cast(), self.length) };
        }
    }
}

/// `fallocate` on an anonymous file also obeys the limit on file sizes, by a fatal signal.
#[cfg(target_os = "linux")]
fn check_file_size_limit(length: usize) -> io::Result<()> {
    match file_size::limit() {
        Some(limit) if limit < length as u64 => Err(file_size::too_large(limit)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_snapshot::wire::ArenaHeader;

    #[test]
    fn a_header_that_was_written_can_be_read() {
        let identity = Identity {
            process_start: 5,
            boot_id: [7; 16],
            pid_namespace: 0,
            clock: ClockKind::Tsc,
            window: 10,
            metadata: b"abc",
        };
        let arena = Arena::new(1 << 20, &identity).unwrap();
        let header = ArenaHeader::parse(&arena.copy_header().unwrap()).unwrap();
        assert_eq!(header.capacity, arena.capacity());
        assert_eq!((header.process_start, header.boot_id), (5, [7; 16]));
        assert_eq!((header.window.0, header.metadata.as_slice()), (10, &b"abc"[..]));
    }

    #[test]
    fn a_copy_goes_round_the_end() {
        let identity = Identity {
            process_start: 0,
            boot_id: [0; 16],
            pid_namespace: 0,
            clock: ClockKind::Monotonic,
            window: 0,
            metadata: &[],
        };
        let arena = Arena::new(1 << 20, &identity).unwrap();
        let capacity = arena.capacity();
        // SAFETY: the last word of the data.
        unsafe { arena.base.add(arena.length - 8).cast::<u64>().write(3) };
        // SAFETY: the first word of the data.
        unsafe { arena.base.add(offset::DATA).cast::<u64>().write(4) };
        let mut bytes = crate::os::pages::Pages::new();
        arena.copy(capacity * 5 - 8, 16, &mut bytes).unwrap();
        assert_eq!(*bytes, [3_u64, 4].map(u64::to_ne_bytes).concat());
    }
}
