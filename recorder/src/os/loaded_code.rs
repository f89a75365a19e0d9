//! The code that is loaded in this process, according to the loader: the program, its shared objects, the
//! kernel's page of code (vdso).
//!
//! While the loader answers, it holds a lock that any thread must wait for to load something. So only numbers
//! are copied meanwhile, and nothing is allocated. What the numbers refer to is read afterwards, through
//! [`OwnMemory`]: it may have been unloaded by then, and a file that was truncated after it was loaded has no
//! memory where its headers were. Finally, the loader's own count of changes tells whether everything that
//! was read belongs to one state.
//!
//! No thread forks while the loader answers: see [`NoFork`].

use crate::os::no_fork::{LOOKS, NoFork};
use crate::os::own_memory::OwnMemory;
use crate::os::pages::Pages;
use crate::os::read_memory::ReadMemory;
use std::ops::Range;

/// The longest path to keep.
const MAX_PATH: usize = 1024;
/// The longest build id: that of a SHA-256.
const MAX_BUILD_ID: usize = 32;
/// The largest segment of notes, and the most headers, to examine.
const MAX_NOTES: usize = 64 << 10;
const MAX_HEADERS: usize = 256;
/// The smallest page: what a segment holds of the file before this is mapped with the file's beginning.
const PAGE: u64 = 4096;

/// An object that is loaded.
pub(crate) struct Object {
    pub(crate) path: String,
    /// As the linker wrote it; empty if it wrote none.
    pub(crate) build_id: Vec<u8>,
    /// The difference between its addresses and those of the linker.
    pub(crate) bias: u64,
    /// Its code.
    pub(crate) text: Range<u64>,
    /// Its section `.eh_frame`, and whatever follows that.
    pub(crate) frames: Range<u64>,
    /// Memory by which it is told from another object in its place: its build id, or else its headers.
    pub(crate) mark: Range<u64>,
}

/// How often the loader has loaded and unloaded something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes(u64, u64);

/// Asks the loader for this alone. `None` while a thread forks: the collector does not wait for that.
pub(crate) fn changes() -> Option<Changes> {
    let no_fork = NoFork::begin(1)?;
    let mut found = Changes::default();
    each_object(&no_fork, &mut |info| {
        found = Changes(info.dlpi_adds, info.dlpi_subs);
        false
    });
    Some(found)
}

/// Everything loaded, but at most `most` objects, the program first; and the state of the loader that this
/// belongs to. `None` if there is no memory for the list, or threads fork all the time.
pub(crate) fn list(memory: OwnMemory, most: usize) -> Option<(Changes, Vec<Object>)> {
    let (changes, places) = places(most)?;
    let described = |(at, place): (usize, &Place)| {
        let name = text_at(memory, place.name);
        let path = if at == 0 && name.is_empty() { program() } else { name };
        place.headers.describe(memory, &path)
    };
    Some((changes, places.iter().enumerate().filter_map(described).collect()))
}

/// Where the loader keeps its information about an object.
#[derive(Clone, Copy)]
struct Place {
    headers: Headers,
    name: u64,
}

/// Where the program headers of an object are, and how many.
#[derive(Clone, Copy)]
pub(crate) struct Headers {
    /// As in [`Object`].
    bias: u64,
    at: u64,
    count: usize,
}

fn places(most: usize) -> Option<(Changes, Vec<Place>)> {
    let mut room = 64;
    loop {
        let mut places = Vec::new();
        places.try_reserve_exact(room).ok()?;
        let (mut changes, mut count) = (Changes::default(), 0);
        let no_fork = NoFork::begin(LOOKS)?;
        each_object(&no_fork, &mut |info| {
            changes = Changes(info.dlpi_adds, info.dlpi_subs);
            count += 1;
            if places.len() < places.capacity() {
                let headers = Headers {
                    bias: info.dlpi_addr,
                    at: info.dlpi_phdr as u64,
                    count: usize::from(info.dlpi_phnum).min(MAX_HEADERS),
                };
                places.push(Place { headers, name: info.dlpi_name as u64 });
            }
            count < most
        });
        drop(no_fork);
        if places.len() == count {
            return Some((changes, places));
        }
        // A few more, for objects that are loaded meanwhile.
        room = count + 16;
    }
}

