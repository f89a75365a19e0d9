//! The listing: the statuses of tasks and spans that a generation did not mention, made from their entries
//! when the generation has ended. It stops no thread and takes no lock: `task_state` and `span` explain why
//! what it reads is true.

use crate::generation::statedump::threads::Statuses;
use crate::record::control::Control;
use crate::record::site::Site;
use crate::record::span::SPANS;
use crate::record::task::TASKS;
use lookback_snapshot::wire::{
    Kind, MAX_SPAN_LIST_ITEM, MAX_TASK_LIST_ITEM, SpanListWriter, TaskListItem, put_varint,
};
use std::collections::{HashMap, HashSet};

/// How [`Kind::OmittedOf`] refers to tasks, spans, and fields of spans.
const TASKS_OMITTED: u64 = 2;
const SPANS_OMITTED: u64 = 3;
const FIELDS_OMITTED: u64 = 4;

impl Statuses<'_> {
    /// The spans that no record mentioned. If room is short, their fields are left out first, and then spans
    /// are only counted.
    pub(crate) fn spans(&mut self) {
        let mut omitted = Omitted::default();
        let mut list = SpanListWriter::default();
        let mut last: Option<(&'static Site, u32)> = None;
        for (index, place) in SPANS.each() {
            if index.is_multiple_of(1024) && self.control.is_outrun(self.generation) {
                break;
            }
            let Some(restated) = place.status_at_end(self.generation) else { continue };
            let site = restated.site;
            // The list so far takes room, too, when a site is defined.
            self.pending = list.bytes().len();
            let id = match last {
                Some((known, id)) if std::ptr::eq(known, site) => Some(id),
                _ => self.id(site),
            };
            let size = MAX_SPAN_LIST_ITEM + restated.fields().len();
            let used = self.out.len() + self.pending + size;
            // Limited by what the arena has room for: tasks come after the spans, and need some of it.
            let bare = self.is_cut && used > self.room / 2;
            let has_room = !(bare && used > self.room / 4 * 3)
                && self.has_room(size)
                && list.try_reserve(size, restated.field_count() as usize);
            let Some(id) = id.filter(|_| has_room) else {
                omitted.count(SPANS_OMITTED, site);
                continue;
            };
            last = Some((site, id));
            if bare && restated.field_count() > 0 {
                omitted.count(FIELDS_OMITTED, site);
            }
            let (item, part, fields) = restated.listed(id, self.base, bare);
            list.push(item, part, fields);
        }
        self.pending = 0;
        self.list(Kind::SpanList, list.bytes());
        self.omitted_of(omitted);
    }

    /// The tasks that their owners did not mention, except those in `stated`.
    pub(crate) fn tasks(&mut self, stated: &HashSet<u32>) {
        let mut omitted = Omitted::default();
        let (mut list, mut before) = (Vec::new(), TaskListItem::default());
        // Tasks of one kind lie side by side: most have the site of the previous one.
        let mut last: Option<(&'static Site, u32)> = None;
        for (index, place) in TASKS.each() {
            // If so, none of this is used; and after a very long time, new words would look like old ones.
            if index.is_multiple_of(1024) && self.control.is_outrun(self.generation) {
                break;
            }
            let state = place.words.status_at_end(self.generation);
            let is_unknown = state.is_none() && place.words.is_unknown_in(self.generation);
            let Some((site, incarnation)) = place.named() else { continue };
            if is_unknown {
                omitted.count(TASKS_OMITTED, site);
            }
            let Some(state) = state else { continue };
            if !stated.is_empty() && stated.contains(&index) {
                continue;
            }
            // The list so far takes room, too, when a site is defined.
            self.pending = list.len();
            let id = match last {
                Some((known, id)) if std::ptr::eq(known, site) => Some(id),
                _ => self.id(site),
            };
            let size = MAX_TASK_LIST_ITEM + 16;
            let has_room = self.has_room(size) && list.try_reserve(size).is_ok();
            let Some(id) = id.filter(|_| has_room) else {
                omitted.count(TASKS_OMITTED, site);
                continue;
            };
            last = Some((site, id));
            let (running, woken) = (state.running, state.woken);
            let item = TaskListItem { task: index, incarnation, site: id, running, woken };
            item.put(&before, &mut list);
            before = item;
        }
        self.pending = 0;
        self.list(Kind::TaskList, &list);
        self.omitted_of(omitted);
    }

    /// Appends a list, unless it is empty.
    pub(crate) fn list(&mut self, kind: Kind, list: &[u8]) {
        if !list.is_empty() {
            self.out.push(kind as u8);
            put_varint(&mut self.out, list.len() as u64);
            self.out.extend_from_slice(list);
        }
    }

    /// Reports what was left out, by name as far as there is room.
    fn omitted_of(&mut self, omitted: Omitted) {
        let mut rest = omitted.nameless;
        for ((what, _), (site, count)) in omitted.of {
            match self.id(site).filter(|_| self.has_room(32)) {
                Some(id) => self.numbers(Kind::OmittedOf, &[what, u64::from(id), count]),
                None => rest[what as usize] += count,
            }
        }
        for (what, count) in (0..).zip(rest).filter(|(_, count)| *count > 0) {
            self.count_omitted(what, count);
        }
    }
}

/// What was left out, by kind and by name.
#[derive(Default)]
struct Omitted {
    of: HashMap<(u64, usize), (&'static Site, u64)>,
    /// How many had no memory for their names, by kind.
    nameless: [u64; FIELDS_OMITTED as usize + 1],
}

impl Omitted {
    fn count(&mut self, what: u64, site: &'static Site) {
        if self.of.try_reserve(1).is_err() {
            self.nameless[what as usize] += 1;
            return;
        }
        self.of.entry((what, std::ptr::from_ref(site) as usize)).or_insert((site, 0)).1 += 1;
    }
}

/// Returns the memory of past peaks, when a generation is complete.
pub(crate) fn shrink(control: &Control) {
    let complete = control.complete.load(std::sync::atomic::Ordering::Relaxed);
    crate::record::task::shrink(complete);
    crate::record::span::shrink(complete);
    crate::record::nesting::shrink();
}
