//! A small recorded service: the test's own executable, started again. Its environment says what to do.

#![allow(dead_code, reason = "each test uses some of it")]

use lookback::Recorder;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

const TASK: &str = "LOOKBACK_TEST_SERVICE";
const BOX: &str = "LOOKBACK_TEST_BOX";
pub const SNAPSHOTS: &str = "LOOKBACK_TEST_SNAPSHOTS";
/// What it prints once it records.
const READY: &str = "service is ready";

/// The body of the test `service`: does its task, if this process is a service.
pub fn serve() {
    let Ok(task) = std::env::var(TASK) else { return };
    if task == "bare" {
        return hang();
    }
    if task == "hostile" {
        return hostile();
    }
    if task == "count" {
        return count();
    }
    if task == "parent" {
        return parent();
    }
    if task == "numbers" || task == "numbers-for-ever" {
        return numbers(task == "numbers");
    }
    let mut builder = Recorder::builder().name("service").max_bytes(1 << 20);
    builder = builder.generation_period(Duration::from_millis(200));
    if let Some(path) = std::env::var_os(BOX) {
        builder = builder.black_box(path);
    }
    if task == "panic-unseen" {
        builder = builder.trigger(lookback::Trigger::panic());
    }
    if task == "unsavable" {
        builder = builder.snapshot_dir(std::env::var_os(SNAPSHOTS).unwrap());
    }
    let recorder = builder.start().unwrap();
    if task != "silent" {
        for n in 0..1000_u32 {
            lookback::event!("work", n = n);
        }
        lookback::log!(INFO, "service", "it works");
    }
    match &*task {
        "deadlock" => deadlock(),
        "locks" => locks(),
        "spin" => spin(),
        "abort" => std::process::abort(),
        "panic" => panic!("this is meant"),
        // As in a program that is built to abort.
        "panic-unseen" => {
            std::panic::set_hook(Box::new(|_| std::process::abort()));
            panic!("this is meant");
        }
        "exit-3" => std::process::exit(3),
        "segfault" => segfault(),
        "in-order" => drop(recorder),
        "undumpable" => {
            // SAFETY: no preconditions.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }, 0);
            hang();
        }
        "closed" => {
            close_all();
            hang();
        }
        "forks" => forks(),
        "twice" => twice(&recorder),
        "losses" => losses(&recorder),
        "flood" => flood(&recorder),
        "tasks" => tasks(),
        "signal" => on_signal(),
        "quits" | "quits-143" => quits(&task),
        "unsavable" => unsavable(&recorder),
        _ => hang(),
    }
}

fn ready() {
    println!("\n{READY} {}", std::process::id());
    std::io::stdout().flush().unwrap();
}

