//! `lookback snapshot`: a snapshot of another process, with no help from it.

use crate::outcome::Verdict;
use crate::output::Output;
use crate::process;
use crate::ps::{Choice, chosen};
use crate::saved::{Saved, Saving, To, crash_json, name_for};
use anyhow::anyhow;
use clap::Args;
use lookback::OutsideError;
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;

/// Take a snapshot of a running process from outside: it may be busy, deadlocked or stopped.
#[derive(Args, Debug)]
#[command(after_help = "\
The process does nothing for it and is not held up. What is copied is checked afterwards: what the \
process overwrote meanwhile is left out. The snapshot is written to NAME-PID-TIME.lbk in the working \
directory, unless -o says where. `lookback ps` lists the processes that can be asked for.

The kernel lets one look into processes of the same user that are dumpable and have no capabilities \
that the caller lacks; for all others it takes root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.

With --json: one object with `file`, `bytes`, `pid`, `process` {name, pid}, `standstill` (why it does \
not run, or null), `over` (it has ended meanwhile), `crash`, `reason`, `covered_ns`, `window_ns`, \
`events`, `lost`, `generations` and `last_events`, as those of `lookback recover`.

Exit codes: 0 taken; 1 it could not be taken; 2 wrong usage.

Examples:
  lookback snapshot 4711
  lookback snapshot \"$(pidof my-service)\" -o hang.lbk
  lookback snapshot 4711 --json | jq -r .file")]
pub struct Snapshot {
    /// The process
    #[arg(value_name = "PID", value_parser = process::parse_pid)]
    pid: u32,
    /// Which recorder, where several run in the process: `lookback ps` numbers them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    recorder: Option<u32>,
    #[command(flatten)]
    saving: Saving,
}

impl Snapshot {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let pid = self.pid;
        let arena = chosen(pid, self.recorder).map_err(|error| match error {
            Choice::Outside(OutsideError::NotRecorded(_)) if process::standstill(pid) == Some("over") => anyhow!(
                "process {pid}: it has ended, and its memory with it; `lookback recover` reads a black box, \
                 if it had one, and what fired lies in its snapshot directory"
            ),
            error => error.explain(pid),
        })?;
        let header = arena.header()?;
        let to = match &self.saving.out {
            Some(path) => To::Named(Output::new(path, Path::new(""))?),
            None => To::New(Path::new(""), name_for(Some(&header), pid)),
        };
        let standstill = process::standstill(pid);
        let reason = match standstill {
            Some(why) => format!("asked for from outside: `lookback snapshot {pid}`, {why}"),
            None => format!("asked for from outside: `lookback snapshot {pid}`"),
        };
        let mut snapshot = Vec::new();
        arena.write_snapshot(&reason, "outside", &mut snapshot)?;
        // Its number in another namespace is another one, its start is the same.
        let over = !process::is_alive(pid, header.process_start);
        let crash = arena.header().ok().and_then(|header| header.crash).filter(|c| !c.survived);
        let saved = Saved::save(snapshot, &to, usize::from(self.saving.last))?;
        let nowhere = saved.path.is_none();
        // The standard output may be the snapshot's.
        let out: &mut dyn Write = if nowhere { &mut io::stderr() } else { &mut io::stdout() };
        if self.saving.json {
            let mut json = saved.json();
            json.insert("pid".into(), json!(pid));
            json.insert("standstill".into(), json!(standstill));
            json.insert("over".into(), json!(over));
            json.insert("crash".into(), crash_json(crash.as_ref()));
            writeln!(out, "{:#}", serde_json::Value::Object(json))?;
        } else {
            let mut rows = Vec::new();
            rows.extend(standstill.map(|why| ("state", why.to_owned())));
            rows.extend(crash.as_ref().map(|crash| ("crash", crash.in_words())));
            if over {
                rows.push(("state", "it has ended meanwhile; this is what it left".to_owned()));
            }
            saved.print(&format!("a snapshot of process {pid}"), &rows, crash.as_ref(), out)?;
        }
        Ok(saved.damage.tell())
    }
}
