//! Which file says what.

#![forbid(unsafe_code)]

use super::cgroup::{self, Places};
use super::{Groups, Values, parse};
use crate::os::kernel_files;
use lookback_snapshot::wire::{CounterGroup, SystemCounter as Counter};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

/// More than any of the files has that is read to its end.
const BUFFER: usize = 16 << 10;
/// Older kernels do not say how many descriptors are open; so many are counted at most.
const MOST_DESCRIPTORS: usize = 4096;
/// A machine with very many containers has very many mounts. Those of the control groups are among the first.
const MOST_MOUNTS: u64 = 1 << 20;
/// Of mounts below `/proc`. More than any container runtime makes.
const MOST_FOREIGN: usize = 64;
/// After so many readings it is asked again which control group the process is in: the kernel answers under a lock of the
/// whole machine. And after so many such questions, if there was none, where it is.
const ASK_AGAIN: u32 = 10;
const LOOK_AGAIN: u32 = 10;
/// Version 1 writes a number beyond all memory for "no limit": the largest multiple of a page, which may have 64 KiB.
const NO_LIMIT: u64 = i64::MAX as u64 / (64 << 10) * (64 << 10);
/// In place of an error of the system: what was read is not as expected.
const NOT_UNDERSTOOD: i32 = 0;
const MOUNTS: &str = "/proc/self/mountinfo";
const GROUPS: &str = "/proc/self/cgroup";

/// What begins the name of a file of the control group in messages.
const IN_GROUP: &str = "cgroup: ";
/// Nobody holds the lock for that long, except a thread that is gone since `fork`.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the collector has said last of what it could not read.
static TROUBLES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What could not be read, and why.
pub(crate) fn troubles() -> Vec<String> {
    TROUBLES.try_lock_for(PATIENCE).map(|told| told.clone()).unwrap_or_default()
}

fn publish(troubles: Vec<String>) {
    let before =
        TROUBLES.try_lock_for(PATIENCE).map(|mut told| std::mem::replace(&mut *told, troubles));
    // Not freed while the lock is held.
    drop(before);
}

/// See the module.
pub(super) struct Sources {
    /// What is mounted below `/proc` and is not of the kernel, as `lxcfs` does: a process answers, or hangs.
    foreign: Vec<PathBuf>,
    buffer: Box<[u8]>,
    group: ControlGroup,
    page: u64,
    tick: u64,
    troubles: Troubles,
}

/// The control group whose files are read.
#[derive(Default)]
struct ControlGroup {
    /// What `/proc/self/cgroup` said when it was looked for.
    known: Vec<u8>,
    /// How many readings ago it was asked, and how many questions ago it was looked for.
    asked: Option<u32>,
    looked: Option<u32>,
    unified: Option<Directory>,
    cpu: Option<Directory>,
    memory: Option<Directory>,
}

/// A directory, to which the name of a file is added while it is read: nothing is allocated for that.
struct Directory(PathBuf);

/// What cannot be read.
#[derive(Default)]
struct Troubles {
    files: Vec<(&'static str, i32)>,
    has_changed: bool,
}

impl Troubles {
    /// Notes whether this can be read; `error` is the system's number.
    fn note(&mut self, file: &'static str, error: Option<i32>) {
        let at = self.files.iter().position(|(known, _)| *known == file);
        match (at, error) {
            (Some(at), Some(error)) if self.files[at].1 != error => self.files[at].1 = error,
            (Some(at), None) => drop(self.files.swap_remove(at)),
            (None, Some(error)) => self.files.push((file, error)),
            _ => return,
        }
        self.has_changed = true;
    }

    fn note_result<T>(&mut self, file: &'static str, result: io::Result<T>) -> Option<T> {
        let number = |error: &io::Error| error.raw_os_error().unwrap_or(NOT_UNDERSTOOD);
        self.note(file, result.as_ref().err().map(number));
        result.ok()
    }

