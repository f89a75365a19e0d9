//! How the process, its control group and the machine fare, once a generation.
#![cfg(target_os = "linux")]

mod common;

use common::seccomp::{EVERY_THREAD, forbid};
use lookback::read::analysis::Report;
use lookback::read::{CounterGroup, SystemCounter, SystemReading, Trace};
use lookback::{Recorder, Snapshot};
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// There is one recorder in a process.
static ONE: Mutex<()> = Mutex::new(());

fn recorder() -> lookback::Builder {
    // What is waited for may never come.
    common::must_end();
    // On a slow machine, it takes long until every group was read.
    let window = Duration::from_secs(100);
    Recorder::builder()
        .max_bytes(1 << 20)
        .generation_period(Duration::from_millis(300))
        .window(window)
}

/// Why this machine cannot tell what the tests wait for.
fn lacking() -> Option<String> {
    ["/proc/self/statm", "/proc/self/io"].iter().find_map(|path| {
        let error = fs::read_to_string(path).err()?;
        Some(format!("skipped: {path}: {error}"))
    })
}

/// The page faults of this process, as the kernel counts them.
fn faults() -> io::Result<u64> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: there is room for the answer.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded.
    Ok(unsafe { usage.assume_init() }.ru_minflt as u64)
}

fn trace(snapshot: &Snapshot) -> Trace {
    let mut bytes = Vec::new();
    snapshot.write_to(&mut bytes).unwrap();
    Trace::from_bytes(bytes).unwrap()
}

/// What each generation says, of those that say anything.
fn readings(snapshot: &Snapshot) -> Vec<Vec<SystemReading>> {
    let trace = trace(snapshot);
    let numbers = trace.generations().iter().map(|info| info.number);
    let all = numbers.map(|number| trace.generation(number).unwrap().system_counters().to_vec());
    all.filter(|readings| !readings.is_empty()).collect()
}

/// Waits until this many generations say so.
fn generations(recorder: &Recorder, count: usize) -> Vec<Vec<SystemReading>> {
    loop {
        lookback::event!("something");
        std::thread::sleep(Duration::from_millis(50));
        let readings = readings(&recorder.snapshot().unwrap());
        if readings.len() >= count {
            return readings;
        }
    }
}

/// The last value among these generations: on a machine that is busy, not every generation has all groups.
fn last(all: &[Vec<SystemReading>], counter: SystemCounter) -> Option<u64> {
    all.iter().rev().find_map(|one| of(one, counter))
}

fn of(readings: &[SystemReading], counter: SystemCounter) -> Option<u64> {
    readings.iter().find(|one| one.counter == counter).map(|one| one.value)
}

#[test]
fn a_generation_says_how_the_process_fares() {
    let _one = ONE.lock().unwrap();
    if let Some(why) = lacking() {
        return println!("{why}");
    }
    if let Err(why) = fs::read_dir("/proc/self/fd") {
        return println!("skipped: /proc/self/fd: {why}");
    }
    let recorder = recorder().start().unwrap();
    let before = faults();
    let mut files: Vec<_> = (0..100).map_while(|_| File::open("/dev/null").ok()).collect();
    let mut memory = vec![1_u8; 64 << 20];
    let (Ok(before), Ok(after)) = (before, faults()) else {
        return println!("skipped: the kernel does not say how many page faults there were");
    };
    if files.len() < 100 || after < before + 32 {
        let open = files.len();
        return println!("skipped: {open} files opened, {} page faults counted", after - before);
    }
    // Until each group was read since: the memory and the files are still there.
    let all = loop {
        memory.iter_mut().step_by(4096).for_each(|byte| *byte = byte.wrapping_add(1));
        let more = std::hint::black_box(vec![1_u8; 64 << 20]);
        let all = generations(&recorder, 1);
        drop(more);
        let is_there = |counter, least| last(&all, counter) >= Some(least);
        if is_there(SystemCounter::Descriptors, 100)
            && is_there(SystemCounter::Resident, memory.len() as u64)
            && is_there(SystemCounter::Anonymous, memory.len() as u64)
            && all.iter().filter_map(|one| of(one, SystemCounter::MinorFaults)).sum::<u64>() >= 32
        {
            break all;
        }
    };
    assert!(last(&all, SystemCounter::DescriptorLimit).is_none_or(|limit| limit >= 100));
    assert!(last(&all, SystemCounter::VoluntarySwitches).is_some());
    let before = last(&all, SystemCounter::Descriptors).unwrap();
    files.clear();
    let now = || last(&generations(&recorder, 1), SystemCounter::Descriptors);
    while now().is_none_or(|now| now + 90 > before) {}
    drop(recorder);
}

#[test]
fn what_is_turned_off_is_not_read() {
    let _one = ONE.lock().unwrap();
    if let Some(why) = lacking() {
        return println!("{why}");
    }
    let some = recorder().system_counters([CounterGroup::Memory]).start().unwrap();
    assert_eq!(some.stats().system_counters.groups, [CounterGroup::Memory]);
    let all = generations(&some, 2).concat();
    assert!(all.iter().all(|one| one.counter.group() == CounterGroup::Memory), "{all:?}");
    drop(some);
    let none = recorder().system_counters([]).start().unwrap();
    for _ in 0..20 {
        lookback::event!("something");
        std::thread::sleep(Duration::from_millis(50));
    }
    let snapshot = none.snapshot().unwrap();
    assert!(readings(&snapshot).is_empty());
    let stats = none.stats().system_counters;
    assert!(stats.groups.is_empty() && stats.troubles.is_empty());
}

/// A control group whose threads may use a fifth of a core.
struct Limited(PathBuf);

