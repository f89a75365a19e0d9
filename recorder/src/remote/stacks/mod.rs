//! The stacks of another process's threads, which need not have a recorder in it: it may hang, or be stopped.
//!
//! What code it has loaded is read from its memory, as are its stacks. All that is done by a thread of its own, which is
//! not waited for without end: pages of the process may belong to a file system that never answers.

mod alone;
mod code;
mod interrupted;
mod memory;
#[cfg(test)]
mod tests;
mod thread;
pub(crate) mod wait;

use super::OutsideError;
use super::error::denied;
use crate::os::process::Stat;
use crate::os::{clock, own_thread};
use crate::stack::unwind::Address;
pub use alone::write_stacks_alone;
use code::Mappings;
use interrupted::Tracing;
use lookback_snapshot::wire::{
    CodeFile, CodeFrame, MOST_THREADS, ProcessStacks, StackSource, ThreadAt, WaitsOn,
};
use memory::OutsideMemory;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use thread::{Target, Walked};

/// So long is looked, tables included.
const PATIENCE: Duration = Duration::from_secs(20);
/// So much longer is waited.
const GRACE: Duration = Duration::from_secs(5);
/// What is loaded while the threads are looked at has them looked at again so often.
const TRIES: u32 = 3;

/// The stacks of a process's threads. Threads that block are not disturbed; those that run are interrupted for a moment
/// if `stop` says so, else they have no stack.
///
/// # Errors
/// The process does not exist, or the kernel does not allow it.
pub fn stacks_of_process(pid: u32, stop: bool) -> Result<ProcessStacks, OutsideError> {
    let (done, found) = mpsc::sync_channel(1);
    let work = move || drop(done.send(taken(pid, stop)));
    let failed = |error| OutsideError::Io { name: format!("process {pid}"), error };
    own_thread::spawn("lookback-stacks", work).map_err(failed)?;
    found.recv_timeout(PATIENCE + GRACE).unwrap_or_else(|_| {
        let what = "its memory does not answer";
        Err(failed(io::Error::new(io::ErrorKind::TimedOut, what)))
    })
}

fn taken(pid: u32, stop: bool) -> Result<ProcessStacks, OutsideError> {
    let began = Instant::now();
    let tracing = stop.then(Tracing::new);
    let is_over = || {
        if let Some(tracing) = &tracing {
            tracing.release_late();
        }
        began.elapsed() > PATIENCE
    };
    let start =
        Stat::of(pid).filter(|stat| !stat.has_ended()).ok_or(OutsideError::NoProcess(pid))?;
    let file = File::open(format!("/proc/{pid}/mem")).map_err(|error| denied(pid, error))?;
    let memory = OutsideMemory(&file);
    let mut mappings = mappings_of(pid)?;
    let mut tries = 0;
    loop {
        tries += 1;
        let code = mappings.code(memory, &is_over);
        let target = Target { pid, memory, code: &code, tracing: tracing.as_ref() };
        let stacks = Taking::new(&target).run(&is_over)?;
        let now = mappings_of(pid)?;
        if now == mappings || tries == TRIES || is_over() {
            // The number may be that of another process by now.
            let is_same = Stat::of(pid).is_some_and(|stat| stat.start == start.start);
            return if is_same { Ok(stacks) } else { Err(OutsideError::NoProcess(pid)) };
        }
        mappings = now;
    }
}

fn mappings_of(pid: u32) -> Result<Mappings, OutsideError> {
    Mappings::of(pid).map_err(|error| denied(pid, error))
}

/// Stacks that are being taken.
struct Taking<'a> {
    target: &'a Target<'a>,
    found: ProcessStacks,
    modules: HashMap<u32, u32>,
    frames: HashMap<CodeFrame, u32>,
}

impl<'a> Taking<'a> {
    fn new(target: &'a Target<'a>) -> Self {
        let mut found = ProcessStacks::default();
        (found.wall, found.monotonic) = (clock::wall(), clock::monotonic());
        Self { target, found, modules: HashMap::new(), frames: HashMap::new() }
    }

