//! What the demo's snapshot tells of its fault: who held the inventory, and who waited for it.

use super::shop::{HOLDING, WAITING};
use crate::events::describe;
use crate::open_regions::{Open, OpenRegions};
use crate::terminal::{bad, dim, name, odd, strong, width};
use crate::text::{counted, duration, escape};
use console::{measure_text_width, truncate_str};
use lookback::read::wire::ThreadNumber;
use lookback::read::{Event, EventKind, Level, Trace};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Of the lines around the fault, so many are shown.
const MOST_LINES: usize = 18;
/// Who waits for less than this is no victim.
const LONG: u64 = 50_000_000;

/// The lines of the trace around the fault, and what follows from them.
pub struct Story {
    lines: Vec<Line>,
    more: usize,
    end: u64,
    holder: String,
    /// What the holder was at, outermost first.
    open: Vec<Open>,
    victims: Vec<String>,
}

struct Line {
    time: u64,
    number: ThreadNumber,
    thread: String,
    depth: usize,
    waits: bool,
    open: bool,
    text: String,
}

impl Story {
    /// Finds the thread that held the inventory when the snapshot was taken, if there is one.
    pub fn of(trace: &Trace) -> Option<Self> {
        let (mut regions, mut end) = (OpenRegions::new(trace), 0);
        let mut threads = BTreeMap::new();
        for event in trace.events().filter_map(Result::ok) {
            regions.follow(&event);
            end = event.time().0;
            if let Some(thread) = event.thread() {
                threads.entry(thread.number).or_insert_with(|| escape(&thread.name).into_owned());
            }
        }
        let holds = |(_, open): &(_, &[Open])| open.iter().any(|open| open.name == HOLDING);
        let (holder, open) = regions.threads().find(holds)?;
        let open = open.to_vec();
        let began = open.first()?.began;
        let mut story = Self {
            lines: Vec::new(),
            more: 0,
            end,
            holder: threads.get(&holder)?.clone(),
            open,
            victims: Vec::new(),
        };
        let mut regions = OpenRegions::new(trace);
        for event in trace.events().filter_map(Result::ok) {
            let depth = regions.follow(&event);
            if event.time().0 >= began {
                story.add(&event, depth, holder);
            }
        }
        story.finish();
        Some(story)
    }

    /// Adds the event's line, if it is of interest.
    fn add(&mut self, event: &Event, depth: usize, holder: ThreadNumber) {
        let Some(thread) = event.thread() else { return };
        let (time, number) = (event.time().0, thread.number);
        let holds = number == holder;
        let (mut waits, mut open) = (false, false);
        match event.kind() {
            EventKind::RegionBegin { site } if holds => {
                let is_it = |open: &Open| open.began == time && open.name == site.name;
                if !self.open.iter().any(is_it) {
                    return;
                }
                open = site.name == HOLDING;
            }
            EventKind::RegionBegin { site } if site.name == WAITING => waits = true,
            EventKind::RegionEnd { site: Some(site), duration } if site.name == WAITING => {
                let short = duration.is_some_and(|duration| duration.0 < LONG);
                if let Some(at) = self.lines.iter().rposition(|l| l.number == number && l.waits) {
                    self.lines[at].waits = false;
                    if short {
                        self.lines.remove(at);
                    } else {
                        self.victims.push(self.lines[at].thread.clone());
                    }
                }
                return;
            }
            EventKind::Log { level, .. } if holds || level >= Level::Warn => {}
            EventKind::Typed { .. } if holds => {}
            _ => return,
        }
        let mut text = Vec::new();
        if describe(event, &mut text).is_err() {
            return;
        }
        self.lines.push(Line {
            time,
            number,
            thread: escape(&thread.name).into_owned(),
            // What the others were inside of is not of interest.
            depth: if holds { depth } else { 0 },
            waits,
            open,
            text: String::from_utf8_lossy(&text).into_owned(),
        });
    }

    /// Who still waits is a victim too; and a long story is cut.
    fn finish(&mut self) {
        let waiting = self.lines.iter().filter(|line| line.waits && line.time + LONG < self.end);
        self.victims.extend(waiting.map(|line| line.thread.clone()));
        self.victims.sort();
        self.victims.dedup();
        self.more = self.lines.len().saturating_sub(MOST_LINES);
        self.lines.truncate(MOST_LINES);
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let names = self.lines.iter().map(|line| measure_text_width(&line.thread)).max();
        let pad = names.unwrap_or_default();
        let room = width().saturating_sub(15 + pad);
        for line in &self.lines {
            let before = format!("-{:.1} ms", (self.end - line.time) as f64 / 1e6);
            let indent = " ".repeat(2 * line.depth.min(8));
            let note = match line.open {
                true => format!("  {}", odd().apply_to("← still in it")),
                false => String::new(),
            };
            let text = format!("{indent}{}{note}", line.text);
            writeln!(
                out,
                "  {:>9}  {:<pad$}  {}",
                dim().apply_to(before),
                name().apply_to(&line.thread),
                truncate_str(&text, room, "…"),
            )?;
        }
        if self.more > 0 {
            let more = counted(self.more as u64, "more line");
            writeln!(out, "  {:>9}  {}", "", dim().apply_to(format!("… {more}")))?;
        }
        self.conclude(out)
    }

    /// What follows.
    fn conclude(&self, out: &mut impl Write) -> io::Result<()> {
        let held = self.open.iter().find(|open| open.name == HOLDING);
        let since = held.map_or(0, |held| self.end - held.began);
        let inside = self.open.iter().map(|open| escape(&open.name)).collect::<Vec<_>>();
        writeln!(
            out,
            "\n  {} had been in {} for {}:\n    {}",
            name().apply_to(&self.holder),
            bad().apply_to(HOLDING),
            strong().apply_to(duration(since)),
            inside.join(" > "),
        )?;
        let victims = self.victims.iter().map(|victim| name().apply_to(victim).to_string());
        match victims.collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            [victim] => writeln!(out, "  {victim} had to wait for it."),
            [victims @ .., last] => {
                writeln!(out, "  {} and {last} had to wait for it.", victims.join(", "))
            }
        }
    }
}
