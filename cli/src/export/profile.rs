//! Where CPU time went, where memory is, and where locks were waited for, for other tools.

use super::{Export, Format};
use crate::exit::{Damage, Verdict, complain};
use crate::format::{bytes, count, counted, escape, shell_word};
use crate::frames;
use crate::output::Output;
use crate::terminal::{dim, name, strong};
use crate::wanted::Wanted;
use anyhow::bail;
use clap::ValueEnum;
use lookback::read::analysis::{ContentionProfile, CpuProfile, HeapProfile};
use lookback::read::export::go::FrameName;
use lookback::read::export::{folded, pprof};
use lookback::read::symbols::Symbolizer;
use lookback::read::{Event, Frame, Trace};
use serde_json::json;
use std::io::{self, Write};

/// What a profile is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Profile {
    // CPU samples.
    Cpu,
    // What is alive in the heap, and what was allocated.
    Heap,
    // Waits for locks.
    Contention,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Heap => "heap",
            Self::Contention => "contention",
        }
    }
}

enum Read {
    Cpu(CpuProfile),
    Heap(HeapProfile),
    Contention(ContentionProfile),
}

impl Read {
    fn samples(&self) -> u64 {
        match self {
            Self::Cpu(profile) => profile.weight,
            Self::Heap(profile) => {
                let live = profile.stacks.iter().map(|stack| stack.live_samples);
                live.fold(profile.left_out.0, u64::saturating_add).max(profile.samples)
            }
            Self::Contention(profile) => profile.waits,
        }
    }

    /// How many waits for locks have no stack.
    fn without_stack(&self) -> Option<u64> {
        match self {
            Self::Contention(profile) => Some(profile.without_stack().0),
            Self::Cpu(_) | Self::Heap(_) => None,
        }
    }

    fn write(&self, format: Format, names: &mut Symbolizer, out: impl Write) -> io::Result<u64> {
        match (self, format) {
            (Self::Cpu(profile), Format::Folded) => folded::write(profile, names, out),
            (Self::Cpu(profile), _) => Ok(pprof::write(profile, names, out)?.samples),
            (Self::Contention(profile), Format::Folded) => {
                folded::write_contention(profile, names, out)
            }
            (Self::Contention(profile), _) => {
                Ok(pprof::write_contention(profile, names, out)?.samples)
            }
            (Self::Heap(profile), Format::Folded) => folded::write_heap(profile, names, out),
            (Self::Heap(profile), _) => Ok(pprof::write_heap(profile, names, out)?.samples),
        }
    }
}

/// Why there may be no waits for locks.
const NO_WAITS: &str = "no wait for a lock has ended: only those of `lookback::sync` and `lookback::tokio::sync` are recorded \
                        (docs/locks.md), from 1 ms on";

pub(super) fn run(args: &Export, trace: &Trace, output: &Output) -> anyhow::Result<Verdict> {
    let mut damage = Damage::of(trace);
    let of = args.profile.unwrap_or(Profile::Cpu);
    let mut wanted = args.wanted(trace);
    let profile = match of {
        Profile::Cpu => {
            let mut profile = CpuProfile::new(trace);
            each(trace, &mut wanted, &mut damage, |event| profile.add(event));
            profile.sort();
            Read::Cpu(profile)
        }
        Profile::Heap => Read::Heap(HeapProfile::of(trace, |error| damage.note(&error))),
        Profile::Contention => {
            let mut profile = ContentionProfile::default();
            each(trace, &mut wanted, &mut damage, |event| profile.add(event));
            profile.sort();
            Read::Contention(profile)
        }
    };
    if let (0, Some(missing)) = (profile.samples(), wanted.missing(trace).first()) {
        bail!("{}: {missing}", escape(trace.file()));
    }
    if profile.samples() == 0 {
        let why = match &profile {
            Read::Cpu(_) => crate::stacks::why_no_samples(trace),
            Read::Heap(profile) => crate::stacks::why_no_heap(trace, profile),
            Read::Contention(_) => NO_WAITS.to_owned(),
        };
        bail!("{}: {why}", escape(trace.file()));
    }
    let mut symbolizer = frames::opening(trace, &args.symbols);
    let mut length = 0;
    let mut stacks = 0;
    output.write(|out| {
        let mut out = Counted { out, length: 0 };
        stacks = profile.write(args.format, &mut symbolizer, &mut out)?;
        length = out.length;
        Ok::<(), io::Error>(())
    })?;
    if args.json {
        let value = json!({
            "file": trace.file(),
            "format": if args.format == Format::Folded { "folded" } else { "pprof" },
            "profile": of.name(),
            "out": args.out.display().to_string(),
            "bytes": length,
            "samples": profile.samples(),
            "stacks": stacks,
            "without_stack": profile.without_stack(),
            "problems": symbolizer.problems(),
            "damage": damage.lines(),
        });
        writeln!(io::stdout(), "{value:#}")?;
        return Ok(damage.tell());
    }
    if !output.is_stdout() {
        let mut said = io::stdout().lock();
        let samples = match (profile.samples(), of) {
            (samples, Profile::Cpu) => counted(samples, "CPU sample"),
            (1, Profile::Heap) => "1 sample of the heap".to_owned(),
            (samples, Profile::Heap) => format!("{} samples of the heap", count(samples)),
            (1, Profile::Contention) => "1 wait for a lock".to_owned(),
            (samples, Profile::Contention) => format!("{} waits for locks", count(samples)),
        };
        writeln!(
            said,
            "{}: {samples} in {}, {}",
            strong().apply_to(escape(&args.out.display().to_string())),
            counted(stacks, "stack"),
            bytes(length),
        )?;
        if let Some(without) = profile.without_stack().filter(|without| *without > 0) {
            let share = 100.0 * without as f64 / profile.samples().max(1) as f64;
            writeln!(said, "  {share:.1} % of them have no stack: {}", count(without))?;
        }
        let path = shell_word(&args.out);
        let how = match args.format {
            Format::Folded => format!("inferno-flamegraph {} > {}.svg", escape(&path), of.name()),
            _ => format!("go tool pprof -top {}", escape(&path)),
        };
        writeln!(said, "To look at it:  {}", name().apply_to(how))?;
    }
    for problem in symbolizer.problems() {
        complain(&dim().apply_to(problem).to_string());
    }
    Ok(damage.tell())
}

/// Calls `add` with each event that is asked for.
fn each(trace: &Trace, wanted: &mut Wanted<'_>, damage: &mut Damage, mut add: impl FnMut(&Event)) {
    let mut events = trace.events();
    while let Some(next) = events.lend() {
        match next {
            Ok(lent) if wanted.includes(lent.event) => add(lent.event),
            Ok(_) => {}
            Err(error) => damage.note(&error),
        }
    }
}

/// The functions of a frame, as Go has them.
pub(super) fn names(symbolizer: &mut Symbolizer, frame: &Frame<'_>) -> Vec<FrameName> {
    let names = symbolizer.locations(frame).into_iter().map(|of| {
        let (file, line) = of.place.unwrap_or_default();
        FrameName { function: of.function.to_string(), file, line }
    });
    names.collect()
}

/// Counts what is written.
struct Counted<W> {
    out: W,
    length: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