    fn run(mut self, is_over: &dyn Fn() -> bool) -> Result<ProcessStacks, OutsideError> {
        let pid = self.target.pid;
        let (threads, left_out) = threads_of(pid)?;
        self.found.left_out = left_out;
        let numbers: HashSet<u32> =
            threads.iter().filter_map(|thread| u32::try_from(*thread).ok()).collect();
        let mut all = Vec::new();
        for thread in threads {
            let path = format!("{pid}/task/{thread}");
            let name = fs::read(format!("/proc/{path}/comm")).unwrap_or_default();
            let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
            let state = Stat::of(&path).map_or('?', |stat| stat.state);
            let walked = if is_over() {
                Some(Err(StackSource::NoAnswer))
            } else {
                self.target.stack_of(thread)
            };
            // One that has ended meanwhile is left out.
            let Some(walked) = walked else { continue };
            let at = ThreadAt::new(thread, name, state, StackSource::NoAnswer);
            all.push(self.put(at, walked, &numbers));
        }
        self.connect(&mut all, is_over);
        self.found.threads = all.into_iter().map(|(thread, _)| thread).collect();
        Ok(self.found)
    }

    fn put(
        &mut self,
        mut thread: ThreadAt,
        walked: Result<Walked, StackSource>,
        numbers: &HashSet<u32>,
    ) -> (ThreadAt, Option<Walked>) {
        let walked = match walked {
            Ok(walked) => walked,
            Err(why) => {
                thread.source = why;
                return (thread, None);
            }
        };
        thread.source = walked.source;
        thread.end = walked.end;
        let outermost_first = walked.frames.iter().rev();
        thread.stack = outermost_first.fold(0, |caller, frame| self.frame(caller, *frame));
        if let Some(call) = walked.call {
            let is_thread = |number| numbers.contains(&number);
            thread.waits = wait::waits(self.target.pid, self.target.memory, call, &is_thread);
        }
        (thread, Some(walked))
    }

    /// The number of a frame that returns to that one.
    fn frame(&mut self, caller: u32, frame: Address) -> u32 {
        let found = self.target.code.find(frame.at());
        // A return address may lie behind the end of what has called.
        let behind = frame.get() - frame.at();
        let (module, offset) = match found {
            Some((module, at)) => (self.module(module), u64::from(at) + behind),
            None => (0, frame.get()),
        };
        let frame = CodeFrame::new(caller, module, offset, frame.is_exact());
        let frames = &mut self.found.frames;
        *self.frames.entry(frame).or_insert_with(|| {
            frames.push(frame);
            frames.len() as u32
        })
    }

    fn module(&mut self, module: &crate::stack::modules::Module) -> u32 {
        let modules = &mut self.found.modules;
        *self.modules.entry(module.number).or_insert_with(|| {
            modules.push(CodeFile::new(&*module.path, &*module.build_id));
            modules.len() as u32
        })
    }

    /// Notes which threads use what others wait for.
    fn connect(&self, all: &mut [(ThreadAt, Option<Walked>)], is_over: &dyn Fn() -> bool) {
        let futex = |thread: &ThreadAt| match thread.waits.on {
            WaitsOn::Futex { address, .. } => Some(address),
            _ => None,
        };
        let mut wanted: Vec<_> = all.iter().filter_map(|(thread, _)| futex(thread)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return;
        }
        for (thread, walked) in all {
            if is_over() {
                break;
            }
            let Some(walked) = walked else { continue };
            let own = futex(thread);
            let others: Vec<u64> =
                wanted.iter().copied().filter(|address| Some(*address) != own).collect();
            if let Some(refers) = self.target.refers(thread.os_thread, walked, &others) {
                (thread.refers, thread.uses) = refers;
            }
        }
    }
}

/// The threads of a process, and how many more there are than are looked at.
fn threads_of(pid: u32) -> Result<(Vec<u64>, u64), OutsideError> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| denied(pid, error))?;
    let (mut threads, mut left_out) = (Vec::new(), 0);
    for entry in entries.map_while(Result::ok) {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if threads.len() < MOST_THREADS {
            threads.push(number);
        } else {
            left_out += 1;
        }
    }
    threads.sort_unstable();
    Ok((threads, left_out))
}
