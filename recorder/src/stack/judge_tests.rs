//! At whatever instruction a thread is interrupted, the walk by our tables finds what framehop finds, which reads the
//! compiler's own: in Rust and C, in assembly whose stack is aligned, in ring's, on a stack that `stacker` has changed to,
//! and in a handler of a signal.

use super::capture;
use super::modules::Current;
use super::own_stack;
use super::stack_memory::{Piece, StackMemory};
use super::tests::{prepared, recurse};
use super::unwind::{Address, here, walk};
use crate::os::loaded_code;
use crate::os::own_memory::OwnMemory;
use crate::os::read_memory::ReadMemory;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, Module, MustNotAllocateDuringUnwind, Unwinder};
use lookback_snapshot::wire::StackEnd;
use ring::{aead, digest, hmac, signature};
use std::cell::{Cell, UnsafeCell};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

type Judge = UnwinderX86_64<Vec<u8>, MustNotAllocateDuringUnwind>;
type JudgeCache = CacheX86_64<MustNotAllocateDuringUnwind>;

/// The judge, with its own view of what is loaded.
fn judge() -> Judge {
    let mut judge = UnwinderX86_64::new();
    let memory = OwnMemory::get().unwrap();
    for object in loaded_code::list(memory, 100).unwrap().1 {
        let Some(section) = object.section(memory) else { continue };
        let (text, bias, frames) =
            (object.text, object.bias, (object.frames.start, section.to_vec()));
        let relative = |at: u64| at - bias;
        let sections = ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: Some(relative(text.start)..relative(text.end)),
            eh_frame_svma: Some(relative(frames.0)..relative(frames.0) + frames.1.len() as u64),
            eh_frame: Some(frames.1),
            ..Default::default()
        };
        judge.add_module(Module::new(object.path, text, bias, sections));
    }
    judge
}

fn mapping_of(address: u64) -> Range<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    let ranges = maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-'));
    let mut ranges = ranges.map(|(start, end)| number(start)..number(end));
    ranges.find(|range| range.contains(&address)).unwrap()
}

/// The outermost frames, which all stacks of a thread share.
const OUTERMOST: usize = 6;

/// What an interrupted thread needs to compare, and what it has found.
struct Compared {
    judge: Judge,
    cache: UnsafeCell<JudgeCache>,
    /// The thread's own stack, which can be read without the kernel.
    own: Range<u64>,
    map: Current,
    memory: OwnMemory,
    outermost: [Cell<u64>; OUTERMOST],
    alarm: Alarm,
}

/// Interrupts its thread when so much time has passed, once.
struct Alarm {
    timer: libc::timer_t,
    /// Changes with each time, so that no two pauses are alike.
    seed: Cell<u32>,
}

