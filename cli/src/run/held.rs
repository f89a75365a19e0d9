//! The arenas that are held, and the processes that they are of.

use super::how::How;
use super::say;
use super::signals::Signal;
use crate::arena_file::ArenaFile;
use crate::outcome::complain;
use crate::output::write_new;
use crate::process::Stat;
use crate::saved::{name_for, whose};
use crate::text::{bytes, duration};
use anyhow::anyhow;
use lookback::read::recover::recover;
use lookback::read::wire::{ArenaHeader, Metadata};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// The most arenas that are held of processes whose end cannot be seen. Each takes as much memory as it has
/// bytes, and a descriptor, until the service has ended; and a service may go on for ever in making such
/// processes.
const MOST_UNSEEN: usize = 32;

/// See the module.
pub struct Held {
    directory: PathBuf,
    always: bool,
    processes: Vec<Process>,
    /// How many arenas were ever handed over.
    pub ever: u64,
}

/// A process that records, or has recorded.
struct Process {
    pid: u32,
    life: Life,
    ended: Option<How>,
    arenas: Vec<ArenaFile>,
}

/// How it is seen that a process ends.
enum Life {
    /// By a descriptor of it.
    Watched(OwnedFd),
    /// The kernel gives us none: it is looked at now and then; it began at this time.
    LookedAt(u64),
    /// It is in a namespace of process numbers that cannot be seen from here: it counts as alive until the
    /// service has ended.
    Unseen,
    /// It has ended already.
    Over,
}

