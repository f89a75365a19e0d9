//! The code that is loaded in this process: the program, its shared objects, and the kernel's page of code (the vdso).
//!
//! # Synchronization
//!
//! [`refresh`] makes a new [`ModuleMap`] when the loader reports that something was loaded or unloaded, and publishes
//! it. A reader, which may be a signal handler, first increments a count of readers and then loads the newest map.
//! After [`refresh`] has published a map, it looks at that count; all these accesses are sequentially consistent. If
//! the count is zero, nobody uses an older map, and [`refresh`] frees them all. A reader may never leave, for example a
//! handler that was left by a `longjmp`. Then up to [`MAX_RETIRED`] old maps are kept; if more are needed, there is
//! no current map, because no stacks are better than wrong ones.
//!
//! A [`Module`] is never freed, so an object that is loaded again, at whatever address, has its table at once. There
//! are at most [`MAX_MODULES`], and all tables together take at most [`MAX_TABLES`] bytes. A module that finds no room
//! has no table, and stacks end at it.
//!
//! [`refresh`] makes maps under a lock that nothing else takes; statistics read atomics.

use super::cfi_table::{CfiTable, Rule};
use super::unwind::Code;
use crate::os::loaded_code::{self, Changes, Object};
use crate::os::own_memory::OwnMemory;
use crate::os::read_memory::ReadMemory;
use parking_lot::Mutex;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So many modules are told apart in the life of a process.
pub(crate) const MAX_MODULES: usize = (1 << 12) - 1;
/// So many older maps wait for the last reader.
const MAX_RETIRED: usize = 4;
/// All tables take so many bytes at most.
const MAX_TABLES: usize = 16 << 20;
/// What is loaded while a map is made is looked at anew so often, before that is left to the next generation.
const TRIES: u32 = 3;

/// A file that code was loaded from, whatever address it was loaded at.
#[derive(Debug)]
pub(crate) struct Module {
    /// Counts from 1.
    pub(crate) number: u32,
    pub(crate) path: Box<str>,
    /// As the linker wrote it; empty if it wrote none.
    pub(crate) build_id: Box<[u8]>,
    /// Its definition in the newest generation that has one: see [`crate::record::stacks`](crate::record).
    pub(crate) defined: AtomicU64,
    /// Its code, counted from where it is loaded.
    text: Range<u32>,
    table: Option<CfiTable>,
}

/// Where a module is loaded.
#[derive(Clone, Debug)]
pub(crate) struct Loaded<M = &'static Module> {
    text: Range<u64>,
    bias: u64,
    module: M,
    /// Memory that says whether it is still there, and what was in it. Empty for code that stays.
    mark: Range<u64>,
    marked: u64,
}

impl Loaded {
    fn is_same(&self, other: &Self) -> bool {
        self.bias == other.bias && std::ptr::eq(self.module, other.module)
    }
}

/// See the module. That of another process has its modules for itself.
#[derive(Debug)]
pub(crate) struct ModuleMap<M = &'static Module> {
    /// By address.
    loaded: Box<[Loaded<M>]>,
}

/// What the unwind tables are and take, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnwindTables {
    /// Files whose code stacks are unwound through.
    pub modules: u32,
    /// Of those, files without a table: they have none of the compiler's, or there was no room for it. A stack ends there.
    pub without_table: u32,
    /// Files beyond the 4,095 that are told apart. A stack ends there.
    pub left_out: u32,
    /// How much memory the tables take.
    pub bytes: u64,
    /// How much they take at most.
    pub max_bytes: u64,
    /// How long it took to make them.
    pub made_in: Duration,
}

static MAP: AtomicPtr<ModuleMap> = AtomicPtr::new(std::ptr::null_mut());
/// How many readers have a map.
static READERS: AtomicU32 = AtomicU32::new(0);
static MODULES: [AtomicPtr<Module>; MAX_MODULES + 1] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_MODULES + 1];
static KEPT: Mutex<Kept> =
    Mutex::new(Kept { changes: None, retired: Vec::new(), modules: 0, without_table: 0, bytes: 0 });

struct Kept {
    /// The state of the loader that the map is of.
    changes: Option<Changes>,
    /// Maps that are not the newest one any more, and may be in use.
    retired: Vec<Retired>,
    modules: usize,
    without_table: u32,
    bytes: usize,
}

/// As it was leaked when it was published.
struct Retired(*mut ModuleMap);

// SAFETY: a map may be used, and freed, by any thread.
unsafe impl Send for Retired {}

