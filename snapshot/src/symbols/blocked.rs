//! What the threads of a process wait for, and who keeps them waiting: from stacks that were taken from outside.
//!
//! The kernel says which word of memory a thread waits for; the names of the functions on its stack say what that is: a
//! lock, a condition, the end of a thread. Who holds a lock is known of a mutex of the C library, which notes its owner. A
//! mutex of the standard library does not. Then a thread is suspected that has the mutex's address on its stack, as a guard
//! has it: no certainty, and where several threads have it, nothing is said, unless all of these wait in turn for the one
//! that waits for the mutex. A thread that waits for a lock of `parking_lot` waits for a word of its own, which says nothing
//! of the lock.

use super::{Location, Symbolizer};
use crate::wire::{ProcessStacks, ThreadAt, WaitsOn};
use std::collections::HashMap;
use std::rc::Rc;

/// So many different frames get names: more take seconds.
const MOST_NAMES: usize = 100_000;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitKind {
    /// A mutex, or another lock.
    Lock,
    /// A condition variable.
    Condition,
    /// The end of another thread.
    Join,
    /// To be unparked.
    Park,
    /// A time.
    Sleep,
    /// What a descriptor stands for.
    File,
    /// Something else in the kernel, or nothing that is known.
    Other,
}

impl WaitKind {
    /// In words: `waits for …`.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Lock => "a lock",
            Self::Condition => "a condition",
            Self::Join => "the end of a thread",
            Self::Park => "being unparked",
            Self::Sleep => "a time",
            Self::File => "a file",
            Self::Other => "something unknown",
        }
    }
}

/// A thread that keeps another one waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Holder {
    /// Its index.
    pub thread: usize,
    /// Whether that is certain: the lock itself says so. Else the thread has the lock's address on its stack.
    pub is_certain: bool,
}

/// What is known of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wait {
    /// What it waits for; `None` if it does not wait, or has no stack.
    pub kind: Option<WaitKind>,
    /// The word of memory that it waits for; `None` if that is not part of what it waits for.
    pub address: Option<u64>,
    /// Who keeps it waiting.
    pub holder: Option<Holder>,
    /// The innermost function of the service, that is: of no library that services are built on.
    pub place: Option<Location>,
    /// Whether it waits for a message of a channel.
    pub(crate) receives: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Blocked {
    /// Of each thread.
    pub waits: Vec<Wait>,
    /// Threads that wait for each other, each for the next one and the last one for the first.
    pub circles: Vec<Vec<usize>>,
}

/// The names of frames, each looked up once.
pub struct FrameNames<'a> {
    stacks: &'a ProcessStacks,
    symbolizer: &'a mut Symbolizer,
    known: HashMap<u32, Rc<[Location]>>,
}

impl<'a> FrameNames<'a> {
    /// Those of these stacks.
    pub fn new(stacks: &'a ProcessStacks, symbolizer: &'a mut Symbolizer) -> Self {
        Self { stacks, symbolizer, known: HashMap::new() }
    }

    /// The functions of each frame of a thread's stack, innermost first.
    pub fn of(&mut self, thread: &ThreadAt) -> Vec<Rc<[Location]>> {
        let (mut at, mut found) = (thread.stack, Vec::new());
        for frame in self.stacks.frames_of(thread) {
            let names = match self.known.get(&at) {
                Some(known) => Rc::clone(known),
                None if self.known.len() >= MOST_NAMES => Rc::new([]),
                None => {
                    let names: Rc<[_]> = self.symbolizer.locations(&frame).into();
                    self.known.insert(at, Rc::clone(&names));
                    names
                }
            };
            found.push(names);
            at = self.stacks.frames.get(at as usize - 1).map_or(0, |frame| frame.caller);
        }
        found
    }
}

