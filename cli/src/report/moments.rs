//! What happens at a moment: wakes and spawns, logs and events, samples, values of counters. Of each there is room for so many.

use super::columns::Columns;
use std::collections::HashMap;

/// The most of each kind.
const MOST: usize = 400_000;
/// The most logs and typed events, which have texts of their own.
const MOST_NOTES: usize = 120_000;
/// The most values of one counter, and the most counters.
const MOST_VALUES: usize = 20_000;
const MOST_COUNTERS: usize = 512;

/// A task is woken or spawned.
#[derive(Clone, Copy, Debug)]
pub struct Wake {
    pub at: i64,
    pub thread: u32,
    /// Which task did it; 0 if none.
    pub by: u32,
    pub task: u32,
    pub is_spawn: bool,
}

/// A log or a typed event.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    pub at: i64,
    pub thread: u32,
    pub task: u32,
    pub span: u32,
    /// 1 to 5 as levels of logs, 0 for an event.
    pub level: u8,
    pub site: u32,
    pub text: u32,
    pub fields: u32,
}

/// What a sample is of, and what its weight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Of {
    /// CPU time, in nanoseconds.
    Cpu = 0,
    /// Bytes that were allocated.
    Heap = 1,
    /// Time for which a lock was waited for.
    Lock = 2,
    /// A task waits there when a generation ends; the page knows for how long.
    Await = 3,
    /// A thread is blocked there: for how long.
    Blocked = 4,
    /// A stack that was taken for a reason.
    Stack = 5,
}

/// A stack, at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub of: Of,
    pub at: i64,
    pub thread: u32,
    pub task: u32,
    pub span: u32,
    /// 0 if there is none.
    pub stack: u32,
    pub weight: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Moments {
    wakes: Vec<Wake>,
    /// One of so many wakes is there.
    wakes_of: u64,
    wakes_seen: u64,
    notes: Vec<Note>,
    notes_left_out: u64,
    samples: Vec<Sample>,
    samples_of: u64,
    samples_seen: u64,
    counters: HashMap<(u32, u32), usize>,
    values: Vec<Counter>,
    counters_left_out: u64,
}

#[derive(Debug)]
struct Counter {
    name: u32,
    unit: u32,
    is_of_machine: bool,
    values: Vec<(i64, f64)>,
    /// One of so many of its values is there.
    one_of: u64,
    seen: u64,
}

impl Moments {
    pub fn wake(&mut self, wake: Wake) {
        self.wakes_seen += 1;
        let one_of = self.wakes_of.max(1);
        if self.wakes_seen.is_multiple_of(one_of) {
            self.wakes.push(wake);
        }
        if self.wakes.len() >= MOST {
            halve(&mut self.wakes);
            self.wakes_of = one_of * 2;
        }
    }

    pub fn note(&mut self, note: Note) {
        if self.notes.len() >= MOST_NOTES {
            // Warnings and errors stay longest.
            let before = self.notes.len();
            let mut left = before / 2;
            self.notes.retain(|note| {
                let is_kept = note.level >= 4 || left == 0;
                left = left.saturating_sub(usize::from(!is_kept));
                is_kept
            });
            // If hardly any others are left, the oldest: all are looked at for it, so not soon again.
            if self.notes.len() > before / 4 * 3 {
                self.notes.drain(..before / 2);
            }
            self.notes_left_out += (before - self.notes.len()) as u64;
        }
        self.notes.push(note);
    }

    pub fn sample(&mut self, mut sample: Sample) {
        self.samples_seen += 1;
        let one_of = self.samples_of.max(1);
        sample.weight = sample.weight.saturating_mul(one_of);
        if self.samples_seen.is_multiple_of(one_of) {
            self.samples.push(sample);
        }
        if self.samples.len() >= MOST {
            halve(&mut self.samples);
            self.samples.iter_mut().for_each(|of| of.weight = of.weight.saturating_mul(2));
            self.samples_of = one_of * 2;
        }
    }

    pub fn value(&mut self, name: u32, unit: u32, is_of_machine: bool, at: i64, value: f64) {
        let key = (name, unit);
        if !self.counters.contains_key(&key) {
            if self.values.len() >= MOST_COUNTERS {
                self.counters_left_out += 1;
                return;
            }
            self.counters.insert(key, self.values.len());
            let (values, one_of, seen) = (Vec::new(), 1, 0);
            self.values.push(Counter { name, unit, is_of_machine, values, one_of, seen });
        }
        let place = self.counters.get(&key).copied().unwrap_or_default();
        let Some(counter) = self.values.get_mut(place) else { return };
        counter.seen += 1;
        if counter.seen.is_multiple_of(counter.one_of) {
            counter.values.push((at, value));
        }
        if counter.values.len() >= MOST_VALUES {
            halve(&mut counter.values);
            counter.one_of *= 2;
        }
    }

