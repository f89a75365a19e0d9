//! `lookback recover`: makes a snapshot from a black box that outlived its process.

use crate::arena_file::{ArenaFile, Owner};
use crate::exit::{Verdict, complain};
use crate::output::Output;
use crate::saved_snapshot::{Saved, Saving, To, crash_json};
use anyhow::anyhow;
use clap::Args;
use lookback::read::recover::{RecoverError, recover};
use lookback::read::wire::CrashNote;
use lookback::{OutsideArena, OutsideError};
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Make a snapshot from the black box of a dead process, and say how the process ended.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints how the process ended, what the snapshot covers, and the last events of each thread with the \
regions that it was inside. The snapshot is written to NAME.lbk in the working directory, NAME being \
that of the black box; an existing file is never overwritten unless -o names it. The box itself is not \
changed.

If the box's process is alive and records into it, the snapshot shows the present.

Damage is reported on stderr, one line for each place, and everything intact is still recovered.

With --json: one object with `file`, `bytes`, `arena`, `process` {name, pid}, `live`, `ended` (the \
recording was ended in order), `crash` {signal, signal_name, address, instruction, thread, os_thread, \
thread_name, …, stack [the frames of the thread, as `lookback stacks --json` has them]} or null, `reason`, `covered_ns`, `window_ns`, `events`, `lost` {cause: how many}, \
`generations` [{number, events, complete}], `last_events` [{thread, thread_name, thread_worker, os_thread, over, \
inside [regions], events [{before_end_ns, … as `lookback events --json` has it}]}], `damage` [what is \
damaged].

Exit codes: 0 recovered; 1 damaged, or nothing to recover; 2 wrong usage.

Examples:
  lookback recover /dev/shm/my-service.lookback
  lookback recover /dev/shm/my-service.lookback.20261124T145012Z -o incident.lbk
  lookback recover my-service.lookback --last 5 --json | jq '.last_events[] | .thread_name'")]
pub struct Recover {
    /// The black box
    #[arg(value_name = "ARENA")]
    arena: PathBuf,
    #[command(flatten)]
    saving: Saving,
}

/// A snapshot that is not saved yet, and how its process ended.
struct Found {
    snapshot: Vec<u8>,
    live: Option<u32>,
    ended: bool,
    reason: String,
    crash: Option<CrashNote>,
    damage: Vec<String>,
}

impl Recover {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let file = ArenaFile::open(&self.arena)?;
        let to = match &self.saving.out {
            Some(path) => To::Named(Output::new(path, &self.arena)?),
            None => {
                let name = self.arena.file_name().unwrap_or_default().to_string_lossy();
                To::New(Path::new(""), name.into_owned())
            }
        };
        let found = match live(&file, &self.arena)? {
            Some(found) => found,
            None => dead(&file)?,
        };
        found.damage.iter().for_each(|line| complain(line));
        let damage = found.damage.clone();
        let saved = Saved::save(found.snapshot, &to, usize::from(self.saving.last))?;
        let sound = saved.damage.tell();
        let nowhere = saved.path.is_none();
        // Standard output may carry the snapshot.
        let out: &mut dyn Write = if nowhere { &mut io::stderr() } else { &mut io::stdout() };
        if self.saving.json {
            let mut json = saved.json();
            json.insert("arena".into(), json!(file.name));
            json.insert("live".into(), json!(found.live.is_some()));
            json.insert("ended".into(), json!(found.ended));
            json.insert("crash".into(), crash_json(found.crash.as_ref(), &saved.trace));
            let lines = damage.iter().chain(saved.damage.lines());
            json.insert("damage".into(), lines.cloned().collect());
            writeln!(out, "{:#}", serde_json::Value::Object(json))?;
        } else {
            let (done, label) = match found.live {
                Some(_) => {
                    (format!("a snapshot of {}, which is being recorded into", file.name), "state")
                }
                None => (format!("recovered from {}", file.name), "ended"),
            };
            let how = match found.live {
                Some(pid) => {
                    format!("process {pid} is alive: this is what it has recorded until now")
                }
                None => found.reason,
            };
            saved.print(&done, &[(label, how)], found.crash.as_ref(), out)?;
        }
        let sound = sound == Verdict::Sound && damage.is_empty();
        Ok(if sound { Verdict::Sound } else { Verdict::Bad })
    }
}

/// A snapshot of a box whose process is alive.
fn live(file: &ArenaFile, path: &Path) -> anyhow::Result<Option<Found>> {
    let Some(header) = file.header() else { return Ok(None) };
    let Owner::Alive(pid) = file.owner(&header) else { return Ok(None) };
    let reason = format!("asked for from outside, while process {pid} recorded");
    let mut snapshot = Vec::new();
    let arena = OutsideArena::of_box(path);
    match arena.and_then(|arena| arena.write_snapshot(&reason, "recover", &mut snapshot)) {
        Ok(_) => {}
        // Then it is read as that of a dead process.
        Err(OutsideError::Damaged { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let crash = header.crash.filter(|crash| !crash.survived);
    Ok(Some(Found { snapshot, live: Some(pid), ended: false, reason, crash, damage: Vec::new() }))
}

/// A snapshot of a box that no process writes to.
fn dead(file: &ArenaFile) -> anyhow::Result<Found> {
    let bytes = file.read()?;
    let explain = |error: RecoverError| anyhow!("{}: {error}", file.name);
    let mut recovered = recover(&bytes).map_err(explain)?;
    let damage = recovered.damage().iter().map(|what| format!("{}: {what}", file.name)).collect();
    let (reason, ended) = (recovered.reason(), recovered.header().ended);
    let crash = recovered.header().crash.clone().filter(|crash| !crash.survived);
    let mut snapshot = Vec::new();
    recovered.write_to(&mut snapshot, &reason, "recover")?;
    Ok(Found { snapshot, live: None, ended, reason, crash, damage })
}
