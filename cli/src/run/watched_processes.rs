//! The arenas that are held, and the processes they belong to.

use super::exit_status::How;
use super::limits::Limits;
use super::say;
use super::signals::Signal;
use super::tape::{Bounds, Recording, Tape};
use crate::arena_file::ArenaFile;
use crate::exit::complain;
use crate::format::{bytes, duration};
use crate::process::Stat;
use crate::saved_snapshot::{name_for, name_of, whose};
use anyhow::anyhow;
use lookback::OutsideArena;
use lookback::command::save_for_run;
use lookback::read::recover::recover;
use lookback::read::wire::{ArenaHeader, Metadata};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// The most arenas to hold of processes whose end cannot be observed. Until the service has ended, each takes
/// a descriptor and as much memory as it has bytes, and a service may start such processes forever.
const MOST_UNSEEN: usize = 32;

/// See the module.
pub struct Held {
    directory: PathBuf,
    limits: Limits,
    always: bool,
    /// The signals, of those that ask for an end, that this command was sent and passes on.
    asked: Vec<i32>,
    /// If set, arenas are recorded to disk while their processes run.
    recording: Option<Bounds>,
    /// Recordings that are still writing the rest of processes that are no longer held.
    ending: Vec<Recording>,
    processes: Vec<Process>,
    /// How many arenas were ever handed over.
    pub ever: u64,
}

/// A process that records, or has recorded.
struct Process {
    pid: u32,
    life: Life,
    ended: Option<How>,
    arenas: Vec<Arena>,
}

/// An arena that is held, and its recording to disk, if any.
struct Arena {
    file: ArenaFile,
    recording: Option<Recording>,
}

/// How the end of a process is noticed.
enum Life {
    /// By a descriptor of the process.
    Watched(OwnedFd),
    /// By looking now and then, because the kernel gives us no descriptor; the process started at this time.
    LookedAt(u64),
    /// Not at all: it is in a PID namespace that is not visible from here. It counts as alive until the
    /// service has ended.
    Unseen,
    /// It has ended already.
    Over,
}