impl Held {
    pub fn new(directory: PathBuf, always: bool) -> Self {
        Self { directory, always, processes: Vec::new(), ever: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// How many processes there are.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// A process has handed its arena over; it has no number if it is in a namespace that cannot be seen from here.
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
        let is_unseen = pid.is_none();
        // What it says of itself is its number where it is.
        let pid = pid.or(header.map(|header| header.pid)).unwrap_or_default();
        if is_unseen {
            complain(&format!(
                "process {pid} of another namespace has handed its recording over: its end cannot be seen from here, \
                 so what it left is saved when the command has ended"
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
        // A recording that it has ended in order to begin another one is done with.
        let arenas = &mut self.processes[index].arenas;
        arenas.retain(|arena| arena.header().is_none_or(|header| !header.ended));
        arenas.push(arena);
        if is_unseen {
            self.bound_unseen();
        }
    }

    /// Lets go of those arenas whose processes say that their recording is over, and, where there are too many
    /// all the same, of the oldest: what is to be saved of them is saved now.
    fn bound_unseen(&mut self) {
        let is_unseen = |process: &Process| matches!(process.life, Life::Unseen);
        let over = |arena: &ArenaFile| arena.header().is_some_and(|header| header.ended);
        let mut unseen = 0;
        let mut done = Vec::new();
        // The newest come last.
        for process in self.processes.iter_mut().rev().filter(|process| is_unseen(process)) {
            for arena in std::mem::take(&mut process.arenas).into_iter().rev() {
                let is_over = over(&arena);
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
                    "more than {MOST_UNSEEN} recordings of processes whose end cannot be seen from here: that of process \
                     {pid} is saved as it is now, and held no longer"
                ));
            }
            let saved = self.save(pid, &arena, None);
            saved.unwrap_or_else(|error| complain(&format!("{error:#}")));
        }
    }

    /// Waits for all of them to end. Whether one of them must be looked at now and then.
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

    /// A child has ended, and this is how.
    pub fn note_end(&mut self, pid: u32, how: How) {
        let is_it =
            |process: &&mut Process| process.pid == pid && !matches!(process.life, Life::Unseen);
        if let Some(process) = self.processes.iter_mut().find(is_it) {
            process.ended = Some(how);
            process.life = Life::Over;
        }
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

    /// The service has ended: nothing more can be known of those whose end cannot be seen.
    pub fn give_up_unseen(&mut self) {
        for process in &mut self.processes {
            if matches!(process.life, Life::Unseen) {
                process.life = Life::Over;
            }
        }
    }

    /// Saves what those have left that have ended.
    pub fn save_dead(&mut self) {
        let (dead, alive) =
            std::mem::take(&mut self.processes).into_iter().partition(Process::has_ended);
        self.processes = alive;
        let dead: Vec<Process> = dead;
        for process in dead {
            let how = process.ended.or_else(|| process.ask_how());
            for arena in &process.arenas {
                let saved = self.save(process.pid, arena, how);
                saved.unwrap_or_else(|error| complain(&format!("{error:#}")));
            }
        }
    }

    fn save(&self, pid: u32, arena: &ArenaFile, how: Option<How>) -> anyhow::Result<()> {
        let header = arena.header();
        let in_order = header.as_ref().is_some_and(|header| header.ended)
            && how.is_none_or(|how| how == How::Exited(0));
        if in_order && !self.always {
            return Ok(());
        }
        let content = arena.read()?;
        let mut recovered =
            recover(&content).map_err(|error| anyhow!("{}: {error}", arena.name))?;
        let reason = reason(recovered.header(), how, recovered.reason());
        let mut snapshot = Vec::new();
        recovered.write_to(&mut snapshot, &reason, "run")?;
        if !self.directory.as_os_str().is_empty() {
            // It may have been taken away in all this time. If that fails, so does writing, and says why.
            let _ = std::fs::create_dir_all(&self.directory);
        }
        let path = write_new(&self.directory, &name_for(header.as_ref(), pid), &snapshot)?;
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

/// Why it is saved: how the process ended, and what it noted of that itself.
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
    /// `start` is when the process began that is meant.
    fn of(pid: u32, start: Option<u64>) -> Self {
        let Some(raw) = Pid::from_raw(pid.cast_signed()) else { return Self::Over };
        let descriptor = pidfd_open(raw, PidfdFlags::empty());
        // Its number may be another's by now.
        let there = Stat::of(pid).filter(|stat| start.is_none_or(|start| start == stat.start));
        match (descriptor, there) {
            (Err(Errno::SRCH), _) | (_, None) => Self::Over,
            (Ok(descriptor), Some(_)) => Self::Watched(descriptor),
            (Err(_), Some(stat)) => Self::LookedAt(stat.start),
        }
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

    /// How it ended, if anybody knows.
    fn ask_how(&self) -> Option<How> {
        let Life::Watched(descriptor) = &self.life else { return None };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ours = waitid(WaitId::PidFd(descriptor.as_fd()), options).ok().flatten();
        ours.as_ref().and_then(How::of_id).or_else(|| {
            // Another's child, which its parent has not taken leave of yet.
            let stat = Stat::of(self.pid).filter(Stat::has_ended)?;
            Some(How::of_raw(stat.exit_code))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback::read::wire::{ARENA_MAGIC, ARENA_VERSION, offset};
    use std::os::unix::fs::FileExt;

    /// An arena in which nothing was recorded yet, of a process that calls itself so.
    fn arena(pid: u32) -> File {
        let file = tempfile::tempfile().unwrap();
        let put = |at: usize, bytes: &[u8]| file.write_all_at(bytes, at as u64).unwrap();
        file.set_len(offset::DATA as u64 + 4096).unwrap();
        put(0, &ARENA_MAGIC);
        put(offset::VERSION, &ARENA_VERSION.to_le_bytes());
        put(offset::HEADER_LENGTH, &(offset::DATA as u32).to_le_bytes());
        put(offset::CAPACITY, &4096_u64.to_le_bytes());
        put(offset::PID, &pid.to_le_bytes());
        file
    }

    fn end(file: &File) {
        file.write_all_at(&1_u64.to_le_bytes(), offset::ENDED as u64).unwrap();
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
        let mut held = Held::new(place.path().to_owned(), false);
        for pid in 1..=1000 {
            let file = arena(pid);
            held.add(None, file.try_clone().unwrap());
            assert_eq!(pids(&held), [pid], "those before have ended");
            end(&file);
        }
        let files: Vec<_> = (2000..2100).map(arena).collect();
        for file in &files {
            held.add(None, file.try_clone().unwrap());
        }
        let newest: Vec<_> = (2000..2100).skip(100 - MOST_UNSEEN).collect();
        assert_eq!(pids(&held), newest);
        assert_eq!(held.len(), MOST_UNSEEN);
    }
}