/// What [`UnwindTables`] tells, of the map that was published; relaxed, as none of it says anything about another.
static WITHOUT_TABLE: AtomicU32 = AtomicU32::new(0);
static LEFT_OUT: AtomicU32 = AtomicU32::new(0);
static NUMBER_OF_MODULES: AtomicU32 = AtomicU32::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static MADE_IN: AtomicU64 = AtomicU64::new(0);
/// How often a map was published that lacks something the one before had.
static EPOCH: AtomicU32 = AtomicU32::new(0);

/// The newest map, which stays as long as this does.
pub(crate) struct Current(*const ModuleMap);

impl Deref for Current {
    type Target = ModuleMap;

    fn deref(&self) -> &ModuleMap {
        // SAFETY: this reader is counted, so nobody frees it.
        unsafe { &*self.0 }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ModuleMap {
    /// The newest one; `None` before the first, or where there can be no other one.
    #[inline]
    pub(crate) fn current() -> Option<Current> {
        READERS.fetch_add(1, Ordering::SeqCst);
        let map = Current(MAP.load(Ordering::SeqCst));
        (!map.0.is_null()).then_some(map)
    }
}

impl<M: Deref<Target = Module>> ModuleMap<M> {
    pub(crate) fn new(mut loaded: Vec<Loaded<M>>) -> Self {
        loaded.sort_unstable_by_key(|loaded| loaded.text.start);
        // Where two claim the same place, neither is believed behind the begin of the second.
        for at in 1..loaded.len() {
            loaded[at - 1].text.end = loaded[at - 1].text.end.min(loaded[at].text.start);
        }
        Self { loaded: loaded.into() }
    }

    #[inline]
    fn loaded(&self, address: u64) -> Option<&Loaded<M>> {
        let at = self.loaded.partition_point(|loaded| loaded.text.end <= address);
        self.loaded.get(at).filter(|loaded| loaded.text.start <= address)
    }

    /// Whether the code at this address, if any is known there, is still the one that is known. Between two looks at what is
    /// loaded, another library may have come in the place of one that was unloaded. A thread asks this of code that it is in,
    /// which nobody unloads meanwhile.
    pub(crate) fn is_still_there(&self, address: u64, memory: impl ReadMemory) -> bool {
        let loaded = self.loaded(address);
        loaded.is_none_or(|it| it.mark.is_empty() || marked(memory, &it.mark) == it.marked)
    }

    /// Where the place in a module is, by the module's number.
    pub(crate) fn address(&self, module: u32, offset: u32) -> Option<u64> {
        let loaded = self.loaded.iter().find(|loaded| loaded.module.number == module)?;
        Some(loaded.bias + u64::from(offset))
    }

    /// The module that has the code at this address, and where in it that is.
    #[inline]
    pub(crate) fn find(&self, address: u64) -> Option<(&Module, u32)> {
        let loaded = self.loaded(address)?;
        Some((&loaded.module, (address - loaded.bias) as u32))
    }
}

impl<M: Deref<Target = Module>> Code for ModuleMap<M> {
    #[inline]
    fn rule(&self, address: u64) -> Rule {
        match self.loaded(address) {
            Some(Loaded { bias, module, .. }) => match &module.table {
                Some(table) => table.rule((address - bias) as u32),
                // There frame pointers are the rule.
                None if cfg!(target_arch = "aarch64") => Rule::FRAME_POINTER,
                None => Rule::UNKNOWN,
            },
            None => Rule::UNKNOWN,
        }
    }

    fn frame_setup(&self, at: u64) -> Option<u64> {
        let Loaded { bias, module, .. } = self.loaded(at)?;
        let setup = module.table.as_ref()?.frame_setup((at - bias) as u32)?;
        Some(bias + u64::from(setup))
    }

    fn function_start(&self, at: u64) -> Option<u64> {
        let Loaded { bias, module, .. } = self.loaded(at)?;
        let start = module.table.as_ref()?.function_start((at - bias) as u32)?;
        Some(bias + u64::from(start))
    }
}

/// Whether there is a map.
pub(crate) fn is_made() -> bool {
    !MAP.load(Ordering::Relaxed).is_null()
}

/// The module of this number.
pub(crate) fn module(number: u32) -> Option<&'static Module> {
    // SAFETY: it points to nothing, or to a module, which is never freed.
    unsafe { MODULES.get(number as usize)?.load(Ordering::Acquire).as_ref() }
}

/// What the tables take.
pub(crate) fn unwind_tables() -> UnwindTables {
    let modules = NUMBER_OF_MODULES.load(Ordering::Relaxed);
    UnwindTables {
        modules,
        without_table: WITHOUT_TABLE.load(Ordering::Relaxed),
        left_out: LEFT_OUT.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
        max_bytes: if modules > 0 { MAX_TABLES as u64 } else { 0 },
        made_in: Duration::from_nanos(MADE_IN.load(Ordering::Relaxed)),
    }
}

/// A number that changes when code may have been replaced by other code at the same address.
#[inline(always)]
pub(super) fn epoch() -> u32 {
    EPOCH.load(Ordering::Relaxed)
}

/// Whether the map is of what is loaded now, or nobody can say yet. `false` while a thread is making one.
pub(crate) fn is_current() -> bool {
    let is_of = |now| KEPT.try_lock().is_some_and(|kept| kept.changes == Some(now));
    loaded_code::changes().is_none_or(is_of)
}

/// Looks whether something was loaded or unloaded, and makes the tables of what is new. Takes time the first time, and
/// stops when `is_over` says so. Does nothing if another thread is at it.
pub(crate) fn refresh(is_over: &dyn Fn() -> bool) {
    let Some(mut kept) = KEPT.try_lock() else { return };
    let Some(memory) = OwnMemory::get() else { return };
    let began = Instant::now();
    for _ in 0..TRIES {
        let now = loaded_code::changes();
        if now.is_some() && kept.changes == now || kept.refresh(memory, is_over).is_some() {
            break;
        }
    }
    let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    MADE_IN.fetch_add(nanos, Ordering::Relaxed);
}

/// What became of an object.
enum Known {
    Loaded(Loaded),
    /// It cannot be said what its code is.
    LeftOut,
}

impl Kept {
    /// Publishes a map. `None` if something was loaded meanwhile, or it is over.
    fn refresh(&mut self, memory: OwnMemory, is_over: &dyn Fn() -> bool) -> Option<()> {
        if !self.has_room() || super::is_memory_scarce() {
            // What is there may be wrong by now.
            self.changes = None;
            self.publish(std::ptr::null_mut());
            return Some(());
        }
        let (changes, objects) = loaded_code::list(memory, MAX_MODULES)?;
        let is_the_same = || loaded_code::changes() == Some(changes);
        if !is_the_same() {
            return None;
        }
        let mut loaded = Vec::new();
        let mut left_out = 0;
        for object in objects {
            match self.known(object, memory, &|| is_over() || !is_the_same())? {
                Known::Loaded(object) => loaded.push(object),
                Known::LeftOut => left_out += 1,
            }
        }
        // What was read of them may be of what came in their place.
        if !is_the_same() {
            return None;
        }
        self.changes = Some(changes);
        self.publish(Box::into_raw(Box::new(ModuleMap::new(loaded))));
        LEFT_OUT.store(left_out, Ordering::Relaxed);
        WITHOUT_TABLE.store(self.without_table, Ordering::Relaxed);
        BYTES.store(self.bytes as u64, Ordering::Relaxed);
        NUMBER_OF_MODULES.store(self.modules as u32, Ordering::Relaxed);
        Some(())
    }