impl Held {
    pub fn new(
        directory: PathBuf,
        limits: Limits,
        always: bool,
        recording: Option<Bounds>,
    ) -> Self {
        Self {
            directory,
            limits,
            always,
            asked: Vec::new(),
            recording,
            ending: Vec::new(),
            processes: Vec::new(),
            ever: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// How many processes there are.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Takes an arena that a process has handed over. The process has no ID if it is in a namespace that is
    /// not visible from here.
    pub fn add(&mut self, pid: Option<u32>, file: File) {
        let name =
            pid.map_or("a process of another namespace".to_owned(), |pid| format!("process {pid}"));
        let arena = match ArenaFile::of(file, name) {
            Ok(arena) => arena,
            Err(error) => return complain(&format!("{error:#}")),
        };
        self.ever += 1;
        let header = arena.header();
        let start = header.as_ref().map(|header| header.process_start);
        let recording =
            self.recording.and_then(|bounds| self.record(&arena, header.as_ref(), pid, bounds));
        let is_unseen = pid.is_none();
        // The ID that it states is that of its own namespace.
        let pid = pid.or(header.map(|header| header.pid)).unwrap_or_default();
        if is_unseen {
            complain(&format!(
                "process {pid} is in another PID namespace, so its end cannot be observed; its last seconds are saved \
                 when the service has ended"
            ));
        }
        let is_it = |process: &Process| {
            process.pid == pid && matches!(process.life, Life::Unseen) == is_unseen
        };
        let known = self.processes.iter().position(is_it);
        let index = known.unwrap_or_else(|| {
            let life = if is_unseen { Life::Unseen } else { Life::of(pid, start) };
            self.processes.push(Process { pid, life, ended: None, arenas: Vec::new() });
            self.processes.len() - 1
        });
        // Drop an earlier recording that the process ended in order before it started this one.
        let arenas = &mut self.processes[index].arenas;
        let over = arenas.extract_if(.., |arena| arena.is_over());
        self.ending.extend(over.filter_map(Arena::end));
        arenas.push(Arena { file: arena, recording });
        if is_unseen {
            self.bound_unseen();
        }
    }

    /// Releases the arenas whose processes say that their recording is over and, if there are still too many,
    /// the oldest ones: what they hold is saved now.
    fn bound_unseen(&mut self) {
        let is_unseen = |process: &Process| matches!(process.life, Life::Unseen);
        let mut unseen = 0;
        let mut done = Vec::new();
        // The newest are last.
        for process in self.processes.iter_mut().rev().filter(|process| is_unseen(process)) {
            for arena in std::mem::take(&mut process.arenas).into_iter().rev() {
                let is_over = arena.is_over();
                if is_over || unseen == MOST_UNSEEN {
                    done.push((process.pid, is_over, arena));
                } else {
                    unseen += 1;
                    process.arenas.insert(0, arena);
                }
            }
        }
        self.processes.retain(|process| !is_unseen(process) || !process.arenas.is_empty());
        for (pid, is_over, arena) in done.into_iter().rev() {
            if !is_over {
                complain(&format!(
                    "more than {MOST_UNSEEN} processes whose end cannot be observed; the last seconds of process {pid} are saved now, \
                     and not when it ends"
                ));
            }
            let saved = self.save(pid, &arena.file, None);
            self.ending.extend(arena.end());
            saved.unwrap_or_else(|error| complain(&format!("{error:#}")));
        }
    }

    /// Adds all of them to a poll. Returns whether one of them must be looked at now and then.
    pub fn add_to<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) -> bool {
        let mut blind = false;
        for process in &self.processes {
            match &process.life {
                Life::Watched(descriptor) => fds.push(PollFd::new(descriptor, PollFlags::IN)),
                Life::Unseen => {}
                _ => blind = true,
            }
        }
        blind
    }

    /// A child has ended like this.
    pub fn note_end(&mut self, pid: u32, how: How) {
        let is_it =
            |process: &&mut Process| process.pid == pid && !matches!(process.life, Life::Unseen);
        if let Some(process) = self.processes.iter_mut().find(is_it) {
            process.ended = Some(how);
            process.life = Life::Over;
        }
    }

    /// This command was sent a signal. Call it before [`save_dead`](Self::save_dead): a signal to a whole group may have
    /// ended the service already.
    pub fn note_signal(&mut self, signal: &Signal) {
        self.asked.extend(signal.asks().filter(|asked| !self.asked.contains(asked)));
    }

    pub fn pass_on(&self, signal: &Signal) {
        for process in &self.processes {
            let Some(pid) = Pid::from_raw(process.pid.cast_signed()) else { continue };
            match &process.life {
                Life::Watched(descriptor) => signal.pass_on_through(pid, descriptor),
                Life::LookedAt(_) => signal.pass_on_to(pid),
                Life::Unseen | Life::Over => {}
            }
        }
    }

    /// The service has ended: nothing more can be learned about processes whose end cannot be observed.
    pub fn give_up_unseen(&mut self) {
        for process in &mut self.processes {
            if matches!(process.life, Life::Unseen) {
                process.life = Life::Over;
            }
        }
    }

    /// Saves what the processes that have ended have left.
    pub fn save_dead(&mut self) {
        let (dead, alive) =
            std::mem::take(&mut self.processes).into_iter().partition(Process::has_ended);
        self.processes = alive;
        let dead: Vec<Process> = dead;
        for process in dead {
            let how = process.ended.or_else(|| process.ask_how());
            for arena in process.arenas {
                let saved = self.save(process.pid, &arena.file, how);
                self.ending.extend(arena.end());
                saved.unwrap_or_else(|error| complain(&format!("{error:#}")));
            }
        }
    }

    /// Whether recordings are still writing the rest of processes that have ended.
    pub fn is_ending(&mut self) -> bool {
        self.ending.retain(|recording| !recording.has_ended());
        !self.ending.is_empty()
    }

    /// Starts to record an arena to disk.
    fn record(
        &self,
        arena: &ArenaFile,
        header: Option<&ArenaHeader>,
        pid: Option<u32>,
        bounds: Bounds,
    ) -> Option<Recording> {
        let pid = pid.or(header.map(|header| header.pid)).unwrap_or_default();
        let outside = arena.file().map(|file| OutsideArena::of_file(file, arena.name.clone()));
        let started = outside.map_err(anyhow::Error::from).and_then(|outside| {
            let tape = Tape::new(outside?, &self.directory, name_for(header, pid), bounds);
            Ok(Recording::start(tape, format!("process {pid}"))?)
        });
        let not = |error| {
            complain(&format!("{}: {error:#}; the process is not recorded to disk", arena.name))
        };
        started.map_err(not).ok()
    }

    fn save(&self, pid: u32, arena: &ArenaFile, how: Option<How>) -> anyhow::Result<()> {
        let header = arena.header();
        let in_order = header.as_ref().is_some_and(|header| header.ended)
            && how.is_none_or(|how| how == How::Exited(0));
        let crashed = header
            .as_ref()
            .and_then(|header| header.crash.as_ref())
            .is_some_and(|crash| !crash.survived);
        let as_asked = how.is_some_and(|how| how.obeys(&self.asked)) && !crashed;
        if (in_order || as_asked) && !self.always {
            return Ok(());
        }
        let content = arena.read()?;
        let mut recovered =
            recover(&content).map_err(|error| anyhow!("{}: {error}", arena.name))?;
        let reason = reason(recovered.header(), how, recovered.reason());
        let mut snapshot = Vec::new();
        recovered.write_to(&mut snapshot, &reason, "run")?;
        let name = name_of(header.as_ref());
        let limits = (self.limits.files, self.limits.bytes);
        let path = save_for_run(&self.directory, limits, (&name, pid), &snapshot)?;
        let metadata = header.map(|header| Metadata::decode(&header.metadata).unwrap_or_default());
        let damage = match recovered.damage() {
            [] => String::new(),
            [what] => format!("; damaged: {what}"),
            [what, rest @ ..] => format!("; damaged: {what}, and {} more", rest.len()),
        };
        say(&format!(
            "{}: {}: {reason}; its last {}, {}{damage}",
            path.display(),
            metadata.as_ref().map_or_else(|| format!("process {pid}"), whose),
            duration(recovered.covered().0),
            bytes(snapshot.len() as u64),
        ));
        Ok(())
    }
}

/// The reason in the snapshot: how the process ended, and its own note of that.
fn reason(header: &ArenaHeader, how: Option<How>, known: String) -> String {
    let crash = header.crash.as_ref().filter(|crash| !crash.survived);
    match (how, crash) {
        (None, _) => known,
        (Some(How::Killed(signal)), Some(crash)) if crash.signal == signal => crash.in_words(),
        (Some(how), Some(crash)) => format!("{how}, after {}", crash.in_words()),
        (Some(how), None) => how.to_string(),
    }
}

impl Life {
    /// `start` is when that process started.
    fn of(pid: u32, start: Option<u64>) -> Self {
        let Some(raw) = Pid::from_raw(pid.cast_signed()) else { return Self::Over };
        let descriptor = pidfd_open(raw, PidfdFlags::empty());
        // Another process may have its ID by now.
        let there = Stat::of(pid).filter(|stat| start.is_none_or(|start| start == stat.start));
        match (descriptor, there) {
            (Err(Errno::SRCH), _) | (_, None) => Self::Over,
            (Ok(descriptor), Some(_)) => Self::Watched(descriptor),
            (Err(_), Some(stat)) => Self::LookedAt(stat.start),
        }
    }
}

impl Arena {
    fn is_over(&self) -> bool {
        self.file.header().is_some_and(|header| header.ended)
    }