    fn in_words(&self) -> Vec<String> {
        let mut words: Vec<_> = self
            .files
            .iter()
            .map(|(file, error)| match *error {
                NOT_UNDERSTOOD => format!("{file}: it is not as expected"),
                error => format!("{file}: {}", io::Error::from_raw_os_error(error)),
            })
            .collect();
        words.sort();
        words
    }
}

impl Sources {
    pub(super) fn new(groups: Groups) -> Self {
        publish(Vec::new());
        let (mut buffer, mut foreign) = (0, Vec::new());
        if groups != Groups::NONE {
            buffer = BUFFER;
            let mounts = kernel_files::read_at_most(Path::new(MOUNTS), MOST_MOUNTS);
            foreign = cgroup::foreign(parse::text(&mounts.unwrap_or_default()), MOST_FOREIGN);
        }
        Self {
            foreign,
            buffer: vec![0; buffer].into(),
            group: ControlGroup::default(),
            page: kernel_files::page_size(),
            tick: 1_000_000_000 / kernel_files::ticks_a_second(),
            troubles: Troubles::default(),
        }
    }

    /// Makes known what cannot be read, if that has changed.
    pub(super) fn tell(&mut self) {
        if std::mem::take(&mut self.troubles.has_changed) {
            publish(self.troubles.in_words());
        }
    }

    /// Reads a group: counts that only grow as they are.
    pub(super) fn read(&mut self, group: CounterGroup, out: &mut Values) {
        match group {
            CounterGroup::Memory => self.memory(out),
            CounterGroup::Process => self.process(out),
            CounterGroup::Descriptors => self.descriptors(out),
            CounterGroup::Storage => self.storage(out),
            CounterGroup::Pressure => self.pressure(out),
            CounterGroup::Cgroup => self.cgroup(out),
            CounterGroup::Network => self.network(out),
            CounterGroup::Machine => self.machine(out),
            // No file has them.
            CounterGroup::Runtime => {}
            // A later one is not known here.
            _ => {}
        }
    }

    /// Not `smaps_rollup`, which walks the page tables: the more memory, the longer. The kernel adds up
    /// `statm` from what each core has counted, so it may be off by some dozens of pages a core.
    fn memory(&mut self, out: &mut Values) {
        let page = self.page;
        self.proc("/proc/self/statm", |text| {
            let [mapped, resident, of_files] = parse::columns::<3>(text, 0)?;
            out.add(Counter::Resident, resident.saturating_mul(page));
            let anonymous = resident.saturating_sub(of_files);
            out.add(Counter::Anonymous, anonymous.saturating_mul(page));
            out.add(Counter::Virtual, mapped.saturating_mul(page));
            Some(())
        });
    }

    fn process(&mut self, out: &mut Values) {
        let Some(usage) = self.troubles.note_result("getrusage", kernel_files::usage()) else {
            return;
        };
        // The type of these numbers differs between systems.
        let count = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
        let nanos = |time: libc::timeval| {
            let (seconds, micros) = (time.tv_sec.max(0) as u64, time.tv_usec.max(0) as u64);
            seconds.saturating_mul(1_000_000_000).saturating_add(micros.saturating_mul(1000))
        };
        out.add(Counter::MinorFaults, count(usage.ru_minflt));
        out.add(Counter::MajorFaults, count(usage.ru_majflt));
        out.add(Counter::VoluntarySwitches, count(usage.ru_nvcsw));
        out.add(Counter::InvoluntarySwitches, count(usage.ru_nivcsw));
        out.add(Counter::UserTime, nanos(usage.ru_utime));
        out.add(Counter::SystemTime, nanos(usage.ru_stime));
        out.add(Counter::PeakResident, count(usage.ru_maxrss).saturating_mul(1024));
    }

    fn descriptors(&mut self, out: &mut Values) {
        let size = fs::metadata("/proc/self/fd").map(|about| about.len());
        let open = match self.troubles.note_result("/proc/self/fd", size) {
            // Kernels before 6.2 always say that.
            Some(0) => self.count_descriptors(),
            size => size,
        };
        if let Some(open) = open {
            out.add(Counter::Descriptors, open);
        }
        let limit = kernel_files::descriptor_limit();
        if let Some(Some(limit)) = self.troubles.note_result("getrlimit", limit) {
            out.add(Counter::DescriptorLimit, limit);
        }
    }

