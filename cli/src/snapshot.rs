//! `lookback snapshot`: takes a snapshot of another process, which need not cooperate.

use crate::exit::Verdict;
use crate::format::counted;
use crate::output::Output;
use crate::process;
use crate::ps::{Choice, chosen};
use crate::saved_snapshot::{Saved, Saving, To, crash_json, name_for};
use anyhow::anyhow;
use clap::Args;
use lookback::OutsideError;
use lookback::command::{stacks_of_process, stem_from_outside, write_stacks_alone};
use lookback::read::{ProcessStacks, StackSource};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;

/// Take a snapshot of a running process from outside: it may be busy, deadlocked or stopped.
#[derive(Args, Debug)]
#[command(after_help = "\
The process need not cooperate, and is not slowed down. The copy is checked afterwards: generations that \
the process overwrote meanwhile are left out. The snapshot has the stacks of all threads that block, which are \
read without stopping them; `lookback stacks` shows them. Of threads that run there is a stack with --stop, which \
interrupts each for a fraction of a millisecond. Of a process that is not being recorded there are the stacks alone. The snapshot is written to NAME-PID-TIME.lbk in the \
working directory unless -o names a file. `lookback ps` lists the recorded processes.

The kernel allows it for processes of the same user that are dumpable and have no capabilities that the \
caller lacks; for all others it takes root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH. Stacks need root or \
CAP_SYS_PTRACE also where kernel.yama.ptrace_scope is 1, as on Ubuntu.

With --json: one object with `file`, `bytes`, `pid`, `process` {name, pid}, `standstill` (why it does \
not run, or null), `over` (it has ended meanwhile), `recorded`, `stacks` {threads, with_stack, left_out, \
error (why there are none, or null)}, `crash`, `reason`, `covered_ns`, `window_ns`, \
`events`, `lost`, `generations` and `last_events`, as `lookback recover` has them.

Exit codes: 0 taken; 1 not taken; 2 wrong usage.

Examples:
  lookback snapshot 4711
  lookback snapshot \"$(pidof my-service)\" -o hang.lbk
  lookback snapshot 4711 --json | jq -r .file")]
pub struct Snapshot {
    /// The process
    #[arg(value_name = "PID", value_parser = process::parse_pid)]
    pid: u32,
    /// Which recorder, if the process has several; `lookback ps` numbers them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    recorder: Option<u32>,
    /// Interrupt running threads for a moment, for their stacks
    #[arg(long)]
    stop: bool,
    /// Take no stacks of threads
    #[arg(long, conflicts_with = "stop")]
    no_stacks: bool,
    #[command(flatten)]
    saving: Saving,
}

/// The stacks of the process's threads; an error if there are none, and nothing if none were asked for.
type Stacks = Option<Result<ProcessStacks, OutsideError>>;