impl Blocked {
    /// What is known of these threads.
    #[must_use]
    pub fn of(names: &mut FrameNames<'_>) -> Self {
        let stacks = names.stacks;
        let mut found = Self::default();
        for thread in &stacks.threads {
            let functions = names.of(thread);
            let functions = || functions.iter().flat_map(|of| of.iter());
            let own = functions().find(|location| location.is_of_service());
            let place =
                own.or_else(|| functions().find(|location| !location.is_foreign())).cloned();
            // What the service's own functions are called says nothing.
            let foreign = functions().take_while(|location| location.is_foreign());
            let foreign = foreign.map(|location| location.function.whole());
            let kind = kind_of(thread, foreign.clone());
            let is_word_of_lock = !foreign.clone().any(|name| name.contains("parking_lot"));
            let address = match thread.waits.on {
                WaitsOn::Futex { address, .. } if is_word_of_lock => Some(address),
                _ => None,
            };
            let receives = kind == Some(WaitKind::Park) && foreign.clone().any(is_of_channel);
            found.waits.push(Wait { kind, address, holder: None, place, receives });
        }
        let numbers: HashMap<u64, usize> =
            stacks.threads.iter().enumerate().map(|(at, of)| (of.os_thread, at)).collect();
        let users = |of: fn(&ThreadAt) -> &[u64]| {
            let mut users: HashMap<u64, Vec<usize>> = HashMap::new();
            for (at, thread) in stacks.threads.iter().enumerate() {
                of(thread).iter().for_each(|address| users.entry(*address).or_default().push(at));
            }
            users
        };
        let (on_stack, in_code) = (users(|thread| &thread.refers), users(|thread| &thread.uses));
        for (at, thread) in stacks.threads.iter().enumerate() {
            let WaitsOn::Futex { word, owner, .. } = thread.waits.on else { continue };
            // The word itself says nothing of a lock's owner: it may be a number of readers, or of wakes.
            let certain = match found.waits[at].kind {
                // The kernel clears the word, which is the thread's number, when that has ended.
                Some(WaitKind::Join) => Some(word),
                Some(WaitKind::Lock) if is_of_c(names, thread) => owner,
                _ => None,
            };
            let certain = certain.and_then(|number| numbers.get(&u64::from(number)));
            let holder = certain.map(|thread| Holder { thread: *thread, is_certain: true });
            let is_lock = found.waits[at].kind == Some(WaitKind::Lock);
            let suspected = |users: &HashMap<u64, Vec<usize>>| {
                suspect(users.get(&found.waits[at].address?)?, &found.waits)
            };
            let suspect =
                || is_lock.then(|| suspected(&on_stack).or_else(|| suspected(&in_code)))?;
            found.waits[at].holder = holder.or_else(suspect);
        }
        close(&on_stack, &mut found.waits);
        found.circles = circles(&found.waits);
        found
    }
}

/// Whether a mutex of the C library is waited for.
fn is_of_c(names: &mut FrameNames<'_>, thread: &ThreadAt) -> bool {
    let functions = names.of(thread);
    let mut functions = functions.iter().take(4).flat_map(|of| of.iter());
    functions.any(|location| location.function.whole().contains("pthread_mutex"))
}

/// The one of these that is suspected.
fn suspect(users: &[usize], waits: &[Wait]) -> Option<Holder> {
    // A thread that waits for others to end, or for work, mostly has an address only to hand it on.
    let rank = |at: usize| match waits[at].kind {
        Some(WaitKind::Lock | WaitKind::Sleep | WaitKind::File | WaitKind::Other) | None => 0,
        Some(WaitKind::Condition | WaitKind::Park) => 1,
        Some(WaitKind::Join) => 2,
    };
    let first = users.iter().map(|at| rank(*at)).min()?;
    let mut first = users.iter().filter(|at| rank(**at) == first);
    let (Some(one), None) = (first.next(), first.next()) else { return None };
    // It is no better than one that waits for work if it, too, only waits.
    let is_parked = |at: &usize| waits[*at].kind == Some(WaitKind::Park);
    let is_doubtful = waits[*one].kind == Some(WaitKind::Lock) && users.iter().any(is_parked);
    (!is_doubtful).then_some(Holder { thread: *one, is_certain: false })
}