impl Limited {
    /// Or why there is none.
    fn new() -> Result<Self, String> {
        let of_first = Path::new("/sys/fs/cgroup/cpu");
        let is_first = of_first.join("cpu.shares").exists() || of_first.join("tasks").exists();
        let above = if is_first { of_first } else { Path::new("/sys/fs/cgroup") };
        let path = above.join(format!("lookback-test-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let this = Self(path);
        if is_first {
            this.write("cpu.cfs_period_us", "50000")?;
            this.write("cpu.cfs_quota_us", "10000")?;
        } else {
            this.write("cpu.max", "10000 50000")?;
        }
        Ok(this)
    }

    fn write(&self, name: &str, what: &str) -> Result<(), String> {
        let path = self.0.join(name);
        // Not created: what only looks like a control group has no such file.
        let file = File::options().write(true).open(&path);
        let written = file.and_then(|mut file| io::Write::write_all(&mut file, what.as_bytes()));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // A process that has just ended may still be in it.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_control_group_that_limits_the_process_is_found() {
    let limited = match Limited::new() {
        Ok(limited) => limited,
        Err(why) => return println!("skipped: no control group can be made: {why}"),
    };
    run_service("limited", Some(&limited.0));
}

/// In a process of its own, so that nobody has to leave the group again.
fn is_limited(group: &Path) {
    let limited = Limited(group.to_owned());
    let entered = limited.write("cgroup.procs", "0");
    let stat = limited.0.join("cpu.stat");
    std::mem::forget(limited);
    if let Err(why) = entered {
        return println!("skipped: the control group cannot be entered: {why}");
    }
    let spin = || {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
    };
    let stopped = || {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    for _ in 0..50 {
        spin();
    }
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if stopped() < 5 || !groups.contains("lookback-test-") {
        return println!("skipped: the kernel does not say that the limit takes effect: {groups}");
    }
    let recorder = recorder().start().unwrap();
    let began = Instant::now();
    loop {
        spin();
        if began.elapsed() > Duration::from_secs(120) {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            return println!("skipped: the limit is not seen in {groups}, mounted as {mounts}");
        }
        generations(&recorder, 1);
        let snapshot = recorder.snapshot().unwrap();
        let all = readings(&snapshot);
        let told = recorder.stats().system_counters.troubles;
        if let Some(why) = told.iter().find(|one| one.contains("cpu.stat")) {
            return println!("skipped: {why}");
        }
        let sum = |counter| all.iter().filter_map(|one| of(one, counter)).sum::<u64>();
        let stopped = sum(SystemCounter::ThrottledPeriods);
        let periods = sum(SystemCounter::Periods);
        // As many of the periods as the summary takes for a finding; how many depends on how busy the machine is.
        if periods >= 10 && stopped * 5 > periods {
            assert!(sum(SystemCounter::ThrottledTime) > 0);
            let report = Report::of(&trace(&snapshot));
            let titles: Vec<_> = report.system.findings.iter().map(|one| &one.title).collect();
            let of_limit = titles.iter().filter(|title| title.contains("CPU limit")).count();
            return assert_eq!(of_limit, 1, "{titles:?}");
        }
    }
}

const SERVICE: &str = "LOOKBACK_TEST_SYSTEM_COUNTERS";
const GROUP: &str = "LOOKBACK_TEST_GROUP";

/// Not a test: the service of the next ones, which is this executable started again.
#[test]
fn service() {
    let Some(how) = std::env::var_os(SERVICE) else { return };
    if let Some(why) = lacking() {
        return println!("{why}");
    }
    if how == "limited" {
        return is_limited(Path::new(&std::env::var_os(GROUP).unwrap()));
    }
    let refused = [libc::SYS_getrusage, libc::SYS_prlimit64];
    if how == "refused" && !forbid(&refused, false, EVERY_THREAD) {
        return println!("skipped: no filter of system calls can be installed");
    }
    let recorder = recorder().start().unwrap();
    let until_told = |what: &str| loop {
        let all = generations(&recorder, 1);
        let told = recorder.stats().system_counters.troubles.join("; ");
        if told.contains(what) {
            break (all, told);
        }
    };
    if how == "refused" {
        let (all, told) = until_told("getrusage");
        assert!(told.contains("getrusage: Operation not permitted"), "{told}");
        assert_eq!(last(&all, SystemCounter::MinorFaults), None);
        while last(&generations(&recorder, 1), SystemCounter::Resident).is_none() {}
        let trace = trace(&recorder.snapshot().unwrap());
        let told: Vec<_> = trace.metadata().texts("system_counters.trouble").collect();
        assert!(told.iter().any(|one| one.contains("getrusage")), "{told:?}");
        return;
    }
    while last(&generations(&recorder, 1), SystemCounter::Resident).is_none() {}
    let place = tempfile::tempdir().unwrap();
    if let Err(error) = std::os::unix::fs::chroot(place.path()) {
        return println!("skipped: {error}");
    }
    assert!(!Path::new("/proc").exists());
    // There is no `/proc` any more. The rest goes on.
    until_told("/proc/self/statm: No such file");
    let count = || {
        let all = generations(&recorder, 1);
        all.iter().filter(|one| of(one, SystemCounter::MinorFaults).is_some()).count()
    };
    let before = count();
    while count() <= before {}
}

fn run_service(how: &str, group: Option<&Path>) {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(why) => return println!("skipped: {why}"),
    };
    let status = Command::new(program)
        .args(["--exact", "service", "--nocapture", "--test-threads=1"])
        .env(SERVICE, how)
        .envs(group.map(|group| (GROUP, group)))
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn what_a_filter_of_system_calls_refuses_is_left_out_and_told() {
    run_service("refused", None);
}

#[test]
fn a_service_that_changes_its_root_is_told_what_can_no_longer_be_read() {
    run_service("chroot", None);
}
