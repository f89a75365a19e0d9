//! Starts in hostile surroundings: each succeeds, or fails with a readable error.

mod common;

use common::alone;
use lookback::Recorder;
#[cfg(target_arch = "x86_64")]
use lookback::read::wire::ClockKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

fn install(signal: libc::c_int, handler: usize) {
    // SAFETY: a valid structure. Interrupted calls are not restarted, but fail.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

static INTERRUPTED: AtomicU32 = AtomicU32::new(0);

extern "C" fn interrupts(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    INTERRUPTED.fetch_add(1, Ordering::Relaxed);
}

/// Does the work while signals keep interrupting this thread.
fn interrupted<T>(work: impl FnOnce() -> T) -> T {
    install(libc::SIGPROF, interrupts as *const () as usize);
    // SAFETY: the call has no preconditions.
    let (done, thread) = (AtomicBool::new(false), unsafe { libc::pthread_self() });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the thread waits for this one.
                unsafe { libc::pthread_kill(thread, libc::SIGPROF) };
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn signals_of_a_profiler_do_not_keep_a_large_arena_from_being_there() {
    alone("signals_of_a_profiler_do_not_keep_a_large_arena_from_being_there", || {
        let directory = tempfile::tempdir().unwrap();
        for path in [None, Some(directory.path().join("service.box"))] {
            let builder = Recorder::builder().max_bytes(256 << 20);
            let builder = path.into_iter().fold(builder, |builder, path| builder.black_box(path));
            let recorder = interrupted(|| builder.start()).unwrap();
            lookback::event!("recorded");
            assert_eq!(common::lost(&common::stop(recorder)), 0);
        }
        println!("::{} interruptions", INTERRUPTED.load(Ordering::Relaxed));
        assert!(INTERRUPTED.load(Ordering::Relaxed) > 0);
    });
}

/// A memory group that this process has made.
struct Group(PathBuf);

impl Group {
    /// A group with this memory limit, which this process joins; `None` if it cannot be made.
    fn join(limit: u64) -> Option<Self> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let path_of = |controllers: &str| {
            let path = |line: &str| {
                Some(line.split_once(controllers)?.1.trim_start_matches('/').to_owned())
            };
            groups.lines().find_map(path)
        };
        let first = path_of(":memory:").map(|path| Path::new("/sys/fs/cgroup/memory").join(path));
        let second = path_of("0::").map(|path| Path::new("/sys/fs/cgroup").join(path));
        let kinds = [(first, "memory.limit_in_bytes"), (second, "memory.max")];
        kinds.into_iter().find_map(|(parent, name)| {
            let group = Self(parent?.join(format!("lookback-test-{}", std::process::id())));
            std::fs::create_dir(&group.0).ok()?;
            std::fs::write(group.0.join(name), limit.to_string()).ok()?;
            std::fs::write(group.0.join("cgroup.procs"), std::process::id().to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let procs =
            |at: &Path| std::fs::write(at.join("cgroup.procs"), std::process::id().to_string());
        let _ = self.0.parent().map(procs);
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_memory_group_with_too_little_room_is_an_error_and_not_the_end() {
    alone("a_memory_group_with_too_little_room_is_an_error_and_not_the_end", || {
        let Some(_group) = Group::join(48 << 20) else {
            println!("::skipped: this user cannot make a memory group");
            return;
        };
        let error = Recorder::builder().max_bytes(64 << 20).start().unwrap_err();
        let words = error.to_string();
        println!("::{words}");
        assert!(words.contains("not enough memory") && words.contains("lookback-test"), "{words}");
        // A box in memory counts as memory; one on a disk does not.
        let in_memory = tempfile::Builder::new().prefix("lookback").tempdir_in("/dev/shm");
        if let Ok(directory) = in_memory {
            let path = directory.path().join("service.box");
            let error = Recorder::builder().max_bytes(64 << 20).black_box(&path).start();
            assert!(error.unwrap_err().to_string().contains("not enough memory"));
            assert!(!path.exists());
        }
        let recorder = Recorder::builder().max_bytes(16 << 20).start().unwrap();
        lookback::event!("recorded");
        assert_eq!(common::lost(&common::stop(recorder)), 0);
    });
}

#[test]
fn a_copy_that_a_memory_group_has_no_room_for_is_an_error_and_not_the_end() {
    alone("a_copy_that_a_memory_group_has_no_room_for_is_an_error_and_not_the_end", || {
        let Some(_group) = Group::join(96 << 20) else {
            println!("::skipped: this user cannot make a memory group");
            return;
        };
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let builder = Recorder::builder().max_bytes(64 << 20).snapshot_dir(directory.path());
        let recorder = builder.start().unwrap();
        for number in 0..3_000_000_u64 {
            let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            lookback::event!("recorded", first = hash, second = !hash);
        }
        let error = recorder.snapshot().unwrap_err().to_string();
        println!("::{error}");
        assert!(error.contains("not enough memory") && error.contains("lookback-test"), "{error}");
        // A save streams to its file, and needs no copy of everything.
        let path = recorder.save("a test").unwrap();
        common::assert_sound(&lookback::Trace::open(path).unwrap());
    });
}

/// Where the forbidden counter was read: not in the C library's kernel page.
#[cfg(target_arch = "x86_64")]
static READ_AT: AtomicUsize = AtomicUsize::new(0);

/// Emulates the instruction.
#[cfg(target_arch = "x86_64")]
extern "C" fn emulates(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's; what failed is an instruction in memory.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as usize;
        let code = std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(at), 3);
        let length = match code {
            [0x0f, 0x31, _] => 2,
            [0x0f, 0x01, 0xf9] => 3,
            _ => libc::_exit(99),
        };
        let of_kernel = libc::getauxval(libc::AT_SYSINFO_EHDR) as usize;
        if !(of_kernel..of_kernel + (16 << 12)).contains(&at) {
            READ_AT.store(at, Ordering::Relaxed);
        }
        // A clock that stands still is a clock.
        registers[libc::REG_RAX as usize] = 0;
        registers[libc::REG_RDX as usize] = 0;
        registers[libc::REG_RCX as usize] = 0;
        registers[libc::REG_RIP as usize] += length;
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_counter_that_the_process_may_not_read_is_not_read() {
    alone("a_counter_that_the_process_may_not_read_is_not_read", || {
        install(libc::SIGSEGV, emulates as *const () as usize);
        // SAFETY: the handler above resolves it.
        unsafe { libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV) };
        let recorder = Recorder::builder().max_bytes(1 << 20).start().unwrap();
        let clock = recorder.stats().clock;
        lookback::event!("recorded", number = 1);
        drop(lookback::region!("a region"));
        drop(recorder.snapshot().unwrap());
        recorder.stop().unwrap();
        // SAFETY: as above.
        unsafe { libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_ENABLE) };
        assert_eq!(clock, ClockKind::Monotonic);
        assert_eq!(READ_AT.load(Ordering::Relaxed), 0, "an address in this program");
    });
}