/// Of a lock that several threads have on their stacks one of those is the holder. If each of them waits in turn for the
/// thread that waits for this lock, then it is a circle, whoever that is. It is taken to be the one whom nobody else is
/// known to wait for.
fn close(on_stack: &HashMap<u64, Vec<usize>>, waits: &mut [Wait]) {
    let is_open = |wait: &Wait| wait.kind == Some(WaitKind::Lock) && wait.holder.is_none();
    let open: Vec<usize> = (0..waits.len()).filter(|at| is_open(&waits[*at])).collect();
    for at in open.into_iter().take(MOST_CLOSED) {
        let users = waits[at].address.and_then(|address| on_stack.get(&address));
        let Some(users) = users.filter(|users| users.len() <= MOST_CLOSED) else { continue };
        let leads_here = |from: &usize| {
            let next = |from: &usize| waits[*from].holder.map(|holder| holder.thread);
            std::iter::successors(Some(*from), next).take(waits.len()).any(|of| of == at)
        };
        if users.iter().all(leads_here) {
            let is_waited_for =
                |of: usize| waits.iter().any(|wait| wait.holder.is_some_and(|it| it.thread == of));
            let mut others = users.iter().filter(|of| !is_waited_for(**of));
            if let (Some(one), None) = (others.next(), others.next()) {
                let holder = Holder { thread: *one, is_certain: false };
                let address = waits[at].address;
                let same = waits.iter_mut().filter(|wait| is_open(wait) && wait.address == address);
                same.for_each(|wait| wait.holder = Some(holder));
            }
        }
    }
}

/// More locks, and more threads that have one of them on their stacks, are not looked through.
const MOST_CLOSED: usize = 64;

/// The circles of threads that wait for the next one's lock.
fn circles(waits: &[Wait]) -> Vec<Vec<usize>> {
    let next = |at: usize| waits[at].holder.map(|holder| holder.thread);
    // Each thread waits for one at most, so each is in one circle at most.
    let mut seen = vec![0; waits.len()];
    let mut found = Vec::new();
    for begin in 0..waits.len() {
        let (mut at, mut way) = (begin, Vec::new());
        while seen[at] == 0 {
            seen[at] = begin + 1;
            way.push(at);
            match next(at) {
                Some(next) => at = next,
                None => break,
            }
        }
        let closes = next(*way.last().unwrap_or(&begin)) == Some(at) && seen[at] == begin + 1;
        if let Some(first) = way.iter().position(|of| *of == at).filter(|_| closes) {
            found.push(way.split_off(first));
        }
    }
    found
}

fn kind_of<'n>(
    thread: &ThreadAt,
    functions: impl Iterator<Item = &'n str> + Clone,
) -> Option<WaitKind> {
    match thread.waits.on {
        _ if thread.waits.call.is_empty() => return None,
        WaitsOn::Time => return Some(WaitKind::Sleep),
        WaitsOn::File { .. } => return Some(WaitKind::File),
        WaitsOn::Futex { .. } => {}
        _ => return Some(WaitKind::Other),
    }
    let kind = kind_by_names(functions.clone()).unwrap_or(WaitKind::Other);
    // The end of a scope parks until its threads have ended.
    let is_of_scope = |name: &str| name.contains("thread::scoped");
    let joins = kind == WaitKind::Park && functions.take(MOST_DEEP).any(is_of_scope);
    Some(if joins { WaitKind::Join } else { kind })
}

/// Whether a function is one of a channel between threads.
fn is_of_channel(name: &str) -> bool {
    ["sync::mpsc", "sync::mpmc", "crossbeam_channel", "flume"].iter().any(|of| name.contains(of))
}

