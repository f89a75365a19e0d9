//! Where CPU time went, in the last second and before, by the service's own functions.

use super::findings::section;
use crate::format::{counted, duration, escape};
use crate::terminal::{dim, strong};
use lookback::read::Trace;
use lookback::read::analysis::{CpuProfile, LAST};
use lookback::read::symbols::Symbolizer;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

/// How many functions are printed.
const MOST: usize = 8;

/// See the module.
#[derive(Default)]
pub struct CpuTimes {
    /// Those with the most time in the last second first.
    functions: Vec<Function>,
    per_second: u64,
    /// The samples, and the time that they were taken in.
    last: (u64, u64),
    before: (u64, u64),
}

struct Function {
    name: String,
    place: Option<(String, u32)>,
    last: u64,
    before: u64,
}

impl CpuTimes {
    /// Reads the trace, if there are samples in it.
    pub fn of(trace: &Trace, count: u64, symbolizer: Option<&mut Symbolizer>) -> Option<Self> {
        if count == 0 {
            return None;
        }
        let infos = trace.generations();
        let end = infos.iter().map(|info| info.start.0.saturating_add(info.duration.0)).max()?;
        let begin = infos.first()?.start.0;
        let edge = end.saturating_sub(LAST.0).max(begin);
        let mut profiles = [CpuProfile::new(trace), CpuProfile::new(trace)];
        let mut events = trace.events();
        while let Some(next) = events.lend() {
            if let Ok(lent) = next {
                profiles[usize::from(lent.event.time().0 >= edge)].add(lent.event);
            }
        }
        let [before, last] = &profiles;
        let mut found = Self {
            functions: Vec::new(),
            per_second: last.per_second,
            last: (last.weight, end - edge),
            before: (before.weight, edge - begin),
        };
        let mut known = HashMap::new();
        let mut namer = Namer { symbolizer, names: HashMap::new() };
        for (profile, is_last) in [(last, true), (before, false)] {
            for stack in &profile.stacks {
                let (name, place) = namer.own_function(profile, &stack.frames);
                let at = *known.entry(name.clone()).or_insert_with(|| {
                    found.functions.push(Function { name, place, last: 0, before: 0 });
                    found.functions.len() - 1
                });
                let of = &mut found.functions[at];
                *(if is_last { &mut of.last } else { &mut of.before }) += stack.weight;
            }
        }
        found
            .functions
            .sort_by(|a, b| (b.last, b.before).cmp(&(a.last, a.before)).then(a.name.cmp(&b.name)));
        Some(found)
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        section("CPU time", out)?;
        let cores = |(weight, time): (u64, u64)| match (self.per_second, time) {
            (0, _) | (_, 0) => "-".to_owned(),
            (rate, time) => {
                let used = weight as f64 * 1e9 / rate as f64;
                format!("{:.1} %", used * 100.0 / time as f64)
            }
        };
        let last = duration(self.last.1);
        let head = format!("{:>13}  {:>10}  of a core", format!("last {last}"), "before");
        writeln!(out, "  {}", dim().apply_to(head))?;
        let row = |out: &mut dyn Write, last: u64, before: u64, what: &str| {
            let last = cores((last, self.last.1));
            writeln!(out, "  {last:>13}  {:>10}  {what}", cores((before, self.before.1)))
        };
        row(out, self.last.0, self.before.0, "in all")?;
        for function in self.functions.iter().take(MOST) {
            let mut what = strong().apply_to(escape(&function.name)).to_string();
            if let Some((file, line)) = &function.place {
                let place = format!("{}:{line}", escape(file));
                what += &format!("  {}", dim().apply_to(place));
            }
            row(out, function.last, function.before, &what)?;
        }
        let rest = self.functions.len().saturating_sub(MOST);
        if rest > 0 {
            let words =
                format!("{} more, see `lookback stacks --cpu`", counted(rest as u64, "function"));
            writeln!(out, "  {}", dim().apply_to(words))?;
        }
        Ok(())
    }

    pub fn json(&self) -> Value {
        let function = |of: &Function| {
            json!({
                "name": of.name,
                "file": of.place.as_ref().map(|(file, _)| file),
                "line": of.place.as_ref().map(|(_, line)| line),
                "last": of.last,
                "before": of.before,
            })
        };
        json!({
            "per_second": self.per_second,
            "last": {"samples": self.last.0, "ns": self.last.1},
            "before": {"samples": self.before.0, "ns": self.before.1},
            "functions": self.functions.iter().take(100).map(function).collect::<Vec<_>>(),
        })
    }
}

/// Names frames, each once.
struct Namer<'a> {
    symbolizer: Option<&'a mut Symbolizer>,
    names: HashMap<lookback::read::OwnedFrame, Vec<Named>>,
}

/// A function, where it is, and whether it is the service's.
type Named = (String, Option<(String, u32)>, bool);

impl Namer<'_> {
    /// The innermost function of the service itself; of a stack without any, the innermost one.
    fn own_function(
        &mut self,
        profile: &CpuProfile,
        stack: &[u32],
    ) -> (String, Option<(String, u32)>) {
        let mut first = None;
        for at in stack {
            for (name, place, is_own) in self.names(&profile.frames()[*at as usize]) {
                if *is_own {
                    return (name.clone(), place.clone());
                }
                first.get_or_insert_with(|| (name.clone(), place.clone()));
            }
        }
        first.unwrap_or_else(|| ("?".to_owned(), None))
    }

    fn names(&mut self, frame: &lookback::read::OwnedFrame) -> &[Named] {
        let symbolizer = &mut self.symbolizer;
        self.names.entry(frame.clone()).or_insert_with(|| {
            let frame = frame.frame();
            let found = symbolizer.as_mut().map(|symbolizer| symbolizer.locations(&frame));
            let named = found.unwrap_or_default().into_iter().map(|of| {
                let is_own = !of.is_foreign();
                (of.function.to_string(), of.place, is_own)
            });
            let named: Vec<_> = named.collect();
            if !named.is_empty() {
                return named;
            }
            let file = frame.module.and_then(|of| Path::new(of.path).file_name());
            let file = file.map_or_else(|| "?".into(), |file| file.to_string_lossy());
            vec![(format!("{file}+{:#x}", frame.offset), None, false)]
        })
    }
}