/// Calls `each` with the loader's information about each object, until it returns that it has seen enough.
/// The loader holds its lock meanwhile.
fn each_object(_: &NoFork, each: &mut dyn FnMut(&libc::dl_phdr_info) -> bool) {
    type Each<'a> = &'a mut dyn FnMut(&libc::dl_phdr_info) -> bool;
    unsafe extern "C" fn call(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        each: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the loader passes on what it was given below, and an object of its own.
        let (info, each) = unsafe { (&*info, &mut *each.cast::<Each<'_>>()) };
        libc::c_int::from(!each(info))
    }
    let mut each: Each<'_> = each;
    // SAFETY: the function takes what is passed, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(call), (&raw mut each).cast()) };
}

/// The parts of a program header that are needed.
#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    /// Where in the file it begins.
    offset: u64,
    start: u64,
    end: u64,
}

impl Segment {
    const SIZE: usize = 56;

    fn new(bytes: &[u8], bias: u64) -> Self {
        let u32_at = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        let start = bias.wrapping_add(u64_at(16));
        let end = start.saturating_add(u64_at(40));
        Self { kind: u32_at(0), flags: u32_at(4), offset: u64_at(8), start, end }
    }

    fn has(&self, start: u64, length: u64) -> bool {
        self.start <= start && start.saturating_add(length) <= self.end
    }
}

const _: () = assert!(
    Segment::SIZE == size_of::<libc::Elf64_Phdr>()
        && std::mem::offset_of!(libc::Elf64_Phdr, p_flags) == 4
        && std::mem::offset_of!(libc::Elf64_Phdr, p_offset) == 8
        && std::mem::offset_of!(libc::Elf64_Phdr, p_vaddr) == 16
        && std::mem::offset_of!(libc::Elf64_Phdr, p_memsz) == 40
);

impl Headers {
    /// Those of the object whose file begins at this address in memory. `None` if none begins there.
    pub(crate) fn behind(memory: impl ReadMemory, begin: u64) -> Option<Self> {
        let mut room = [0; 64];
        let head: &[u8; 64] = memory.copy(begin, &mut room).try_into().ok()?;
        // 64 bits, and the order of bytes of this machine.
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        if !head.starts_with(&[0x7f, b'E', b'L', b'F', 2, order]) {
            return None;
        }
        let u16_at = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let at = u64::from_ne_bytes(std::array::from_fn(|i| head[32 + i]));
        if usize::from(u16_at(54)) != Segment::SIZE {
            return None;
        }
        let count = usize::from(u16_at(56)).min(MAX_HEADERS);
        let mut found = Self { bias: 0, at: begin.checked_add(at)?, count };
        let mut room = [0; MAX_HEADERS * Segment::SIZE];
        let first = found
            .read(memory, &mut room)
            .find(|of| of.kind == libc::PT_LOAD && of.offset < PAGE)?;
        found.bias = begin.wrapping_sub(first.start.wrapping_sub(first.offset));
        Some(found)
    }

    fn read<'a, R: ReadMemory>(
        &self,
        memory: R,
        room: &'a mut [u8; MAX_HEADERS * Segment::SIZE],
    ) -> impl Iterator<Item = Segment> + use<'a, R> {
        let (bias, length) = (self.bias, self.count * Segment::SIZE);
        let headers = memory.copy(self.at, &mut room[..length]);
        headers.chunks_exact(Segment::SIZE).map(move |of| Segment::new(of, bias))
    }

    /// The object of this path.
    pub(crate) fn describe(&self, memory: impl ReadMemory, path: &str) -> Option<Object> {
        let mut room = [0; MAX_HEADERS * Segment::SIZE];
        let segments: Vec<_> = self.read(memory, &mut room).collect();
        let loaded = || segments.iter().filter(|segment| segment.kind == libc::PT_LOAD);
        let code = loaded().filter(|segment| segment.flags & libc::PF_X != 0);
        let code = code.map(|segment| segment.start..segment.end);
        let text = code.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))?;
        let within = |at, length| {
            loaded().find(|of| of.flags & libc::PF_R != 0 && of.has(at, length)).copied()
        };
        let (mut build_id, mut frames) = (Vec::new(), 0..0);
        let mut mark = self.at..self.at + (self.count * Segment::SIZE) as u64;
        for segment in &segments {
            let (start, length) = (segment.start, segment.end - segment.start);
            match segment.kind {
                libc::PT_NOTE if build_id.is_empty() && within(start, length).is_some() => {
                    let mut notes = vec![0; (length as usize).min(MAX_NOTES)];
                    let notes = memory.copy(start, &mut notes);
                    if let Some(id) = build_id_in(notes) {
                        let at = start + (id.as_ptr().addr() - notes.as_ptr().addr()) as u64;
                        mark = at..at + id.len() as u64;
                        build_id = id.to_vec();
                    }
                }
                libc::PT_GNU_EH_FRAME if within(start, 8).is_some() => {
                    // Version 1; the address of `.eh_frame` is relative to its own position, in four bytes.
                    if let [1, 0x1b, _, _, a, b, c, d] = *memory.copy(start, &mut [0; 8]) {
                        let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
                        let at = (start + 4).wrapping_add_signed(distance);
                        frames = within(at, 1).map_or(0..0, |of| at..of.end);
                    }
                }
                _ => {}
            }
        }
        Some(Object {
            path: crate::text::cut(path, MAX_PATH).to_owned(),
            build_id,
            bias: self.bias,
            text,
            frames,
            mark,
        })
    }
}