    /// Writes them. Returns what is not all there, in words.
    pub fn write(mut self, columns: &mut Columns) -> Vec<String> {
        self.wakes.sort_by_key(|wake| wake.at);
        let wakes = &self.wakes;
        columns.steps("wakes.at", wakes.iter().map(|of| of.at));
        columns.numbers("wakes.thread", wakes.iter().map(|of| u64::from(of.thread)));
        columns.steps("wakes.by", wakes.iter().map(|of| i64::from(of.by)));
        columns.steps("wakes.task", wakes.iter().map(|of| i64::from(of.task)));
        columns.numbers("wakes.spawn", wakes.iter().map(|of| u64::from(of.is_spawn)));
        self.notes.sort_by_key(|note| note.at);
        let notes = &self.notes;
        columns.steps("notes.at", notes.iter().map(|of| of.at));
        columns.numbers("notes.thread", notes.iter().map(|of| u64::from(of.thread)));
        columns.steps("notes.task", notes.iter().map(|of| i64::from(of.task)));
        columns.steps("notes.span", notes.iter().map(|of| i64::from(of.span)));
        columns.numbers("notes.level", notes.iter().map(|of| u64::from(of.level)));
        columns.numbers("notes.site", notes.iter().map(|of| u64::from(of.site)));
        columns.steps("notes.text", notes.iter().map(|of| i64::from(of.text)));
        columns.steps("notes.fields", notes.iter().map(|of| i64::from(of.fields)));
        self.samples.sort_by_key(|sample| (sample.of as u8, sample.at));
        let samples = &self.samples;
        columns.numbers("samples.of", samples.iter().map(|of| of.of as u64));
        columns.steps("samples.at", samples.iter().map(|of| of.at));
        columns.numbers("samples.thread", samples.iter().map(|of| u64::from(of.thread)));
        columns.steps("samples.task", samples.iter().map(|of| i64::from(of.task)));
        columns.steps("samples.span", samples.iter().map(|of| i64::from(of.span)));
        columns.numbers("samples.stack", samples.iter().map(|of| u64::from(of.stack)));
        columns.numbers("samples.weight", samples.iter().map(|of| of.weight));
        let counters = &self.values;
        columns.numbers("counters.name", counters.iter().map(|of| u64::from(of.name)));
        columns.numbers("counters.unit", counters.iter().map(|of| u64::from(of.unit)));
        columns.numbers("counters.machine", counters.iter().map(|of| u64::from(of.is_of_machine)));
        columns.numbers("counters.count", counters.iter().map(|of| of.values.len() as u64));
        let values = || counters.iter().flat_map(|of| &of.values);
        columns.steps("values.at", values().map(|(at, _)| *at));
        columns.floats("values.value", values().map(|(_, value)| *value));
        self.what_is_missing()
    }

    fn what_is_missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.wakes_of > 1 {
            missing.push(format!("of the wakes and spawns, one of {}", self.wakes_of));
        }
        if self.samples_of > 1 {
            missing.push(format!("of the samples, one of {}", self.samples_of));
        }
        if self.notes_left_out > 0 {
            missing.push(format!("all logs and events but the oldest {}", self.notes_left_out));
        }
        let thinned = self.values.iter().filter(|of| of.one_of > 1).count();
        if thinned > 0 {
            missing.push(format!("only some of the values of {thinned} counters"));
        }
        if self.counters_left_out > 0 {
            missing.push(format!("no values of counters beyond the first {MOST_COUNTERS}"));
        }
        missing
    }
}

/// Leaves out every other one.
fn halve<T>(all: &mut Vec<T>) {
    let mut is_kept = false;
    all.retain(|_| {
        is_kept = !is_kept;
        is_kept
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_warnings_leaves_room_for_many_at_a_time_and_they_stay_longest() {
        let mut moments = Moments::default();
        let note = |at, level| {
            let (thread, task, span, site, text, fields) = Default::default();
            Note { at, thread, task, span, level, site, text, fields }
        };
        (0..MOST_NOTES as i64 - 1).for_each(|at| moments.note(note(at, 4)));
        let (mut made, mut left_out) = (0, 0);
        for at in 0..MOST_NOTES as i64 {
            moments.note(note(at, 3));
            let before = std::mem::replace(&mut left_out, moments.notes_left_out);
            made += u32::from(before != left_out);
        }
        assert!((1..=4).contains(&made), "{made}");
        assert!(moments.notes.len() <= MOST_NOTES);
        assert!(moments.notes.iter().any(|note| note.level == 4));
    }
}
