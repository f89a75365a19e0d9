//! Threads of every kind have stacks.

use super::Patience;
use super::capture;
use super::cfi_table::{Kind, Rule};
use super::modules::Current;
use super::modules::{self, ModuleMap};
use super::stack_memory::{Piece, StackMemory};
use super::trie::{Node, StackId, Trie};
use super::unwind::{Address, Code, MAX_FRAMES, Memory, Registers, here, walk, walk_through};
use crate::fault::{self, Point};
use crate::os::own_memory::{self, OwnMemory};
use lookback_snapshot::wire::{StackEnd, StackSource};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, mpsc};
use std::time::Duration;

pub(super) fn prepared() -> Current {
    Trie::make();
    own_memory::open();
    super::turn(true, true);
    loop {
        modules::refresh(&|| false);
        // Another test may be at it.
        match ModuleMap::current() {
            Some(map) => return map,
            None => std::thread::yield_now(),
        }
    }
}

#[inline(never)]
pub(super) fn recurse(depth: u64, then: &mut dyn FnMut()) -> u64 {
    let room = black_box([depth; 9]);
    if depth == 0 {
        then();
        return 1;
    }
    recurse(depth - 1, then) + room[black_box(3)]
}

/// The addresses of a stack's frames in this program, the innermost first.
fn frames_of(stack: StackId) -> (Vec<u64>, u32) {
    let map = ModuleMap::current().unwrap();
    let program = frames_of as fn(_) -> _ as usize as u64;
    let (module, offset) = map.find(program).unwrap();
    let mut node = stack;
    let mut found = Vec::new();
    loop {
        match Trie::get().unwrap().node(node) {
            Node::Frame { caller, module: number, offset: at } => {
                if number == module.number {
                    found.push(u64::from(at >> 1) + program - u64::from(offset));
                }
                node = caller;
            }
            Node::Root(end) => return (found, end),
        }
    }
}

/// Whether the stack goes through a function, and from there to the thread's begin.
fn leads_through(stack: StackId, function: u64, length: u64) -> bool {
    let (frames, end) = frames_of(stack);
    end == StackEnd::Begin as u32
        && frames.iter().any(|frame| (function..function + length).contains(frame))
}

#[inline(never)]
fn own_stack() -> StackId {
    capture::of_this_thread(here()).unwrap()
}

#[test]
fn a_thread_walks_its_own_stack_to_its_begin_and_the_same_place_has_the_same_number() {
    prepared();
    let stacks: Vec<_> = (0..3).map(|_| own_stack()).collect();
    assert!(stacks.windows(2).all(|pair| pair[0] == pair[1]));
    assert_ne!(own_stack(), stacks[0], "another place");
    assert!(leads_through(stacks[0], own_stack as fn() -> _ as usize as u64, 400));
}

#[inline(never)]
fn waits_on(lock: &Mutex<bool>, changed: &Condvar) {
    let mut is_over = lock.lock().unwrap();
    while !*is_over {
        is_over = changed.wait(is_over).unwrap();
    }
}

#[test]
fn a_thread_that_waits_is_found_where_it_waits() {
    prepared();
    let (lock, changed) = (Mutex::new(false), Condvar::new());
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            tell.send(crate::os::thread::number()).unwrap();
            waits_on(&lock, &changed);
        });
        let thread = told.recv().unwrap();
        let function = waits_on as fn(_, _) as usize as u64;
        let mut seen = Vec::new();
        let is_found = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            let found = super::of_thread(thread, &mut Patience::default());
            seen.push(found);
            matches!(found, (Some(stack), StackSource::Blocked) if leads_through(stack, function, 800))
        });
        *lock.lock().unwrap() = true;
        changed.notify_all();
        assert!(is_found, "{seen:?} {:x?} {function:x}", seen.last().unwrap().0.map(frames_of));
    });
}

#[inline(never)]
fn spins_until(over: &AtomicBool) -> u64 {
    let mut turns = 0;
    while !over.load(Ordering::Relaxed) {
        turns = black_box(turns + 1);
    }
    turns
}

#[test]
fn a_thread_that_runs_is_found_where_it_runs() {
    prepared();
    let over = AtomicBool::new(false);
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            tell.send(crate::os::thread::number()).unwrap();
            spins_until(&over);
        });
        let thread = told.recv().unwrap();
        let function = spins_until as fn(_) -> _ as usize as u64;
        let mut last = None;
        let is_found = (0..500).any(|_| {
            last = Some(super::of_thread(thread, &mut Patience::default()));
            matches!(last, Some((Some(stack), StackSource::Interrupted)) if leads_through(stack, function, 800))
        });
        over.store(true, Ordering::Relaxed);
        assert!(is_found, "{last:?}");
    });
}