    /// Releases it: what was not recorded to disk yet is recorded now.
    fn end(self) -> Option<Recording> {
        self.recording.inspect(Recording::end)
    }
}

impl Process {
    fn has_ended(&self) -> bool {
        match &self.life {
            Life::Watched(descriptor) => {
                let mut fds = [PollFd::new(descriptor, PollFlags::IN)];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
            }
            Life::LookedAt(start) => !crate::process::is_alive(self.pid, *start),
            Life::Unseen => false,
            Life::Over => true,
        }
    }

    /// How it ended, if that can be found out.
    fn ask_how(&self) -> Option<How> {
        let Life::Watched(descriptor) = &self.life else { return None };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ours = waitid(WaitId::PidFd(descriptor.as_fd()), options).ok().flatten();
        ours.as_ref().and_then(How::of_id).or_else(|| {
            // Another process's child, which its parent has not reaped yet.
            let stat = Stat::of(self.pid).filter(Stat::has_ended)?;
            Some(How::of_raw(stat.exit_code))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::test_arena::{empty, put};
    use lookback::read::wire::offset;

    fn end(file: &File) {
        put(file, offset::ENDED, &1_u64.to_le_bytes());
    }

    fn pids(held: &Held) -> Vec<u32> {
        held.processes
            .iter()
            .flat_map(|process| process.arenas.iter().map(|_| process.pid))
            .collect()
    }

    #[test]
    fn of_processes_that_nobody_sees_end_no_more_is_held_than_records_and_only_so_much() {
        let place = tempfile::tempdir().unwrap();
        let mut held = Held::new(place.path().to_owned(), Limits::of(None, None), false, None);
        for pid in 1..=1000 {
            let file = empty(pid);
            held.add(None, file.try_clone().unwrap());
            assert_eq!(pids(&held), [pid], "those before have ended");
            end(&file);
        }
        let files: Vec<_> = (2000..2100).map(empty).collect();
        for file in &files {
            held.add(None, file.try_clone().unwrap());
        }
        let newest: Vec<_> = (2000..2100).skip(100 - MOST_UNSEEN).collect();
        assert_eq!(pids(&held), newest);
        assert_eq!(held.len(), MOST_UNSEEN);
    }
}