/// The text at an address, up to a zero.
fn text_at(memory: OwnMemory, address: u64) -> String {
    let mut text = Vec::new();
    while address != 0 && text.len() < MAX_PATH {
        let mut room = [0; 128];
        let piece = memory.copy(address + text.len() as u64, &mut room);
        let end = piece.iter().position(|byte| *byte == 0);
        text.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
        if end.is_some() || piece.is_empty() {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn program() -> String {
    std::fs::read_link("/proc/self/exe")
        .map_or_else(|_| "/proc/self/exe".to_owned(), |path| path.to_string_lossy().into_owned())
}

/// The build id among these notes.
fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    const GNU_BUILD_ID: u32 = 3;
    loop {
        let (head, rest) = notes.split_at_checked(12)?;
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let (name_length, length, kind) = (number(0) as usize, number(4) as usize, number(8));
        let (name, rest) = rest.split_at_checked(name_length.next_multiple_of(4))?;
        let (id, rest) = rest.split_at_checked(length.next_multiple_of(4).min(rest.len()))?;
        if kind == GNU_BUILD_ID && name == b"GNU\0" {
            return id.get(..length.min(MAX_BUILD_ID));
        }
        notes = rest;
    }
}

impl Object {
    /// A copy of the section. `None` if there is none, or there is no memory for it.
    pub(crate) fn section(&self, memory: impl ReadMemory) -> Option<Section> {
        /// The table of a larger section would find no room.
        const LARGEST: u64 = 128 << 20;
        let length = self.frames.end.checked_sub(self.frames.start)?;
        if length == 0 || length > LARGEST {
            return None;
        }
        let mut pages = Pages::new();
        let room = pages.room(length as usize).ok()?;
        let length = length_of(memory.copy(self.frames.start, room));
        Some(Section { pages, length })
    }
}

/// The section `.eh_frame` of an object.
pub(crate) struct Section {
    pages: Pages,
    length: usize,
}

impl std::ops::Deref for Section {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.pages[..self.length]
    }
}

/// The length of the section, which ends with an entry of length 0.
fn length_of(section: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = section.get(at..at + 4) {
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
        // The extended format of lengths does not occur in practice, and ends the reading.
        if length == 0 || length >= 0xffff_fff0 {
            break;
        }
        at = at.saturating_add(4 + length as usize);
    }
    at.min(section.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_found_behind_other_notes_and_damage_finds_none() {
        let mut notes = Vec::new();
        for (kind, name, text) in [(1_u32, "GNU\0", "abcde"), (3, "GNU\0", "0123456789")] {
            notes.extend((name.len() as u32).to_le_bytes());
            notes.extend((text.len() as u32).to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(name.bytes());
            notes.extend(text.bytes());
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id_in(&notes), Some(&b"0123456789"[..]));
        for end in 0..notes.len() {
            let _ = build_id_in(&notes[..end]);
        }
        let end = notes.len() - 13;
        assert_eq!(build_id_in(&notes[..end]), None);
    }

    #[test]
    fn a_child_that_was_forked_while_a_thread_asked_the_loader_can_ask_it_too() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let name = "os::loaded_code::tests::\
            a_child_that_was_forked_while_a_thread_asked_the_loader_can_ask_it_too";
        crate::testing::alone(name, || {
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        changes();
                    }
                });
                let children = (0..100).map(|_| {
                    // SAFETY: the child only asks the loader, which is the test, and exits.
                    unsafe {
                        let child = libc::fork();
                        if child == 0 {
                            // Ends a child that hangs.
                            libc::alarm(60);
                            libc::_exit(if changes().is_some() { 7 } else { 8 });
                        }
                        let mut status = -1;
                        assert_eq!(libc::waitpid(child, &mut status, 0), child);
                        if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }
                    }
                });
                let wrong = children.into_iter().find(|status| *status != 7);
                is_over.store(true, Ordering::Relaxed);
                assert_eq!(wrong, None);
            });
        });
    }

    /// A library under a name of its own, so that nothing else has loaded it.
    fn copied_library() -> (std::path::PathBuf, u64) {
        // SAFETY: a library of the system, which may be loaded anywhere.
        unsafe { libc::dlopen(c"libm.so.6".as_ptr(), libc::RTLD_NOW) };
        crate::os::own_memory::open();
        let (_, objects) = list(OwnMemory::get().unwrap(), 1000).unwrap();
        let library = objects.iter().find(|object| object.path.ends_with("libm.so.6")).unwrap();
        let path = std::env::temp_dir().join(format!("lookback-{}.so", std::process::id()));
        std::fs::copy(&library.path, &path).unwrap();
        let before = changes();
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: as above.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null() && changes() != before);
        (path, library.text.end - library.text.start)
    }

    /// As if a deployment copied over a running file. Nothing can be done with the library after that, not
    /// even ending the process in order.
    #[test]
    fn a_library_that_was_truncated_while_it_is_loaded_harms_nobody() {
        const ALONE: &str = "LOOKBACK_TEST_TRUNCATED";
        let name = "os::loaded_code::tests::\
            a_library_that_was_truncated_while_it_is_loaded_harms_nobody";
        if std::env::var_os(ALONE).is_none() {
            let mut own = std::process::Command::new(std::env::current_exe().unwrap());
            let status = own.args([name, "--exact"]).env(ALONE, "1").status().unwrap();
            assert_eq!(status.code(), Some(7));
            return;
        }
        let (path, text) = copied_library();
        let of_it = || {
            let (_, objects) = list(OwnMemory::get().unwrap(), 1000).unwrap();
            objects.into_iter().find(|object| object.path == path.to_str().unwrap())
        };
        let object = of_it().unwrap();
        assert_eq!(object.text.end - object.text.start, text);
        assert!(!object.build_id.is_empty());
        assert!(object.section(OwnMemory::get().unwrap()).unwrap().len() > 1000);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert!(of_it().is_none(), "its headers are gone");
        assert!(object.section(OwnMemory::get().unwrap()).is_none_or(|rest| rest.is_empty()));
        std::fs::remove_file(&path).unwrap();
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(7) };
    }
}