/// A thread of the standard library has an alternate stack of 8 KiB, or as much as the kernel needs where that is more.
#[test]
fn the_handler_of_a_running_thread_leaves_most_of_a_small_alternate_stack() {
    const SIZE: usize = 64 << 10;
    const PAINT: u8 = 0xA5;
    prepared();
    let (tell, told) = mpsc::channel();
    let over = AtomicBool::new(false);
    let used = std::thread::scope(|scope| {
        let over = &over;
        let thread = scope.spawn(move || {
            let mut alternate = vec![PAINT; SIZE];
            // SAFETY: memory that lasts as long as a handler may run on it, which this thread's last lines end.
            let before = unsafe {
                let mut before = std::mem::zeroed::<libc::stack_t>();
                let stack = libc::stack_t {
                    ss_sp: alternate.as_mut_ptr().cast(),
                    ss_flags: 0,
                    ss_size: SIZE,
                };
                assert_eq!(libc::sigaltstack(&stack, &mut before), 0);
                before
            };
            tell.send(crate::os::thread::number()).unwrap();
            recurse(50, &mut || {
                spins_until(over);
            });
            // SAFETY: what was there.
            unsafe { libc::sigaltstack(&before, std::ptr::null_mut()) };
            SIZE - alternate.iter().position(|byte| *byte != PAINT).unwrap_or(SIZE)
        });
        let thread_number = told.recv().unwrap();
        let asks = || super::of_thread(thread_number, &mut Patience::default());
        let found = (0..500).any(|_| matches!(asks(), (Some(_), StackSource::Interrupted)));
        over.store(true, Ordering::Relaxed);
        assert!(found);
        thread.join().unwrap()
    });
    // SAFETY: asks only. What the kernel saves, which differs by machine.
    let of_kernel = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    assert!(used > 0 && used < 8 << 10, "{used}");
    let own = used.saturating_sub(of_kernel);
    assert!(of_kernel == 0 || own < 3 << 10, "{own} beyond what the kernel saves");
}

#[test]
fn of_threads_that_do_not_answer_one_is_waited_for() {
    let name = "stack::tests::of_threads_that_do_not_answer_one_is_waited_for";
    crate::testing::alone(name, || {
        prepared();
        fault::hold(Point::Answer, Duration::MAX, 1);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let spin = || {
                let (tell, told) = mpsc::channel();
                let over = &over;
                scope.spawn(move || {
                    tell.send(crate::os::thread::number()).unwrap();
                    spins_until(over);
                });
                told.recv().unwrap()
            };
            let (first, second) = (spin(), spin());
            let mut patience = Patience::default();
            // It has not begun to run on until it does.
            while !matches!(super::of_thread(first, &mut patience), (None, StackSource::NoAnswer)) {
            }
            // It would have to wait for that, too, and sleeps in there if it was asked.
            for _ in 0..3 {
                let (stack, source) = super::of_thread(second, &mut patience);
                assert_eq!((stack, source), (None, StackSource::NoAnswer));
            }
            fault::hold(Point::Answer, Duration::ZERO, 1);
            let asks_again = || super::of_thread(second, &mut Patience::default());
            let found =
                (0..500).any(|_| matches!(asks_again(), (Some(_), StackSource::Interrupted)));
            over.store(true, Ordering::Relaxed);
            assert!(found, "with new patience it is asked");
        });
    });
}

/// A thread on a stack of ours, which blocks.
extern "C" fn blocks_on_a_given_stack(_: *mut libc::c_void) -> *mut libc::c_void {
    let (tell, go_on) = GIVEN_STACK.lock().unwrap().take().unwrap();
    tell.send(crate::os::thread::number()).unwrap();
    let _ = black_box(go_on.recv());
    std::ptr::null_mut()
}

type Channels = (mpsc::Sender<u64>, mpsc::Receiver<()>);
static GIVEN_STACK: Mutex<Option<Channels>> = Mutex::new(None);