fn hang() {
    ready();
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Has a trigger whose snapshot cannot be saved: a file has replaced its directory.
fn unsavable(recorder: &Recorder) {
    use lookback::SnapshotOnErr;
    let directory = PathBuf::from(std::env::var_os(SNAPSHOTS).unwrap());
    std::fs::remove_dir(&directory).unwrap();
    std::fs::write(&directory, "where the directory was").unwrap();
    let failed: Result<(), &str> = Err("no such order");
    let _ = failed.snapshot_on_err(recorder);
    wait_until(|| recorder.stats().triggers.failed == 1);
    hang();
}

/// How many threads have announced the lock that they want.
static SAID: AtomicU32 = AtomicU32::new(0);

fn deadlock() {
    let locks = Arc::new((Mutex::new(()), Mutex::new(())));
    let barrier = Arc::new(Barrier::new(2));
    let (other, there) = (Arc::clone(&locks), Arc::clone(&barrier));
    let forth = move || {
        let _transfer = lookback::region!("transfer_forth");
        let _first = locks.0.lock().unwrap();
        barrier.wait();
        lookback::event!("wants", lock = "second");
        SAID.fetch_add(1, Ordering::SeqCst);
        let _second = locks.1.lock().unwrap();
    };
    let back = move || {
        let _transfer = lookback::region!("transfer_back");
        let _second = other.1.lock().unwrap();
        there.wait();
        lookback::event!("wants", lock = "first");
        SAID.fetch_add(1, Ordering::SeqCst);
        let _first = other.0.lock().unwrap();
    };
    thread::Builder::new().name("forth".into()).spawn(forth).unwrap();
    thread::Builder::new().name("back".into()).spawn(back).unwrap();
    while SAID.load(Ordering::SeqCst) < 2 {
        thread::sleep(Duration::from_millis(1));
    }
    hang();
}

/// Two threads that wait for each other, each in a region of the lock that it wants.
fn locks() {
    let locks = Arc::new((Mutex::new(()), Mutex::new(())));
    let barrier = Arc::new(Barrier::new(2));
    for (name, forth) in [("forth", true), ("back", false)] {
        let (locks, barrier) = (Arc::clone(&locks), Arc::clone(&barrier));
        let wait = move || {
            let (first, second) = if forth { (&locks.0, &locks.1) } else { (&locks.1, &locks.0) };
            let _first = first.lock().unwrap();
            barrier.wait();
            let _waits = lookback::region!("lock account");
            SAID.fetch_add(1, Ordering::SeqCst);
            let _second = second.lock().unwrap();
        };
        thread::Builder::new().name(name.into()).spawn(wait).unwrap();
    }
    while SAID.load(Ordering::SeqCst) < 2 {
        thread::sleep(Duration::from_millis(1));
    }
    hang();
}

fn spin() {
    ready();
    for n in 0_u64.. {
        lookback::event!("spins", n = n);
    }
}

fn segfault() {
    // SAFETY: none; that is what it is for.
    unsafe { std::ptr::without_provenance_mut::<u8>(0x10).write_volatile(1) };
}

fn close_all() {
    ready();
    for descriptor in 3..1024 {
        // SAFETY: nothing here uses them any more.
        unsafe { libc::close(descriptor) };
    }
}

/// Bytes of the arena of a hostile process.
pub const HOSTILE_BYTES: usize = lookback::read::wire::offset::DATA + (64 << 10);

/// Maps a file that looks like an arena, and prints its descriptor's number, so that a test may write to it.
fn hostile() {
    // SAFETY: the name ends with a zero; the mapping is new and never used.
    let descriptor = unsafe {
        let descriptor = libc::memfd_create(c"lookback".as_ptr(), libc::MFD_CLOEXEC);
        assert_eq!(libc::ftruncate(descriptor, HOSTILE_BYTES as i64), 0);
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let place = std::ptr::null_mut();
        let mapped = libc::mmap(place, HOSTILE_BYTES, rights, libc::MAP_SHARED, descriptor, 0);
        assert_ne!(mapped, libc::MAP_FAILED);
        descriptor
    };
    println!("\narena {descriptor}");
    hang();
}

/// A child that has only its parent's arena.
fn forks() {
    // SAFETY: the child does nothing but wait.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        }
    }
    println!("\nforked {child}");
    hang();
}

/// Has a second arena, like a process in which a shared object has its own recorder: a copy of the first one,
/// for the same process.
fn twice(recorder: &Recorder) {
    use std::os::fd::{AsRawFd, FromRawFd};
    recorder.advance();
    let descriptors =
        std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let is_arena = |path: &PathBuf| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("memfd:lookback"))
    };
    let arena = std::fs::read(descriptors.into_iter().find(is_arena).unwrap()).unwrap();
    // SAFETY: a valid name; the descriptor is owned by the file.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"lookback-of-a-plugin".as_ptr(), 0);
        assert!(descriptor >= 0);
        std::fs::File::from_raw_fd(descriptor)
    };
    file.write_all(&arena).unwrap();
    // SAFETY: a mapping of a file of that length, anywhere; it stays until the process ends.
    let mapped = unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let descriptor = file.as_raw_fd();
        libc::mmap(std::ptr::null_mut(), arena.len(), rights, libc::MAP_SHARED, descriptor, 0)
    };
    assert_ne!(mapped, libc::MAP_FAILED);
    hang();
}