    fn publish(&mut self, map: *mut ModuleMap) {
        let before = MAP.swap(map, Ordering::SeqCst);
        if !before.is_null() {
            // SAFETY: only this thread frees them, with the lock, and has not done so.
            let (earlier, now) = unsafe { (&*before, map.as_ref()) };
            let has = |loaded: &Loaded| {
                now.is_some_and(|now| now.loaded.iter().any(|other| other.is_same(loaded)))
            };
            if !earlier.loaded.iter().all(has) {
                EPOCH.fetch_add(1, Ordering::Relaxed);
            }
            self.retired.push(Retired(before));
        }
        self.free();
    }

    /// Frees the older maps, unless somebody may have one.
    fn free(&mut self) {
        if READERS.load(Ordering::SeqCst) == 0 {
            // SAFETY: each was made by `Box::into_raw`, and is here once. Nobody has it: see the module.
            self.retired.drain(..).for_each(|map| drop(unsafe { Box::from_raw(map.0) }));
        }
    }

    /// Whether one map more may be retired, after waiting for readers for a moment.
    fn has_room(&mut self) -> bool {
        for _ in 0..20 {
            self.free();
            if self.retired.len() < MAX_RETIRED {
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        false
    }

    /// Where a module is loaded, after making its table if it has none yet. `None` if that is given up.
    fn known(
        &mut self,
        object: Object,
        memory: OwnMemory,
        is_over: &dyn Fn() -> bool,
    ) -> Option<Known> {
        let Some(of_module) = text_of(&object) else { return Some(Known::LeftOut) };
        let (text, bias, mark) = (object.text.clone(), object.bias, object.mark.clone());
        let known = (1..=self.modules as u32).filter_map(module).find(|module| {
            module.text == of_module
                && *module.path == *object.path
                && *module.build_id == *object.build_id
        });
        let module = match known {
            Some(module) => module,
            None if self.modules < MAX_MODULES => self.add(object, of_module, memory, is_over)?,
            None => return Some(Known::LeftOut),
        };
        // The program does not go, nor does the library that it is built on.
        let of_libc = libc::getpid as unsafe extern "C" fn() -> libc::pid_t as usize as u64;
        let own = Self::known as fn(&mut Self, _, _, _) -> _ as usize as u64;
        let stays = text.contains(&of_libc) || text.contains(&own);
        let mark = if stays { 0..0 } else { mark };
        let marked = marked(memory, &mark);
        Some(Known::Loaded(Loaded { text, bias, module, mark, marked }))
    }

    fn add(
        &mut self,
        object: Object,
        text: Range<u32>,
        memory: OwnMemory,
        is_over: &dyn Fn() -> bool,
    ) -> Option<&'static Module> {
        let room = MAX_TABLES.saturating_sub(self.bytes);
        // What is needed while a table is made is no larger than what it is made of.
        let is_room = !super::is_memory_scarce()
            && super::room_for((object.frames.end - object.frames.start) as usize);
        let room = if is_room { room } else { 0 };
        let table = table_of(&object, &text, room, memory, is_over);
        // What was read may be of something else.
        if is_over() {
            return None;
        }
        self.bytes += table.as_ref().map_or(0, CfiTable::bytes);
        self.without_table += u32::from(table.is_none() && cfg!(not(target_arch = "aarch64")));
        self.modules += 1;
        let number = self.modules as u32;
        let module = Box::leak(Box::new(Module::new(number, object, text, table)));
        MODULES[number as usize].store(module, Ordering::Release);
        Some(module)
    }
}

/// A number that depends on all of the memory in this range, as far as there is any.
fn marked(memory: impl ReadMemory, range: &Range<u64>) -> u64 {
    let mut room = [0; 128];
    let mut sum = 0_u64;
    let mut at = range.start;
    while at < range.end {
        let length = ((range.end - at) as usize).min(room.len());
        let piece = memory.copy(at, &mut room[..length]);
        for byte in piece {
            sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if piece.len() < length {
            return !sum;
        }
        at += length as u64;
    }
    sum
}

/// The code of an object, counted from where it is loaded. Frames have 31 bits for it.
fn text_of(object: &Object) -> Option<Range<u32>> {
    let relative = |address: u64| u32::try_from(address.checked_sub(object.bias)?).ok();
    let (start, end) = (relative(object.text.start)?, relative(object.text.end)?);
    (end <= i32::MAX as u32).then_some(start..end)
}

impl Module {
    fn new(number: u32, of: Object, text: Range<u32>, table: Option<CfiTable>) -> Self {
        let (path, build_id) = (of.path.into(), of.build_id.into());
        Self { number, path, build_id, defined: AtomicU64::new(0), text, table }
    }
}

impl Loaded<Box<Module>> {
    /// An object of another process, with its table, if that takes no more than `room` bytes. `None` if it cannot be said
    /// what its code is.
    #[cfg(target_os = "linux")]
    pub(crate) fn elsewhere(
        number: u32,
        object: Object,
        memory: impl ReadMemory,
        room: usize,
        is_over: &dyn Fn() -> bool,
    ) -> Option<Self> {
        let of_module = text_of(&object)?;
        let table = table_of(&object, &of_module, room, memory, is_over);
        let (text, bias) = (object.text.clone(), object.bias);
        let module = Box::new(Module::new(number, object, of_module, table));
        Some(Self { text, bias, module, mark: 0..0, marked: 0 })
    }

    /// How much memory its table takes.
    #[cfg(target_os = "linux")]
    pub(crate) fn bytes(&self) -> usize {
        self.module.table.as_ref().map_or(0, CfiTable::bytes)
    }
}

/// The table of an object with this code; `None` if it has none of the compiler's, or there is no room for it.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn table_of(
    object: &Object,
    text: &Range<u32>,
    room: usize,
    memory: impl ReadMemory,
    is_over: &dyn Fn() -> bool,
) -> Option<CfiTable> {
    let address = object.frames.start.checked_sub(object.bias)?;
    if room == 0 {
        return None;
    }
    super::cfi_table::build(&object.section(memory)?, address, text, room, is_over)
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn table_of(
    _: &Object,
    _: &Range<u32>,
    _: usize,
    _: impl ReadMemory,
    _: &dyn Fn() -> bool,
) -> Option<CfiTable> {
    None
}

#[cfg(all(test, target_os = "linux"))]
#[path = "modules_tests.rs"]
mod tests;