impl Alarm {
    /// For the calling thread.
    fn new(signal: libc::c_int) -> Self {
        // SAFETY: all zeroes are a valid event, and the places are valid.
        unsafe {
            let mut event = std::mem::zeroed::<libc::sigevent>();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_notify_thread_id = crate::os::thread::number() as libc::c_int;
            let mut timer = std::mem::zeroed();
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer), 0);
            Self { timer, seed: Cell::new(event.sigev_notify_thread_id.cast_unsigned()) }
        }
    }

    /// Soon, but not before the thread has got on. Called by the handler, too.
    fn set(&self) {
        self.seed.set(self.seed.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let pause = 30_000 + libc::c_long::from(self.seed.get() >> 15);
        // SAFETY: the timer is there, and a handler may set one.
        unsafe {
            let mut setting = std::mem::zeroed::<libc::itimerspec>();
            setting.it_value.tv_nsec = pause;
            libc::timer_settime(self.timer, 0, &setting, std::ptr::null_mut());
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and gone from now on.
        unsafe { libc::timer_delete(self.timer) };
    }
}

thread_local! {
    /// Null on a thread that is not to be interrupted, or not yet.
    static COMPARED: Cell<*const Compared> = const { Cell::new(std::ptr::null()) };
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Anything,
    Assembly,
    Ring,
    OnOtherStack,
    Handling,
}

thread_local! {
    static DOING: Cell<Doing> = const { Cell::new(Doing::Anything) };
}

fn doing<T>(what: Doing, work: impl FnOnce() -> T) -> T {
    DOING.set(what);
    let done = work();
    DOING.set(Doing::Anything);
    done
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Both walks have the same frames, down to the thread's begin.
    Equal,
    /// The judge does not evaluate a rule, or does not know what a signal has interrupted; ours goes on, down to the
    /// thread's begin.
    Further,
    /// What the code's rules are cannot be said in our table, and the walk says so.
    Unsaid,
    /// The thread has changed to another stack, and the walk says that it ends there.
    OtherStack,
    Different,
}

/// How many walks there were of each verdict, by what the thread was doing.
static COUNTS: [[AtomicU64; 5]; 5] = [const { [const { AtomicU64::new(0) }; 5] }; 5];
static DEEPEST: AtomicU64 = AtomicU64::new(0);
static DIFFERENT: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn count(verdict: Verdict, doing: Doing) -> u64 {
    COUNTS[verdict as usize][doing as usize].load(Ordering::Relaxed)
}

fn total(verdict: Verdict) -> u64 {
    COUNTS[verdict as usize].iter().map(|count| count.load(Ordering::Relaxed)).sum()
}

/// The same two walks, from where a signal has interrupted the thread.
extern "C" fn compare(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: it is null, or what this thread has put there, and takes back before that ends.
    let Some(with) = (unsafe { COMPARED.get().as_ref() }) else { return };
    let doing = DOING.get();
    let verdict = verdict_at(with, doing, context);
    COUNTS[verdict as usize][doing as usize].fetch_add(1, Ordering::Relaxed);
    with.alarm.set();
}

fn verdict_at(with: &Compared, doing: Doing, context: *mut libc::c_void) -> Verdict {
    // SAFETY: what the handler was given.
    let from = unsafe { capture::registers_in(context) };
    let piece = Piece::new();
    let stack = StackMemory::of_this_thread(with.memory, from.sp, &piece);
    let mut frames = [Address::default(); 1000];
    let (count, end) = walk(&with.map, &stack, from, &mut frames);
    let frames = &frames[..count];
    // SAFETY: only this thread is here, and no handler interrupts itself.
    let cache = unsafe { &mut *with.cache.get() };
    let mut read = |at: u64| {
        let word = [Cell::new(0)];
        let is_read = if !at.is_multiple_of(8) {
            false
        } else if with.own.contains(&at) {
            // SAFETY: it lies on the thread's stack.
            word[0].set(unsafe { (at as *const u64).read_volatile() });
            true
        } else {
            with.memory.words(at, &word) == 1
        };
        if is_read { Ok(word[0].get()) } else { Err(()) }
    };
    let registers = UnwindRegsX86_64::new(from.pc, from.sp, from.fp.unwrap());
    let mut judged = with.judge.iter_frames(from.pc, registers, cache, &mut read);
    let mut judged = std::iter::from_fn(|| judged.next().ok().flatten());
    let (mut same, mut other) = (0, None);
    for frame in frames {
        match judged.next() {
            Some(found) if found.address() == frame.get() => same += 1,
            found => {
                other = found.map(|found| found.address());
                break;
            }
        }
    }
    let outermost = frames.iter().rev().map(|frame| frame.get()).zip(&with.outermost);
    let leads_to_begin = || {
        count > OUTERMOST
            && outermost.clone().all(|(frame, known)| [0, frame].contains(&known.get()))
    };
    let is_assembly = matches!(doing, Doing::Assembly | Doing::Ring);
    // What a signal has interrupted, the judge takes for what a call returns to. A rule that it does not evaluate it
    // replaces by that of frame pointers, of which assembly has none.
    let interrupted = frames.iter().skip(1).position(|frame| frame.is_exact());
    let is_guessed = is_assembly && same == 1 || interrupted.is_some_and(|at| same > at);
    let is_judged = other.is_some() && !is_guessed;
    match end {
        StackEnd::Begin if same == count => {
            DEEPEST.fetch_max(count as u64, Ordering::Relaxed);
            outermost.for_each(|(frame, known)| known.set(frame));
            return Verdict::Equal;
        }
        StackEnd::Begin if !is_judged && leads_to_begin() => return Verdict::Further,
        StackEnd::Unsaid if same == count && is_assembly => return Verdict::Unsaid,
        StackEnd::OffStack if same == count && doing == Doing::OnOtherStack => {
            return Verdict::OtherStack;
        }
        _ => {}
    }
    if let Ok(mut different) = DIFFERENT.try_lock() {
        let place = |address: u64| match with.map.find(address) {
            Some((module, at)) => format!("{}+{at:#x}", module.path),
            None => format!("{address:#x}"),
        };
        let near = frames.iter().enumerate().skip(same.saturating_sub(3)).take(8);
        let own: Vec<_> =
            near.map(|(at, frame)| (at, place(frame.get()), frame.is_exact())).collect();
        let other = other.map(place);
        different.push(format!(
            "{doing:?}, {end:?}: {same} of {count} the same, then {other:?}: {own:#?}"
        ));
    }
    Verdict::Different
}

#[inline(never)]
fn generic<T: Copy + Into<u64>>(value: T, with: impl Fn(u64) -> u64) -> u64 {
    (0..40).map(|i| with(value.into() ^ i)).fold(0, u64::wrapping_add)
}

extern "C" fn by_value(a: *const libc::c_void, b: *const libc::c_void) -> libc::c_int {
    // SAFETY: `qsort` is given an array of these.
    let (a, b) = unsafe { (*a.cast::<u32>(), *b.cast::<u32>()) };
    black_box(a.cmp(&b) as libc::c_int)
}

fn sorted_in_c() {
    let mut numbers: Vec<u32> = (0..300_u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
    // SAFETY: an array of so many, and a function that compares two of them.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), numbers.len(), 4, Some(by_value)) };
    assert!(numbers.is_sorted());
}

// Assembly as OpenSSL's, and so ring's: all registers are in use, the stack is aligned, and the frame's end stems from
// an address that was put there.
core::arch::global_asm!(
    ".globl lookback_test_aligned",
    ".type lookback_test_aligned,@function",
    "lookback_test_aligned:",
    ".cfi_startproc",
    "mov rax, rsp",
    ".cfi_def_cfa_register rax",
    "push rbx",
    ".cfi_offset rbx, -16",
    "push rbp",
    ".cfi_offset rbp, -24",
    "sub rsp, 144",
    "and rsp, -64",
    "mov [rsp + 128], rax",
    ".cfi_escape 0x0f, 6, 0x77, 0x80, 1, 0x06, 0x23, 8",
    "2:",
    "add rbp, rdi",
    "imul rbx, rbp",
    "dec rdi",
    "jnz 2b",
    "mov rax, rbx",
    "mov rsi, [rsp + 128]",
    ".cfi_def_cfa rsi, 8",
    "mov rbp, [rsi - 16]",
    ".cfi_restore rbp",
    "mov rbx, [rsi - 8]",
    ".cfi_restore rbx",
    "lea rsp, [rsi]",
    ".cfi_def_cfa_register rsp",
    "ret",
    ".cfi_endproc",
    ".size lookback_test_aligned, . - lookback_test_aligned",
);

unsafe extern "C" {
    #[link_name = "lookback_test_aligned"]
    fn aligned(rounds: u64) -> u64;
}

/// Everything of ring whose assembly has a stack frame.
struct OfRing {
    key: signature::Ed25519KeyPair,
    ecdsa: signature::EcdsaKeyPair,
    random: ring::rand::SystemRandom,
    text: Vec<u8>,
}

impl OfRing {
    fn new() -> Self {
        let random = ring::rand::SystemRandom::new();
        let curve = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = signature::EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
        Self {
            key: signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(),
            ecdsa: signature::EcdsaKeyPair::from_pkcs8(curve, document.as_ref(), &random).unwrap(),
            random,
            text: vec![3; 4000],
        }
    }

    fn compute(&self, round: usize) {
        match round % 6 {
            0 => _ = black_box(digest::digest(&digest::SHA256, &self.text)),
            1 => _ = black_box(digest::digest(&digest::SHA512, &self.text)),
            2 => {
                let key = hmac::Key::new(hmac::HMAC_SHA384, &[1; 48]);
                black_box(hmac::sign(&key, &self.text));
            }
            3 => {
                for algorithm in [&aead::AES_256_GCM, &aead::CHACHA20_POLY1305] {
                    let key = aead::UnboundKey::new(algorithm, &[5; 32]).unwrap();
                    let nonce = aead::Nonce::assume_unique_for_key([0; 12]);
                    let mut text = self.text.clone();
                    let key = aead::LessSafeKey::new(key);
                    key.seal_in_place_append_tag(nonce, aead::Aad::empty(), &mut text).unwrap();
                }
            }
            4 => _ = black_box(self.key.sign(&self.text)),
            _ => _ = black_box(self.ecdsa.sign(&self.random, &self.text).unwrap()),
        }
    }
}

extern "C" fn handles(_: libc::c_int) {
    let before = DOING.replace(Doing::Handling);
    recurse(5, &mut sorted_in_c);
    DOING.set(before);
}

/// Where the handler of `compare` runs, and the one of above. The judge needs more than the usual one has.
fn use_alternate_stack(bytes: &mut [u8]) -> libc::stack_t {
    let stack =
        libc::stack_t { ss_sp: bytes.as_mut_ptr().cast(), ss_flags: 0, ss_size: bytes.len() };
    // SAFETY: memory that lasts as long as a handler may run on it: the caller changes back before it ends.
    unsafe {
        let mut before = std::mem::zeroed::<libc::stack_t>();
        assert_eq!(libc::sigaltstack(&stack, &mut before), 0);
        before
    }
}

fn handle(signal: libc::c_int, handler: usize) {
    // SAFETY: a valid structure.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// What is interrupted: something of everything, again and again.
fn work(over: &AtomicBool, signal: libc::c_int) {
    let (ring, mut texts) = (OfRing::new(), Vec::new());
    for round in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        recurse(200, &mut sorted_in_c);
        // SAFETY: it does nothing but compute.
        doing(Doing::Assembly, || black_box(unsafe { aligned(20_000) }));
        doing(Doing::Ring, || ring.compute(round));
        let factor = black_box(3);
        generic(7_u32, |i| generic(i, |j| j * factor));
        doing(Doing::OnOtherStack, || {
            stacker::grow(256 << 10, || {
                recurse(20, &mut sorted_in_c);
                stacker::grow(256 << 10, sorted_in_c);
            });
        });
        // SAFETY: sends a signal to this thread, which has a handler for it.
        unsafe { libc::pthread_kill(libc::pthread_self(), signal) };
        texts.extend((0..50).map(|i| format!("{i:?} {:.3}", i as f64)));
        texts.sort_unstable();
        texts.clear();
        let _ = std::fs::metadata("/proc/self");
        let _ = std::panic::catch_unwind(|| black_box(Instant::now()).elapsed());
    }
}

/// Works until it is over, and is interrupted all the time.
fn is_interrupted(over: &AtomicBool, signal: libc::c_int, own_signal: libc::c_int) {
    let map = prepared();
    own_stack::note();
    let here = 0_u8;
    let compared = Compared {
        judge: judge(),
        cache: UnsafeCell::new(JudgeCache::new_in()),
        own: mapping_of(std::ptr::from_ref(&here) as u64),
        map,
        memory: OwnMemory::get().unwrap(),
        outermost: [const { Cell::new(0) }; OUTERMOST],
        alarm: Alarm::new(signal),
    };
    let mut alternate = vec![0_u8; 1 << 20];
    let before = use_alternate_stack(&mut alternate);
    COMPARED.set(&compared);
    compared.alarm.set();
    work(over, own_signal);
    COMPARED.set(std::ptr::null());
    drop(compared);
    // SAFETY: what was there.
    unsafe { libc::sigaltstack(&before, std::ptr::null_mut()) };
}

#[test]
fn at_any_instruction_the_stack_is_what_framehop_finds() {
    /// Interruptions, however long they take; the deadline is for a machine where they hardly ever come to pass.
    const WANTED: u64 = 10_000;
    const DEADLINE: Duration = Duration::from_secs(600);
    let over = AtomicBool::new(false);
    let (signal, own_signal) = (libc::SIGRTMIN() + 7, libc::SIGRTMIN() + 8);
    handle(signal, compare as *const () as usize);
    handle(own_signal, handles as *const () as usize);
    let compared = || total(Verdict::Equal) + total(Verdict::Further);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| is_interrupted(&over, signal, own_signal));
        }
        let began = Instant::now();
        while compared() < WANTED
            && DIFFERENT.lock().unwrap().is_empty()
            && began.elapsed() < DEADLINE
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        over.store(true, Ordering::Relaxed);
    });
    let different = DIFFERENT.lock().unwrap();
    assert!(different.is_empty(), "{different:#?}");
    let verdicts = [Verdict::Equal, Verdict::Further, Verdict::Unsaid, Verdict::OtherStack];
    for verdict in verdicts {
        let of = |doing| (doing, count(verdict, doing));
        use Doing::{Anything, Assembly, Handling, OnOtherStack, Ring};
        let counts = [Anything, Assembly, Ring, OnOtherStack, Handling].map(of);
        eprintln!("{verdict:?}: {} {counts:?}", total(verdict));
    }
    assert!(compared() >= WANTED, "{}", compared());
    assert!(DEEPEST.load(Ordering::Relaxed) > 200);
    for doing in [Doing::Assembly, Doing::Ring, Doing::OnOtherStack, Doing::Handling] {
        assert!(verdicts.iter().any(|verdict| count(*verdict, doing) > 0), "{doing:?}");
    }
    // Where it is known what the outermost frames are, the walk gets there but for a few instructions.
    let unsaid = total(Verdict::Unsaid);
    assert!(unsaid * 50 < compared() && total(Verdict::Different) == 0, "{unsaid}");
}