/// Records in a signal handler until that interrupts an event, which is a loss.
fn losses(recorder: &Recorder) {
    extern "C" fn record(_: libc::c_int) {
        lookback::event!("interrupts");
    }
    let timer = |micros| {
        let every = libc::timeval { tv_sec: 0, tv_usec: micros };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: a valid structure.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    };
    // SAFETY: recording is something that a handler may do.
    unsafe { libc::signal(libc::SIGALRM, record as *const () as libc::sighandler_t) };
    timer(100);
    while recorder.stats().lost.iter().all(|(_, lost)| *lost == 0) {
        for n in 0..10_000_u32 {
            lookback::event!("interrupted", n = n);
        }
    }
    timer(0);
    hang();
}

/// Records faster than generations can be ended, until there is no room; returns how much was lost.
fn flood(recorder: &Recorder) {
    lose();
    let text = "x".repeat(1000);
    let lost = || recorder.stats().lost_in_all();
    let until_lost = || {
        while lost() == 0 {
            (0..2000).for_each(|_| lookback::event!("flood", text = &*text));
        }
    };
    thread::scope(|scope| {
        // Joined one by one: the end of the scope does not wait until their ends are recorded, or lost.
        let threads = [scope.spawn(until_lost), scope.spawn(until_lost)];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    lookback::log!(INFO, "service", "it works");
    println!("\nlost {}", lost());
    hang();
}

/// From now on a full arena loses the newest events if the collector is late.
fn lose() {
    #[cfg(debug_assertions)]
    lookback::fault_injection::leave_the_collector_alone();
}

/// Tasks that go from thread to thread and wake each other forever, while more is recorded than there is room
/// for.
fn tasks() {
    use lookback::RecordExt;
    use std::collections::VecDeque;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};
    type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
    static TASKS: Mutex<VecDeque<Task>> = Mutex::new(VecDeque::new());
    static WAKERS: Mutex<Vec<Waker>> = Mutex::new(Vec::new());
    lose();
    let text = "x".repeat(1000);
    let flood = || {
        let text = &*text;
        loop {
            let task = TASKS.lock().unwrap().pop_front();
            let mut left = 20;
            let new = || -> Task {
                Box::pin(
                    std::future::poll_fn(move |context| {
                        WAKERS.lock().unwrap().push(context.waker().clone());
                        left -= 1;
                        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .recorded("task"),
                )
            };
            let mut task = task.unwrap_or_else(new);
            let _region = lookback::region!("turn");
            (0..50).for_each(|_| lookback::event!("flood", text = text));
            if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                let mut tasks = TASKS.lock().unwrap();
                if tasks.len() < 50 {
                    tasks.push_back(task);
                }
                let more = if tasks.len() < 20 { Some(new()) } else { None };
                tasks.extend(more);
            }
            let wakers = std::mem::take(&mut *WAKERS.lock().unwrap());
            wakers.into_iter().for_each(Waker::wake);
        }
    };
    println!("\n{READY}{}", std::process::id());
    thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(flood))));
}

/// Exits with 7 on SIGTERM, 8 on SIGUSR1; counts each.
fn on_signal() {
    extern "C" fn exit(signal: libc::c_int) {
        // SAFETY: may be called in a handler.
        unsafe { libc::_exit(if signal == libc::SIGTERM { 7 } else { 8 }) };
    }
    for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGHUP] {
        // SAFETY: the handler does what a handler may.
        unsafe { libc::signal(signal, exit as *const () as libc::sighandler_t) };
    }
    hang();
}

/// Exits on SIGTERM without stopping its recorder: with 0, or as a shell says it.
fn quits(task: &str) {
    extern "C" fn quietly(_: libc::c_int) {
        // SAFETY: may be called in a handler.
        unsafe { libc::_exit(0) };
    }
    extern "C" fn by_its_code(signal: libc::c_int) {
        // SAFETY: may be called in a handler.
        unsafe { libc::_exit(128 + signal) };
    }
    let handler: extern "C" fn(libc::c_int) = if task == "quits" { quietly } else { by_its_code };
    // SAFETY: the handler does what a handler may.
    unsafe { libc::signal(libc::SIGTERM, handler as *const () as libc::sighandler_t) };
    hang();
}

