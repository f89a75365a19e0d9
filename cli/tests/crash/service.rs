//! The service that is ended: two threads and two tasks that only record, inside spans and regions, and a
//! pipe on which each reports its progress.

use super::command::LOOKBACK;
use super::ends::{End, obey};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The names in the child's directory: of the black box, and of the directory where `lookback run` saves.
pub const BOX: &str = "service.box";
pub const SAVED: &str = "saved";

/// How many writers there are: threads first, then tasks.
pub const WRITERS: usize = 4;
const THREADS: usize = 2;

const DIRECTORY: &str = "LOOKBACK_TEST_DIRECTORY";
const HAS_BOX: &str = "LOOKBACK_TEST_BOX";
const TEST: &str = "the_last_event_of_every_writer_outlives_every_end";

/// Whether this process is the service.
pub fn is_child() -> bool {
    std::env::var_os(DIRECTORY).is_some()
}

/// A directory that suits boxes: in memory if possible, and writable.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The last event that a writer has reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Last {
    pub number: u64,
    /// When it was emitted, or slightly earlier: nanoseconds since 1970.
    pub wall: u64,
}

/// A running service.
pub struct Child {
    process: std::process::Child,
    /// The service itself, which may be a child of the child.
    pub service: libc::pid_t,
    orders: std::process::ChildStdin,
    told: mpsc::Receiver<[Last; WRITERS]>,
    cgroup: Option<PathBuf>,
}

impl Child {
    /// Starts it, and waits until each writer has begun.
    pub fn start(directory: &Path, has_box: bool, has_run: bool, end: End) -> Self {
        let executable = std::env::current_exe().unwrap();
        let mut command = if has_run {
            let mut run = Command::new(LOOKBACK);
            run.arg("run").arg("-o").arg(directory.join(SAVED)).arg("--").arg(executable);
            run
        } else {
            Command::new(executable)
        };
        let cgroup = (end == End::Cgroup).then(|| make_cgroup(directory)).flatten();
        let joined = cgroup.as_ref().map(|cgroup| cgroup.join("cgroup.procs"));
        command
            .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if has_box {
            command.env(HAS_BOX, "1");
        }
        // SAFETY: between fork and exec nothing but the limit is set.
        unsafe {
            command.pre_exec(|| {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &none);
                Ok(())
            })
        };
        let mut process = command.spawn().unwrap();
        let orders = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let (mut service, mut last, mut line) = (0, [Last::default(); WRITERS], String::new());
        while last.iter().any(|last| last.number == 0) {
            line.clear();
            let read = output.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the service did not begin");
            match Told::parse(&line) {
                Some(Told::Process(pid)) => {
                    service = pid;
                    if let Some(joined) = &joined {
                        std::fs::write(joined, pid.to_string()).unwrap();
                    }
                }
                Some(Told::Event(writer, told)) => last[writer] = told,
                None => {}
            }
        }
        assert!(service > 0, "the service has not said who it is");
        let (sender, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while matches!(output.read_line(&mut line), Ok(1..)) {
                if let Some(Told::Event(writer, told)) = Told::parse(&line) {
                    last[writer] = told;
                }
                line.clear();
            }
            let _ = sender.send(last);
        });
        Self { process, service, orders, told, cgroup }
    }

    /// Sends it a command.
    pub fn order(&self, order: u8) {
        // It may be gone already, if memory ran out by itself.
        let _ = (&self.orders).write_all(&[order]);
    }

    /// Waits until the service has ended. Returns each writer's last event.
    pub fn last(&self, what: &str) -> [Last; WRITERS] {
        let last = self.told.recv_timeout(Duration::from_secs(120));
        last.unwrap_or_else(|_| panic!("{what}: it does not end"))
    }

    /// Also waits for its parent. Returns whether the kernel killed it because its group had run out of
    /// memory.
    pub fn wait(mut self) -> bool {
        self.process.wait().unwrap();
        let ran_out = self.cgroup.as_deref().is_some_and(ran_out);
        if let Some(cgroup) = &self.cgroup {
            // Empty once its process is gone for good.
            for _ in 0..200 {
                if std::fs::remove_dir(cgroup).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        ran_out
    }
}

/// Whether the kernel has killed a process of the group for want of memory.
fn ran_out(cgroup: &Path) -> bool {
    ["memory.events", "memory.oom_control"].iter().any(|file| {
        let told = std::fs::read_to_string(cgroup.join(file)).unwrap_or_default();
        told.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|kills| kills != "0"))
    })
}