/// What a thread waits for by the functions that it is in, innermost first.
fn kind_by_names<'n>(functions: impl Iterator<Item = &'n str>) -> Option<WaitKind> {
    /// Parts of the names of functions that say what is waited for.
    const SAID: [(&str, WaitKind); 19] = [
        ("pthread_cond", WaitKind::Condition),
        ("Condvar", WaitKind::Condition),
        ("pthread_join", WaitKind::Join),
        ("pthread_clockjoin", WaitKind::Join),
        ("JoinInner", WaitKind::Join),
        ("JoinHandle", WaitKind::Join),
        ("thread::park", WaitKind::Park),
        ("thread::functions::park", WaitKind::Park),
        ("Thread::park", WaitKind::Park),
        ("thread_parking", WaitKind::Park),
        ("pthread_mutex", WaitKind::Lock),
        ("pthread_rwlock", WaitKind::Lock),
        ("lll_lock_wait", WaitKind::Lock),
        ("Mutex", WaitKind::Lock),
        ("RwLock", WaitKind::Lock),
        ("lock_slow", WaitKind::Lock),
        ("_contended", WaitKind::Lock),
        // Not `FnOnce::call_once`, which every thread begins with.
        ("::Once::call", WaitKind::Lock),
        ("::Once::wait", WaitKind::Lock),
    ];
    functions
        .take(MOST_DEEP)
        .find_map(|name| SAID.iter().find(|(part, _)| name.contains(part)).map(|(_, kind)| *kind))
}

/// Locks are found so near the innermost function.
const MOST_DEEP: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_parks_near_its_begin_waits_for_no_lock() {
        let begin = ["syscall", "core::ops::function::FnOnce::call_once{{vtable.shim}}", "clone3"];
        assert_eq!(kind_by_names(begin.into_iter()), None);
        let parks = ["syscall", "std::thread::functions::park_timeout", begin[1]];
        assert_eq!(kind_by_names(parks.into_iter()), Some(WaitKind::Park));
        let once = ["syscall", "std::sys::sync::once::futex::Once::call", begin[1]];
        assert_eq!(kind_by_names(once.into_iter()), Some(WaitKind::Lock));
    }

    fn waits(kind: Option<WaitKind>, address: u64, holder: Option<usize>) -> Wait {
        let holder = holder.map(|thread| Holder { thread, is_certain: false });
        Wait { kind, address: Some(address), holder, place: None, receives: false }
    }

    #[test]
    fn one_that_only_waits_for_a_lock_is_not_suspected_if_a_parked_one_has_it_too() {
        let lock = || waits(Some(WaitKind::Lock), 1, None);
        let of = |kinds: [Option<WaitKind>; 2], users: &[usize]| {
            let all = [lock(), waits(kinds[0], 2, None), waits(kinds[1], 3, None)];
            suspect(users, &all).map(|holder| holder.thread)
        };
        assert_eq!(of([Some(WaitKind::Lock), Some(WaitKind::Park)], &[1, 2]), None);
        assert_eq!(of([Some(WaitKind::Lock), Some(WaitKind::Park)], &[1]), Some(1));
        // A scope's end only waits for its threads; a condition's mutex is on the stack of who waits for it.
        assert_eq!(of([Some(WaitKind::Lock), Some(WaitKind::Join)], &[1, 2]), Some(1));
        assert_eq!(of([Some(WaitKind::Lock), Some(WaitKind::Condition)], &[1, 2]), Some(1));
        assert_eq!(of([Some(WaitKind::Sleep), Some(WaitKind::Park)], &[1, 2]), Some(1));
        assert_eq!(of([None, Some(WaitKind::Park)], &[1, 2]), Some(1));
    }

    #[test]
    fn a_circle_is_closed_if_every_possible_holder_waits_for_the_one_that_waits() {
        let lock = |address, holder| waits(Some(WaitKind::Lock), address, holder);
        // 0 waits for 1, that for 2, and that for a lock that any of 0 and 1 may hold.
        let mut all = vec![lock(1, Some(1)), lock(2, Some(2)), lock(3, None)];
        close(&HashMap::from([(3, vec![0, 1])]), &mut all);
        assert_eq!(all[2].holder, Some(Holder { thread: 0, is_certain: false }));
        assert_eq!(circles(&all), [[0, 1, 2]]);
        // Another one, which waits for nobody, may hold it.
        all[2].holder = None;
        all.push(waits(Some(WaitKind::Sleep), 4, None));
        close(&HashMap::from([(3, vec![0, 1, 3])]), &mut all);
        assert_eq!(all[2].holder, None);
    }
}
