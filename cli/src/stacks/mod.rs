//! `lookback stacks`: where threads were, by function and line.

mod cpu;
mod groups;
mod heap;
mod print;
mod print_tasks;
mod tasks;
mod threads;

pub use cpu::why_none as why_no_samples;
pub use heap::why_none as why_no_heap;
pub use print_tasks::idle_json;

use crate::exit::{Damage, Verdict, complain, open};
use crate::format::parse_duration;
use crate::frames;
use crate::process::parse_pid;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use groups::Groups;
use lookback::command::stacks_of_process;
use lookback::read::Trace;
use lookback::read::analysis::{ThreadPlaces, standing_threads};
use lookback::read::symbols::Symbolizer;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;
use tasks::TaskGroups;
pub use threads::{Lock, Threads};

/// Print the stacks in a snapshot: of stalled polls, of panics, of errors, and of a crash; where the tasks wait; where CPU
/// time went; or the stacks of a process's threads right now.
#[derive(Args, Debug)]
#[command(after_help = "\
Equal stacks are shown once, the most frequent first. Frames between the service's own functions (the standard \
library, executors, servers) are folded; --all-frames shows them.

A snapshot that was taken from outside has the stacks of all threads, too: those at the same place are shown together, \
with what they wait for, and deadlocks come first. Of a thread that is in no function of the service, such as an idle \
worker, the innermost three frames are shown. With the number of a process the same is shown of how it is now, \
whether it is being recorded or not; write ./4711 for a file of that name. Threads that block are not stopped for it, and \
need not run: the process may hang, or be stopped. Who holds a lock is certain of a mutex of the C library, which notes \
its owner. Of a mutex of the standard library a thread is suspected that has the mutex's address on its stack, if only \
one has. Without stacks from outside, those that the recorder has taken of threads \
that stood still at the end are shown in the same way.

With --tasks: where the tasks wait that were idle when the last complete generation of the snapshot ended, or the last \
one before --at. Tasks of one name that wait at the same places are shown once, the most first. A place is the stack \
inside of the task's poll at which its waker was registered: from the function that waits to the task. Above it stands \
what is waited for. A task may wait at several places at once; one that was registered in an earlier poll than the \
last one is marked, as the task may have gone on without it.

The names come from the recorded process's executable and libraries, which must be on this machine, in the very same \
build. If they are elsewhere, name their directory with --symbols: it may hold files of the same names, or debug \
information as `.build-id/ab/cdef….debug`. Lines and inlined functions are known if the service was built with debug \
information: `debug = 1` in its profile.

With --json: one object with `file`, `stacks` [{count, first_ns, reason, taken, thread {number, name}, end, damaged, \
frames [{module, build_id, offset, exact, functions [{name, file, line, inlined}]}, or {left_out: how many}]}], `left_out` (records of further stacks, after 1,000 different ones) and `problems` [why there are \
no names for some files]. `recorded` says whether the recorder took stacks, and \
`stalled_poll_ns` how long a poll had to stall; null if the file does not say, or no stall was watched for. `first_ns` is in \
nanoseconds since the first event of the snapshot, as in `lookback events`. `outside` (null if there is none; for a \
process the object itself) has `taken_wall_ns`, `threads` [{os_thread, name, state, taken, call, timed, waits_for, on, \
holder {os_thread, certain}, end, frames}], `deadlocks` [[os_thread]], `left_out` (threads after 10,000) \
and `stacks_left_out` (stacks after 200,000 frames). `standing` (null if there is none, or `outside` is there) has the same \
of the threads that the recorder itself has seen standing still; there a futex is a number that says no more than which \
threads wait for the same one.

With --tasks and --json: one object with `file`, `at_ns`, `generation`, `tasks` [{count, polled_since, name, file, line, \
tasks [the first 100 of their ids], waits_at [{earlier, end, damaged, frames}]}], `left_out` (tasks), `idle` {placed (it is known where they wait), unwrapped, \
left_out (for want of room), unknown}, `recorded` and `problems`. `polled_since` is how many of them were polled between that moment and the end of the snapshot.

With --cpu: where CPU time went, if the service takes samples (LOOKBACK_CPU_HZ=100, or `Builder::cpu_samples`): the \
functions with the most of it, by what they have used themselves (self) and with all that they have called (total), and \
the stacks with the most of it. `lookback export --format folded` and `--format pprof` write the same for other tools.

With --cpu and --json: one object with `file`, `per_second` (samples for each second of CPU time), `samples` (by weight), \
`cpu_ns`, `threads`, `covered_ns`, `functions` [{name, file, line, self, total, own}] (`self` and `total` are samples), \
`stacks` [{samples, thread, end, frames}] (`frames` as above), `unplaced` {reason: samples}, `left_out` and `problems`.

With --heap: what is alive in memory, and which stacks have allocated it, if the program declares `lookback::Alloc` as its \
global allocator. What is said of a stack is an estimate by samples: about one in 512 KiB (`Builder::heap_samples`). With \
--json: one object with `file`, `live` {bytes, objects}, `covered` {ns, allocated_bytes, allocations, freed_bytes, frees, \
peak_bytes}, `samples`, `stacks` [{live {samples, objects, bytes, age_s}, allocated {samples, objects, bytes}, taken, end, \
frames}], `left_out` {stacks, live_samples, live_bytes} and `problems`.