/// What the clock instruction, our walk and framehop's take, in turns: `cargo test --release -p lookback-recorder --lib
/// -- --ignored --nocapture what_a_walk_costs`. In a build with `-C force-frame-pointers=yes` also what it takes to follow
/// these.
#[test]
#[ignore = "prints what it measures"]
fn what_a_walk_costs() {
    const ROUNDS: usize = 301;
    const WALKS: u32 = 50;
    let map = prepared();
    own_stack::note();
    let memory = OwnMemory::get().unwrap();
    let (judge, mut cache) = (judge(), JudgeCache::new_in());
    println!("| frames | clock | table | framehop | frame pointers |\n|---|---|---|---|---|");
    for depth in [10, 30] {
        let mut then = || {
            let from = here();
            let bottom = mapping_of(from.sp).end;
            let read = |at: u64| {
                if !at.is_multiple_of(8) || !(from.sp..bottom).contains(&at) {
                    return Err(());
                }
                // SAFETY: it lies on the thread's stack, above this frame.
                Ok(unsafe { (at as *const u64).read_volatile() })
            };
            let mut frames = [Address::default(); 1000];
            let piece = Piece::new();
            let ours = |frames: &mut [Address]| {
                let stack = StackMemory::of_this_thread(memory, from.sp, &piece);
                walk(&map, &stack, from, frames).0
            };
            let count = ours(&mut frames);
            let mut theirs = || {
                let registers = UnwindRegsX86_64::new(from.pc, from.sp, from.fp.unwrap());
                let mut read = read;
                let mut walk = judge.iter_frames(from.pc, registers, &mut cache, &mut read);
                std::iter::from_fn(|| walk.next().ok().flatten()).take(count).count()
            };
            let by_frame_pointers = || {
                let steps =
                    std::iter::successors(from.fp, |fp| read(*fp).ok().filter(|up| up > fp));
                steps.map_while(|fp| read(fp + 8).ok()).take(count).count()
            };
            assert_eq!(theirs(), count);
            let frames_of_pointers = by_frame_pointers();
            let mut times = [const { Vec::new() }; 4];
            let mut timed = |which: usize, work: &mut dyn FnMut()| {
                let began = Instant::now();
                (0..WALKS).for_each(|_| work());
                times[which].push(began.elapsed().as_nanos() as f64 / f64::from(WALKS));
            };
            for _ in 0..ROUNDS {
                // SAFETY: reads a counter.
                timed(0, &mut || _ = black_box(unsafe { core::arch::x86_64::_rdtsc() }));
                timed(1, &mut || _ = black_box(ours(&mut frames)));
                timed(2, &mut || _ = black_box(theirs()));
                timed(3, &mut || _ = black_box(by_frame_pointers()));
            }
            let [clock, ours, theirs, pointers] = times.map(|mut times| {
                times.sort_by(f64::total_cmp);
                times[times.len() / 2]
            });
            let ratio = |nanos: f64| format!("{nanos:.0} ns ({:.1} ×)", nanos / clock);
            let pointers =
                if frames_of_pointers + 2 >= count { ratio(pointers) } else { "none".into() };
            println!(
                "| {count} | {clock:.1} ns | {} | {} | {pointers} |",
                ratio(ours),
                ratio(theirs)
            );
        };
        recurse(depth, &mut then);
    }
}
