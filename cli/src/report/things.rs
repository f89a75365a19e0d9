//! Tasks and spans: each has a number, in the order in which they were met, which stays the same.

use super::columns::Columns;
use super::slices::How;
use lookback::read::wire::{SpanId, TaskId};
use std::collections::HashMap;
use std::hash::Hash;

/// The most tasks, and the most spans, in a page.
const MOST: usize = 250_000;

/// A task or a span.
#[derive(Clone, Copy, Debug)]
pub struct Thing<I> {
    pub id: I,
    number: u32,
    pub site: u32,
    /// The number of the text with its fields.
    pub fields: u32,
    /// The number of its parent; 0 without.
    pub parent: u32,
    /// When it began; none if that was before the snapshot and is not known.
    pub began: Option<i64>,
    pub ended: Option<(i64, How)>,
}

/// See the module.
#[derive(Debug)]
pub struct Things<I> {
    all: Vec<Thing<I>>,
    live: HashMap<I, u32>,
    next: u32,
    /// When there are so many, room is made: more than [`MOST`] while more live.
    limit: usize,
    /// How many are not here, because there was no room for them. They were the shortest of those that had ended.
    pub left_out: u64,
}

impl<I> Default for Things<I> {
    fn default() -> Self {
        Self { all: Vec::new(), live: HashMap::new(), next: 1, limit: MOST, left_out: 0 }
    }
}

impl<I: Copy + Eq + Hash> Things<I> {
    /// One begins, or was there before.
    pub fn begin(&mut self, id: I, site: u32, parent: u32, began: Option<i64>) -> u32 {
        if let Some(known) = self.live.get(&id) {
            return *known;
        }
        if self.all.len() >= self.limit {
            self.make_room();
            // All are looked at for it, so not soon again.
            self.limit = MOST.max(self.all.len() / 2 * 3);
        }
        let number = self.next;
        self.next += 1;
        self.all.push(Thing { id, number, site, fields: 0, parent, began, ended: None });
        self.live.insert(id, number);
        number
    }

    /// Its number; 0 if it is not known.
    pub fn number(&self, id: Option<I>) -> u32 {
        id.and_then(|id| self.live.get(&id)).copied().unwrap_or_default()
    }

    /// One that lives.
    pub fn live(&mut self, id: I) -> Option<&mut Thing<I>> {
        let number = *self.live.get(&id)?;
        let place = self.all.binary_search_by_key(&number, |thing| thing.number).ok()?;
        self.all.get_mut(place)
    }

    /// One ends.
    pub fn end(&mut self, id: I, at: i64, how: How) {
        if let Some(thing) = self.live(id) {
            thing.ended = Some((at, how));
            self.live.remove(&id);
        }
    }

    /// All end that are not among these.
    pub fn end_others(&mut self, at: i64, is_there: impl Fn(I) -> bool) {
        let gone: Vec<_> = self.live.keys().copied().filter(|id| !is_there(*id)).collect();
        gone.into_iter().for_each(|id| self.end(id, at, How::Unknown));
    }

    /// Leaves out half of those that have ended: the shortest.
    fn make_room(&mut self) {
        let length = |thing: &Thing<I>| {
            let (end, _) = thing.ended?;
            Some(thing.began.map_or(i64::MAX, |began| end.saturating_sub(began)))
        };
        let mut lengths: Vec<_> = self.all.iter().filter_map(length).collect();
        if lengths.is_empty() {
            return;
        }
        let middle = lengths.len() / 2;
        let (_, median, _) = lengths.select_nth_unstable(middle);
        let median = *median;
        let before = self.all.len();
        self.all.retain(|thing| length(thing).is_none_or(|length| length > median));
        self.left_out += (before - self.all.len()) as u64;
    }

    fn write(
        mut self,
        name: &str,
        columns: &mut Columns,
        id: impl Fn(I) -> (u32, u32),
    ) -> (usize, u64) {
        let mut before = usize::MAX;
        while self.all.len() > MOST && self.all.len() < before {
            before = self.all.len();
            self.make_room();
        }
        let all = &self.all;
        let column = |what: &str| format!("{name}.{what}");
        columns.steps(&column("number"), all.iter().map(|of| i64::from(of.number)));
        columns.steps(&column("index"), all.iter().map(|of| i64::from(id(of.id).0)));
        columns.numbers(&column("incarnation"), all.iter().map(|of| u64::from(id(of.id).1)));
        columns.numbers(&column("site"), all.iter().map(|of| u64::from(of.site)));
        columns.steps(&column("fields"), all.iter().map(|of| i64::from(of.fields)));
        columns.steps(&column("parent"), all.iter().map(|of| i64::from(of.parent)));
        columns.numbers(&column("known"), all.iter().map(|of| u64::from(of.began.is_some())));
        columns.steps(&column("began"), all.iter().map(|of| of.began.unwrap_or_default()));
        let length = |of: &Thing<I>| {
            let (end, _) = of.ended?;
            u64::try_from(end.saturating_sub(of.began.unwrap_or_default())).ok()
        };
        columns.numbers(&column("length"), all.iter().map(|of| length(of).unwrap_or_default()));
        let how = |of: &Thing<I>| of.ended.map_or(How::Open, |(_, how)| how) as u8;
        columns.numbers(&column("how"), all.iter().map(|of| u64::from(how(of))));
        (all.len(), self.left_out)
    }
}

impl Things<TaskId> {
    /// Writes them. Returns how many are left out.
    pub fn write_tasks(self, columns: &mut Columns) -> (usize, u64) {
        self.write("tasks", columns, |id| (id.index, id.incarnation))
    }
}

impl Things<SpanId> {
    /// Writes them. Returns how many are left out.
    pub fn write_spans(self, columns: &mut Columns) -> (usize, u64) {
        self.write("spans", columns, |id| (id.index, id.incarnation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(index: u32) -> TaskId {
        TaskId { index, incarnation: 1 }
    }

    #[test]
    fn those_that_live_stay_whatever_their_number_and_room_for_them_is_made_seldom() {
        let mut things = Things::default();
        let (mut made, mut limit) = (0, MOST);
        for index in 0..4 * MOST as u32 {
            things.begin(task(index), 0, 0, Some(0));
            made += u32::from(std::mem::replace(&mut limit, things.limit) != things.limit);
        }
        assert_eq!(things.all.len(), 4 * MOST);
        assert!(made <= 4, "{made}");
        (0..4 * MOST as u32).for_each(|index| things.end(task(index), 1, How::Ready));
        for index in 0..4 * MOST as u32 {
            let id = task(4 * MOST as u32 + index);
            things.begin(id, 0, 0, Some(2));
            things.end(id, 3, How::Ready);
        }
        assert!(things.all.len() <= MOST, "{}", things.all.len());
        assert_eq!(things.all.len() as u64 + things.left_out, 8 * MOST as u64);
    }
}