#[test]
fn beyond_the_top_of_a_stack_nothing_is_read() {
    prepared();
    let (stack, behind) = (256 << 10, 512 << 10);
    // SAFETY: a mapping of our own, whose upper part is of a file; and a thread whose stack is the lower one.
    let (file, thread, os_thread, go_on) = unsafe {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        let all = stack + behind;
        let anonymous = flags | libc::MAP_ANONYMOUS;
        let low = libc::mmap(std::ptr::null_mut(), all, access, anonymous, -1, 0);
        let file = libc::memfd_create(c"behind".as_ptr(), libc::MFD_CLOEXEC);
        assert_eq!(libc::ftruncate(file, behind as i64), 0);
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let top = low.cast::<u8>().add(stack).cast();
        assert_eq!(libc::mmap(top, behind, access, flags, file, 0), top);
        let (tell, told) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        *GIVEN_STACK.lock().unwrap() = Some((tell, may_go_on));
        let mut attributes = std::mem::zeroed();
        libc::pthread_attr_init(&mut attributes);
        assert_eq!(libc::pthread_attr_setstack(&mut attributes, low, stack), 0);
        let mut thread = std::mem::zeroed();
        let begin = blocks_on_a_given_stack;
        assert_eq!(libc::pthread_create(&mut thread, &attributes, begin, std::ptr::null_mut()), 0);
        (file, thread, told.recv().unwrap(), go_on)
    };
    let found = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        matches!(super::of_thread(os_thread, &mut Patience::default()), (Some(stack), StackSource::Blocked)
            if frames_of(stack).1 == StackEnd::Begin as u32)
    });
    drop(go_on);
    // SAFETY: the thread ends now; and asks of a file what there is of it.
    let blocks = unsafe {
        libc::pthread_join(thread, std::ptr::null_mut());
        let mut about = std::mem::zeroed::<libc::stat>();
        assert_eq!(libc::fstat(file, &mut about), 0);
        about.st_blocks
    };
    assert!(found);
    assert_eq!(blocks, 0, "nobody has touched what lies behind the stack");
}

#[test]
fn a_thread_that_is_gone_has_no_stack_and_says_why() {
    prepared();
    let thread = std::thread::spawn(crate::os::thread::number).join().unwrap();
    assert_eq!(
        super::of_thread(thread, &mut Patience::default()),
        (None, StackSource::NotReadable)
    );
}

#[test]
fn a_walk_of_any_bytes_ends() {
    let map = prepared();
    let memory = OwnMemory::get().unwrap();
    let mut seed = 7_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let code = a_walk_of_any_bytes_ends as fn() as usize as u64;
    for _ in 0..3000 {
        let mut words: Vec<u64> = (0..64).map(|_| next()).collect();
        let start = words.as_ptr() as u64;
        for word in &mut words {
            match *word % 3 {
                0 => *word = start + *word % 512 / 8 * 8,
                1 => *word = code.wrapping_add(*word % 0x10_0000).wrapping_sub(0x8_0000),
                _ => {}
            }
        }
        let piece = Piece::new();
        let stack = StackMemory::new(memory, start, &piece);
        let from = Registers { pc: words[0], sp: start, fp: Some(words[1]) };
        let mut frames = [Address::default(); MAX_FRAMES];
        assert!(walk(&map, &stack, from, &mut frames).0 >= 1);
    }
}

/// Code with frame pointers in one page, and a stack from 0 on.
struct FramePointers;

impl Code for FramePointers {
    fn rule(&self, address: u64) -> Rule {
        match address {
            0x1000..0x2000 => Rule::FRAME_POINTER,
            0x2000..0x3000 => Rule::BEGIN,
            _ => Rule::UNKNOWN,
        }
    }

    fn frame_setup(&self, _: u64) -> Option<u64> {
        None
    }
}

impl Memory for &[u64] {
    fn word(&self, at: u64) -> Option<u64> {
        self.get(at as usize / 8).copied()
    }

    fn is_behind_call<C: Code>(&self, map: &C, address: u64) -> bool {
        map.rule(address).kind() != Kind::Unknown && address.is_multiple_of(2)
    }
}

/// The frames from code that was made at run time on, and why there are no more.
fn from_generated_code(stack: &[u64]) -> (Vec<u64>, StackEnd) {
    let from = Registers { pc: 0x9_0000, sp: 0, fp: Some(16) };
    let mut frames = [Address::default(); 8];
    let (count, end) = walk_through(&FramePointers, &stack, from, &mut frames);
    (frames[..count].iter().map(|frame| frame.get()).collect(), end)
}

#[test]
fn nothing_is_said_behind_a_false_guess_of_how_to_leave_generated_code() {
    let right = [0, 0, 32, 0x1100, 48, 0x1200, 0, 0x2200];
    let whole = vec![0x9_0000, 0x1100, 0x1200, 0x2200];
    assert_eq!(from_generated_code(&right), (whole, StackEnd::Begin));
    let leaves_the_stack = [0, 0, 32, 0x1100, 1 << 20, 0x1200, 0, 0x2200];
    let nowhere_a_call = [0, 0, 32, 0x1101, 48, 0x1200, 0, 0x2200];
    for stack in [leaves_the_stack, nowhere_a_call] {
        assert_eq!(from_generated_code(&stack), (vec![0x9_0000], StackEnd::UnknownCode));
    }
    // One caller further, also generated.
    let generated = [0, 0, 32, 0x9_1100, 48, 0x1200, 0, 0x2200];
    let whole = vec![0x9_0000, 0x9_1100, 0x1200, 0x2200];
    assert_eq!(from_generated_code(&generated), (whole, StackEnd::Begin));
}

#[test]
fn no_memory_is_taken_that_the_machine_does_not_have() {
    assert!(super::room_for(1));
    assert!(!super::room_for(1 << 50));
}