    fn count_descriptors(&mut self) -> Option<u64> {
        let count = fs::read_dir("/proc/self/fd").map(|all| all.take(MOST_DESCRIPTORS + 1).count());
        let count = self.troubles.note_result("/proc/self/fd", count)?;
        // The directory that is being read is one of them.
        (count <= MOST_DESCRIPTORS).then(|| count.saturating_sub(1) as u64)
    }

    fn storage(&mut self, out: &mut Values) {
        self.proc("/proc/self/io", |text| {
            out.add(Counter::StorageRead, parse::line(text, "read_bytes")?);
            out.add(Counter::StorageWritten, parse::line(text, "write_bytes")?);
            Some(())
        });
    }

    fn pressure(&mut self, out: &mut Values) {
        // For the machine as a whole, `full` is not defined for cores.
        self.proc("/proc/pressure/cpu", |text| {
            out.add(Counter::CpuSome, parse::pressure(text, "some")?);
            Some(())
        });
        let mut both = |file, some, full| {
            self.proc(file, |text| {
                out.add(some, parse::pressure(text, "some")?);
                out.add(full, parse::pressure(text, "full")?);
                Some(())
            });
        };
        both("/proc/pressure/memory", Counter::MemorySome, Counter::MemoryFull);
        both("/proc/pressure/io", Counter::IoSome, Counter::IoFull);
        self.find_group();
        let Self { group: ControlGroup { unified, .. }, buffer, troubles, .. } = self;
        let Some(directory) = unified else { return };
        let files = [
            ("cgroup: cpu.pressure", Counter::CgroupCpuSome, Counter::CgroupCpuFull),
            ("cgroup: memory.pressure", Counter::CgroupMemorySome, Counter::CgroupMemoryFull),
            ("cgroup: io.pressure", Counter::CgroupIoSome, Counter::CgroupIoFull),
        ];
        for (file, some, full) in files {
            directory.read(file, buffer, troubles, |text| {
                out.add(some, parse::pressure(text, "some")?);
                out.add(full, parse::pressure(text, "full")?);
                Some(())
            });
        }
    }

    fn cgroup(&mut self, out: &mut Values) {
        self.find_group();
        let Self { group: ControlGroup { unified, cpu, memory, .. }, buffer, troubles, .. } = self;
        let none = unified.is_none() && cpu.is_none() && memory.is_none();
        troubles.note("cgroup", none.then_some(libc::ENOENT));
        // What the first version has, the second has not.
        if let Some(cpu) = cpu.as_mut().or(unified.as_mut()) {
            cpu.read("cgroup: cpu.stat", buffer, troubles, |text| {
                // Without a limit the second version has only the time that was used.
                if let Some(periods) = parse::line(text, "nr_periods") {
                    out.add(Counter::Periods, periods);
                    out.add(Counter::ThrottledPeriods, parse::line(text, "nr_throttled")?);
                    let micros =
                        parse::line(text, "throttled_usec").map(|us| us.saturating_mul(1000));
                    let time = micros.or_else(|| parse::line(text, "throttled_time"))?;
                    out.add(Counter::ThrottledTime, time);
                }
                Some(())
            });
        }
        let mut level = |directory: &mut Directory, file, counter| {
            directory.read(file, buffer, troubles, |text| {
                // `max` is no limit, and no number.
                if let Some(bytes) = parse::number(text).filter(|bytes| *bytes < NO_LIMIT) {
                    out.add(counter, bytes);
                }
                Some(())
            });
        };
        if let Some(memory) = memory {
            let file = "cgroup: memory.usage_in_bytes";
            level(memory, file, Counter::CgroupMemory);
            let file = "cgroup: memory.limit_in_bytes";
            level(memory, file, Counter::CgroupMemoryLimit);
            memory.read("cgroup: memory.failcnt", buffer, troubles, |text| {
                out.add(Counter::LimitEvents, parse::number(text)?);
                Some(())
            });
            memory.read("cgroup: memory.oom_control", buffer, troubles, |text| {
                out.add(Counter::OomKills, parse::line(text, "oom_kill")?);
                Some(())
            });
        } else if let Some(unified) = unified {
            level(unified, "cgroup: memory.current", Counter::CgroupMemory);
            level(unified, "cgroup: memory.max", Counter::CgroupMemoryLimit);
            level(unified, "cgroup: memory.high", Counter::CgroupMemoryHigh);
            unified.read("cgroup: memory.events", buffer, troubles, |text| {
                out.add(Counter::HighEvents, parse::line(text, "high")?);
                out.add(Counter::LimitEvents, parse::line(text, "max")?);
                out.add(Counter::OomKills, parse::line(text, "oom_kill")?);
                Some(())
            });
        }
    }