Examples:
  lookback stacks incident.lbk
  lookback stacks \"$(pidof my-service)\"
  lookback stacks incident.lbk --all-frames
  lookback stacks incident.lbk --tasks --at 2.5s
  lookback stacks incident.lbk --cpu
  lookback stacks incident.lbk --symbols ./debug --json | jq -r '.stacks[0].frames[].functions[].name'")]
pub struct Stacks {
    /// The snapshot, or a process
    #[arg(value_name = "FILE|PID")]
    file: PathBuf,
    /// Print where the tasks of a snapshot wait
    #[arg(long)]
    tasks: bool,
    /// With --tasks: at this time since the first event
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "tasks")]
    at: Option<Duration>,
    /// Interrupt running threads of the process PID for a moment, for their stacks
    #[arg(long)]
    stop: bool,
    /// Also look for debug information in this directory
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Show where CPU time went, by the samples in a snapshot
    #[arg(long, conflicts_with_all = ["tasks", "at"])]
    cpu: bool,
    /// Show what is alive in memory, and what has allocated it
    #[arg(long, conflicts_with_all = ["tasks", "at", "cpu"])]
    heap: bool,
    /// Show all frames
    #[arg(long)]
    all_frames: bool,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

impl Stacks {
    pub fn run(self) -> anyhow::Result<Verdict> {
        if let Some(pid) = self.file.to_str().and_then(|text| parse_pid(text).ok()) {
            self.is_of_a_process(pid);
            return self.of_process(pid);
        }
        if self.stop {
            wrong("--stop interrupts the threads of a process: name its number, not a file");
        }
        let trace = open(&self.file)?;
        let mut damage = Damage::of(&trace);
        let mut symbolizer = frames::opening(&trace, &self.symbols);
        if self.tasks {
            let at = self.at.map(|at| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
            let tasks = TaskGroups::of(&trace, at, &mut symbolizer, &mut damage);
            let mut out = BufWriter::new(io::stdout().lock());
            if self.json {
                writeln!(out, "{:#}", print_tasks::json(&trace, &tasks, &symbolizer))?;
            } else {
                print_tasks::text(&trace, &tasks, self.all_frames, &mut out)?;
                out.flush()?;
                symbolizer.problems().iter().for_each(|line| complain(line));
            }
            out.flush()?;
            return Ok(damage.tell());
        }
        if self.cpu {
            return cpu::run(&trace, symbolizer, damage, self.all_frames, self.json);
        }
        if self.heap {
            return heap::run(&trace, symbolizer, damage, self.all_frames, self.json);
        }
        let groups = Groups::of(&trace, &mut symbolizer, &mut damage);
        let threads = trace.process_stacks().map(|stacks| Threads::of(stacks, &mut symbolizer));
        // Without those, what the recorder itself has seen of threads that stand still.
        let places = match threads {
            Some(_) => ThreadPlaces::default(),
            None => standing_threads(&trace),
        };
        let standing = (!places.standing.threads.is_empty())
            .then(|| Threads::standing(&places.standing, &mut symbolizer));
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            let mut json = print::json(&trace, &groups, &symbolizer);
            json["outside"] = threads.map_or(serde_json::Value::Null, |threads| threads.json());
            json["standing"] = standing.map_or(serde_json::Value::Null, |threads| threads.json());
            writeln!(out, "{json:#}")?;
        } else {
            let threads = threads.or(standing);
            if threads.is_none() || !groups.groups.is_empty() {
                print::text(&trace, &groups, self.all_frames, &mut out)?;
            }
            if let Some(threads) = threads {
                if !groups.groups.is_empty() {
                    writeln!(out)?;
                }
                threads.print(self.all_frames, &mut out)?;
            }
            out.flush()?;
            symbolizer.problems().iter().for_each(|line| complain(line));
        }
        out.flush()?;
        Ok(damage.tell())
    }

    /// Ends the command if what is asked for stands in a snapshot alone.
    fn is_of_a_process(&self, pid: u32) {
        let option = match (self.tasks, self.cpu, self.heap) {
            (true, ..) => "--tasks",
            (_, true, _) => "--cpu",
            (.., true) => "--heap",
            _ => return,
        };
        wrong(&format!(
            "{option} reads a snapshot: `lookback snapshot {pid}` takes one of the process"
        ));
    }

    /// The stacks of a process's threads.
    fn of_process(self, pid: u32) -> anyhow::Result<Verdict> {
        let stacks = stacks_of_process(pid, self.stop)?;
        // Its files are where it sees them, also in a container; its program may have been replaced.
        let mut symbolizer = Symbolizer::new()
            .with_root(format!("/proc/{pid}/root"))
            .with_file(format!("/proc/{pid}/exe"));
        symbolizer = self.symbols.into_iter().fold(symbolizer, Symbolizer::with_folder);
        let threads = Threads::of(&stacks, &mut symbolizer);
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            let mut json = threads.json();
            json["pid"] = pid.into();
            json["problems"] = symbolizer.problems().into();
            writeln!(out, "{json:#}")?;
        } else {
            threads.print(self.all_frames, &mut out)?;
            out.flush()?;
            symbolizer.problems().iter().for_each(|line| complain(line));
        }
        out.flush()?;
        Ok(Verdict::Sound)
    }
}

/// Whether a snapshot has the stacks of a process that was not being recorded, and nothing else.
pub fn is_of_threads_alone(trace: &Trace) -> bool {
    trace.generations().is_empty() && trace.process_stacks().is_some()
}

/// Ends the command: its options contradict each other.
fn wrong(why: &str) -> ! {
    crate::CommandLine::command().error(ErrorKind::ArgumentConflict, why).exit()
}