/// Counts SIGINT, and exits with the count on SIGTERM.
fn count() {
    static CAME: AtomicU32 = AtomicU32::new(0);
    extern "C" fn interrupted(_: libc::c_int) {
        CAME.fetch_add(1, Ordering::SeqCst);
        let line = b"interrupted\n";
        // SAFETY: may be called in a handler; the bytes are there.
        unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
    }
    extern "C" fn end(_: libc::c_int) {
        // SAFETY: may be called in a handler.
        unsafe { libc::_exit(CAME.load(Ordering::SeqCst).cast_signed()) };
    }
    // SAFETY: the handlers do what handlers may.
    unsafe {
        libc::signal(libc::SIGINT, interrupted as *const () as libc::sighandler_t);
        libc::signal(libc::SIGTERM, end as *const () as libc::sighandler_t);
    }
    hang();
}

/// Starts a service, and exits when that is ready.
fn parent() {
    let mut child = command("hang").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let ready = lines.find(|line| line.starts_with(READY)).unwrap();
    println!("\n{ready}");
    std::io::stdout().flush().unwrap();
    std::process::exit(4);
}

/// The command that is a service with this task.
pub fn command(task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["service", "--exact", "--nocapture", "--test-threads=1"]).env(TASK, task);
    command
}

/// Like [`command`], under `lookback run`.
pub fn held(task: &str, directory: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(super::command::LOOKBACK);
    command.args(["run", "-o"]).arg(directory).args(options).arg("--");
    command.arg(std::env::current_exe().unwrap());
    command.args(["service", "--exact", "--nocapture", "--test-threads=1"]).env(TASK, task);
    command
}

/// A service that is killed when the test ends.
pub struct Service {
    pub child: Child,
    /// Its own ID; if another process runs it, the child's is different.
    pub pid: u32,
    /// What it has printed before it was ready.
    pub said: Vec<String>,
}

impl Service {
    pub fn start(task: &str) -> Self {
        Self::run(&mut command(task))
    }

    pub fn with_box(task: &str, path: &Path) -> Self {
        Self::run(command(task).env(BOX, path))
    }

    /// Starts it, and waits until it is ready.
    pub fn run(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let pid = lines.by_ref().find_map(|line| {
            let pid = line.strip_prefix(READY).map(|pid| pid.trim().parse().unwrap());
            said.push(line);
            pid
        });
        let pid = pid.expect("it gets ready");
        // So that it can continue printing.
        thread::spawn(move || lines.for_each(drop));
        Self { child, pid, said }
    }

    pub fn text(&self) -> String {
        self.pid.to_string()
    }

    /// Kills it, and waits for that.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: no preconditions.
        assert_eq!(unsafe { libc::kill(self.pid.cast_signed(), signal) }, 0);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // SAFETY: no preconditions; both are ours.
        unsafe { libc::kill(self.pid.cast_signed(), libc::SIGCONT) };
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Snapshots in a directory.
pub fn snapshots(directory: &Path) -> Vec<PathBuf> {
    let entries = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "lbk")).collect()
}

/// Waits until this holds. The deadline only ends the wait.
pub fn wait_until(done: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a signal is pending for a process.
pub fn is_pending(pid: u32, signal: libc::c_int) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines =
        status.lines().filter(|line| line.starts_with("SigPnd") || line.starts_with("ShdPnd"));
    let sets = lines.map(|line| line.split_whitespace().nth(1).unwrap());
    sets.map(|set| u64::from_str_radix(set, 16).unwrap()).any(|set| set >> (signal - 1) & 1 != 0)
}

/// A directory for this test, on a tmpfs.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Records numbers from 0 on, slowly enough for a disk: 2,000 times ten numbers and a millisecond's pause, or
/// without end.
fn numbers(is_finite: bool) {
    let recorder = Recorder::builder().name("service").max_bytes(1 << 20);
    let recorder = recorder.generation_period(Duration::from_millis(50)).start().unwrap();
    ready();
    let mut number = 0_u64;
    while number < 20_000 || !is_finite {
        for _ in 0..10 {
            lookback::event!("number", number = number);
            number += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    recorder.stop().unwrap();
}