    /// Looks for the process's control group, if it is another one by now.
    fn find_group(&mut self) {
        let Self { group, buffer, troubles, .. } = self;
        if let Some(asked) = group.asked.as_mut().filter(|asked| **asked < ASK_AGAIN) {
            *asked += 1;
            return;
        }
        group.asked = Some(0);
        let read = kernel_files::read(Path::new(GROUPS), buffer);
        let Some(length) = troubles.note_result(GROUPS, read) else { return };
        let said = &buffer[..length];
        let is_old = group.looked.is_none_or(|ago| ago >= LOOK_AGAIN && group.is_incomplete());
        if !is_old && group.known == said {
            group.looked = group.looked.map(|ago| ago.saturating_add(1));
            return;
        }
        group.looked = Some(0);
        group.known.clear();
        group.known.extend_from_slice(said);
        let mounts = kernel_files::read_at_most(Path::new(MOUNTS), MOST_MOUNTS);
        let Some(mounts) = troubles.note_result(MOUNTS, mounts) else { return };
        let places = Places::of(parse::text(said), parse::text(&mounts));
        group.unified = places.unified.map(Directory);
        group.cpu = places.cpu.map(Directory);
        group.memory = places.memory.map(Directory);
    }

    fn network(&mut self, out: &mut Values) {
        self.proc("/proc/self/net/snmp", |text| {
            out.add(Counter::TcpSent, parse::network(text, "Tcp", "OutSegs")?);
            out.add(Counter::TcpRetransmitted, parse::network(text, "Tcp", "RetransSegs")?);
            Some(())
        });
        self.proc("/proc/self/net/netstat", |text| {
            out.add(Counter::ListenOverflows, parse::network(text, "TcpExt", "ListenOverflows")?);
            out.add(Counter::ListenDrops, parse::network(text, "TcpExt", "ListenDrops")?);
            Some(())
        });
    }

    fn machine(&mut self, out: &mut Values) {
        let tick = self.tick;
        self.proc("/proc/stat", |text| {
            let [steal] = parse::columns::<1>(text, 8)?;
            out.add(Counter::Steal, steal.saturating_mul(tick));
            Some(())
        });
    }