impl Snapshot {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let pid = self.pid;
        let standstill = process::standstill(pid);
        let arena = match chosen(pid, self.recorder) {
            Ok(arena) => Some(arena),
            Err(Choice::Outside(OutsideError::NotRecorded(_))) if standstill == Some("over") => {
                return Err(anyhow!(
                    "process {pid}: it has ended, and its memory is gone; if it had a black box, `lookback recover` reads \
                     that, and snapshots of its triggers are in its snapshot directory"
                ));
            }
            Err(Choice::Outside(OutsideError::NotRecorded(_))) if !self.no_stacks => None,
            Err(error) => return Err(error.explain(pid)),
        };
        let header = arena.as_ref().map(|arena| arena.header()).transpose()?;
        let to = match (&self.saving.out, &header) {
            (Some(path), _) => To::Named(Output::new(path, Path::new(""))?),
            (None, Some(header)) => To::New(Path::new(""), name_for(Some(header), pid)),
            (None, None) => {
                let name = process::command(pid).unwrap_or_else(|| "unknown".to_owned());
                To::New(Path::new(""), stem_from_outside(&name, pid))
            }
        };
        let reason = match standstill {
            Some(why) => format!("asked for from outside: `lookback snapshot {pid}`, {why}"),
            None => format!("asked for from outside: `lookback snapshot {pid}`"),
        };
        let stacks: Stacks = (!self.no_stacks).then(|| stacks_of_process(pid, self.stop));
        let mut snapshot = Vec::new();
        match (&arena, &stacks) {
            (Some(arena), stacks) => {
                let stacks = stacks.as_ref().and_then(|stacks| stacks.as_ref().ok());
                arena.write_snapshot_with(stacks, &reason, "outside", &mut snapshot)?;
            }
            (None, Some(Ok(stacks))) => {
                write_stacks_alone(pid, stacks, &reason, &mut snapshot)?;
            }
            (None, stacks) => {
                let stacks = stacks.as_ref().and_then(|stacks| stacks.as_ref().err());
                let why = stacks.map_or_else(String::new, |error| format!("; and {error}"));
                return Err(anyhow!("{}{why}", OutsideError::NotRecorded(pid)));
            }
        }
        // In another namespace its ID differs, its start does not.
        let over = match &header {
            Some(header) => !process::is_alive(pid, header.process_start),
            None => process::standstill(pid) == Some("over") || process::command(pid).is_none(),
        };
        let crash = arena.and_then(|arena| arena.header().ok()).and_then(|header| header.crash);
        let crash = crash.filter(|crash| !crash.survived);
        let saved = Saved::save(snapshot, &to, usize::from(self.saving.last))?;
        let nowhere = saved.path.is_none();
        // Standard output may carry the snapshot.
        let out: &mut dyn Write = if nowhere { &mut io::stderr() } else { &mut io::stdout() };
        if self.saving.json {
            let mut json = saved.json();
            json.insert("pid".into(), json!(pid));
            json.insert("standstill".into(), json!(standstill));
            json.insert("over".into(), json!(over));
            json.insert("crash".into(), crash_json(crash.as_ref(), &saved.trace));
            json.insert("recorded".into(), json!(header.is_some()));
            json.insert("stacks".into(), stacks_json(&stacks));
            writeln!(out, "{:#}", Value::Object(json))?;
        } else {
            let mut rows = Vec::new();
            rows.extend(standstill.map(|why| ("state", why.to_owned())));
            rows.extend(crash.as_ref().map(|crash| ("crash", crash.in_words())));
            if over {
                rows.push(("state", "it has ended meanwhile; this is what it left".to_owned()));
            }
            if header.is_none() {
                let line = "not being recorded: this has the stacks of its threads alone";
                rows.push(("recorder", line.to_owned()));
            }
            rows.extend(
                stacks.as_ref().map(|stacks| ("stacks", stacks_in_words(stacks, self.stop))),
            );
            saved.print(&format!("a snapshot of process {pid}"), &rows, crash.as_ref(), out)?;
        }
        Ok(saved.damage.tell())
    }
}

fn with_stack(stacks: &ProcessStacks) -> usize {
    stacks.threads.iter().filter(|thread| thread.stack > 0).count()
}

fn stacks_in_words(stacks: &Result<ProcessStacks, OutsideError>, stopped: bool) -> String {
    let stacks = match stacks {
        Ok(stacks) => stacks,
        Err(error) => return format!("none: {error}"),
    };
    let threads = counted(stacks.threads.len() as u64, "thread");
    let mut said = format!("{} of {threads}", with_stack(stacks));
    let run = stacks.threads.iter().filter(|thread| thread.source == StackSource::Running).count();
    if run > 0 && !stopped {
        said += &format!("; {run} were running, which `--stop` interrupts for a moment");
    }
    said
}

fn stacks_json(stacks: &Stacks) -> Value {
    match stacks {
        None => Value::Null,
        Some(Ok(stacks)) => json!({
            "threads": stacks.threads.len(),
            "with_stack": with_stack(stacks),
            "left_out": stacks.left_out,
            "error": null,
        }),
        Some(Err(error)) => json!({"error": error.to_string()}),
    }
}