/// A group with limited memory, if this system lets us make one.
fn make_cgroup(directory: &Path) -> Option<PathBuf> {
    let name = format!("lookback-{}", directory.file_name()?.to_str()?);
    for (root, limit) in
        [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
    {
        let group = Path::new(root).join(&name);
        if std::fs::create_dir(&group).is_ok() {
            // Swap would make it slow rather than end it.
            let _ = std::fs::write(group.join("memory.swap.max"), "0");
            let _ = std::fs::write(group.join("memory.swappiness"), "0");
            if std::fs::write(group.join(limit), (64 << 20).to_string()).is_ok() {
                return Some(group);
            }
            let _ = std::fs::remove_dir(&group);
        }
    }
    None
}

/// A line that the service has written.
enum Told {
    Process(libc::pid_t),
    Event(usize, Last),
}

impl Told {
    fn parse(line: &str) -> Option<Self> {
        // An incomplete line does not count.
        let (kind, numbers) = line.strip_suffix('\n')?.split_once(' ')?;
        let numbers: Option<Vec<u64>> = numbers.split(' ').map(|word| word.parse().ok()).collect();
        match (kind, &numbers?[..]) {
            ("process", &[pid]) => Some(Self::Process(pid.try_into().ok()?)),
            ("event", &[writer, number, wall]) if writer < WRITERS as u64 => {
                Some(Self::Event(writer as usize, Last { number, wall }))
            }
            _ => None,
        }
    }
}

/// Writes a line at once, whatever other threads do.
fn tell(line: &str) {
    // SAFETY: the bytes are there; a line is shorter than what a pipe takes in one piece.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}

/// Emits a few events, and reports the last.
fn burst(writer: usize, number: &mut u64) {
    let region = lookback::region!("burst");
    let (last, mut wall) = (*number + 1 + *number % 29, 0);
    while *number < last {
        *number += 1;
        if *number == last {
            wall = now();
        }
        lookback::event!("tick", writer = writer, number = *number);
    }
    serve(*number);
    drop(region);
    // An event that is emitted after the end of the recording is no writer's last event.
    if lookback::is_recording() {
        tell(&format!("event {writer} {number} {wall}\n"));
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_nanos() as u64
}

/// Some work between events, as in a service. With it, the arena reaches back about a second, and a writer
/// that the machine holds up for a while usually still has events in it.
fn serve(number: u64) {
    let mut sum = number;
    for _ in 0..if cfg!(debug_assertions) { 100 } else { 4000 } {
        sum = std::hint::black_box(sum.wrapping_mul(31).rotate_left(7));
    }
}

/// The service.
pub fn run() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let mut builder = lookback::Recorder::builder()
        .name("service")
        .max_bytes(8 << 20)
        .generation_period(Duration::from_millis(20));
    if std::env::var_os(HAS_BOX).is_some() {
        builder = builder.black_box(directory.join(BOX));
    }
    let recorder = builder.start().unwrap();
    // The test harness's output comes before it.
    tell(&format!("\nprocess {}\n", std::process::id()));
    for writer in 0..THREADS {
        std::thread::Builder::new()
            .name(format!("writer-{writer}"))
            .spawn(move || {
                let mut number = 0;
                loop {
                    burst(writer, &mut number);
                }
            })
            .unwrap();
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let _ = lookback::tokio::instrument(runtime.worker_threads(2));
    let runtime = runtime.build().unwrap();
    let _guard = tracing::subscriber::set_global_default(lookback::tracing::subscriber());
    for writer in THREADS..WRITERS {
        drop(lookback::spawn_on(runtime.handle(), async move {
            let mut number = 0;
            loop {
                tracing::info_span!("round", writer).in_scope(|| burst(writer, &mut number));
                tokio::task::yield_now().await;
            }
        }));
    }
    let (sender, orders) = mpsc::channel();
    std::thread::spawn(move || {
        let mut order = [0];
        if std::io::stdin().read_exact(&mut order).is_ok() {
            lookback::event!("ordered", order = order[0]);
            obey(order[0]);
            let _ = sender.send(order[0]);
        } else {
            std::mem::forget(sender);
            std::thread::park();
        }
    });
    let order = orders.recv().unwrap();
    let _kept = &recorder;
    panic!("told to by {order}");
}