    fn proc(&mut self, file: &'static str, take: impl FnOnce(&str) -> Option<()>) {
        let path = Path::new(file);
        if self.foreign.iter().any(|mounted| path.starts_with(mounted)) {
            return self.troubles.note(file, Some(NOT_UNDERSTOOD));
        }
        read(path, file, &mut self.buffer, &mut self.troubles, take);
    }
}

impl ControlGroup {
    fn is_incomplete(&self) -> bool {
        self.unified.is_none() && (self.cpu.is_none() || self.memory.is_none())
    }
}

impl Directory {
    /// Reads a file of the control group, whose name follows [`IN_GROUP`].
    fn read(
        &mut self,
        file: &'static str,
        buffer: &mut [u8],
        troubles: &mut Troubles,
        take: impl FnOnce(&str) -> Option<()>,
    ) {
        self.0.push(file.strip_prefix(IN_GROUP).unwrap_or(file));
        read(&self.0, file, buffer, troubles, take);
        self.0.pop();
    }
}

/// Reads a file, which has this name in messages. `take` returns `None` if its text is not as expected.
fn read(
    path: &Path,
    name: &'static str,
    buffer: &mut [u8],
    troubles: &mut Troubles,
    take: impl FnOnce(&str) -> Option<()>,
) {
    let error = match kernel_files::read(path, buffer) {
        Ok(length) => take(parse::text(&buffer[..length])).is_none().then_some(NOT_UNDERSTOOD),
        Err(error) => Some(error.raw_os_error().unwrap_or(NOT_UNDERSTOOD)),
    };
    troubles.note(name, error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_and_cannot_be_read_is_told_once_and_no_longer_than_it_is_true() {
        let mut troubles = Troubles::default();
        troubles.note("one", Some(libc::EACCES));
        troubles.note("two", Some(NOT_UNDERSTOOD));
        assert!(std::mem::take(&mut troubles.has_changed));
        troubles.note("one", Some(libc::EACCES));
        troubles.note("three", None);
        assert!(!troubles.has_changed);
        let words = troubles.in_words().join("; ");
        assert!(words.starts_with("one: Permission denied") && words.ends_with("as expected"));
        troubles.note("one", None);
        assert!(troubles.has_changed && troubles.in_words().len() == 1);
    }

    #[test]
    fn the_machine_says_what_it_has_and_what_it_has_not_is_told() {
        let mut sources = Sources::new(Groups::ALL);
        let mut all = Vec::new();
        for group in CounterGroup::ALL {
            let mut found = Values::NONE;
            sources.read(group, &mut found);
            all.extend_from_slice(found.all());
        }
        let of = |counter| all.iter().find(|(one, _)| *one == counter).map(|(_, value)| *value);
        let has = |counter, path: &str| {
            let told = sources.troubles.in_words();
            assert!(of(counter).is_some() || told.iter().any(|one| one.contains(path)), "{told:?}");
        };
        has(Counter::Resident, "statm");
        has(Counter::StorageRead, "io");
        has(Counter::CpuSome, "pressure/cpu");
        has(Counter::TcpRetransmitted, "snmp");
        has(Counter::ListenDrops, "netstat");
        has(Counter::Steal, "stat");
        has(Counter::Descriptors, "fd");
        assert!(of(Counter::Resident) >= of(Counter::Anonymous));
        let peak = of(Counter::PeakResident);
        if peak.is_none_or(|peak| peak == 0) {
            println!("skipped: the kernel does not say how much memory was resident at most");
        } else {
            assert!(peak > Some(1 << 20));
        }
        match fs::read_dir("/proc/self/fd").map(Iterator::count) {
            // Other tests open and close some meanwhile.
            Ok(open) => {
                let told = of(Counter::Descriptors);
                assert!(
                    told.is_none_or(|told| told.abs_diff(open as u64) < 1000),
                    "{told:?}, {open}"
                );
            }
            Err(error) => println!("skipped: how many descriptors are open: {error}"),
        }
    }

    #[test]
    fn what_a_process_serves_below_proc_is_not_read() {
        let mut sources = Sources::new(Groups::ALL);
        sources.foreign = vec!["/proc/self/statm".into(), "/proc/pressure".into()];
        let mut found = Values::NONE;
        sources.memory(&mut found);
        assert!(found.all().is_empty());
        let told = sources.troubles.in_words();
        assert_eq!(told, ["/proc/self/statm: it is not as expected"]);
    }

    #[test]
    fn what_has_told_its_troubles_leaves_no_name_behind() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("one"), "7").unwrap();
        let mut directory = Directory(place.path().to_owned());
        let (mut troubles, mut found) = (Troubles::default(), None);
        for name in ["cgroup: two", "cgroup: one"] {
            directory.read(name, &mut [0; 9], &mut troubles, |text| {
                found = parse::number(text);
                Some(())
            });
        }
        assert_eq!((found, directory.0.as_path()), (Some(7), place.path()));
        assert!(troubles.in_words().concat().starts_with("cgroup: two: No such file"));
    }
}
