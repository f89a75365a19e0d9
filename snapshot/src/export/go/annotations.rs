//! What a thread has entered and what it says there: regions, spans, logs.

use super::goroutine::{OpenRegion, Token};
use super::report::Origin::{self, Added, Recorded};
use super::text::{append, append_omitted};
use super::thread::{Open, OpenRange, SeatAt};
use super::translate::Mapping;
use crate::read::{Event, EventKind, Fields, Omitted, Site, Value};
use crate::wire::{Nanos, SpanId};
use std::hash::BuildHasher;
use std::io::Write;

/// The user task of a range. A span has such a number only if its entry was used 2^31 times.
pub(super) fn range_task(range: u64) -> u64 {
    1 << 63 | range & (u64::MAX >> 2)
}

impl<W: Write> Mapping<'_, W> {
    // Ranges of the process: tasks, as any goroutine may end one.

    pub(super) fn range_begin(&mut self, seat: SeatAt, range: u64, site: Site<'_>, origin: Origin) {
        self.scheduler.ensure(seat);
        let (at, task) = (self.scheduler.seat(seat).at, range_task(range));
        let machine = &mut self.scheduler.machine;
        let Some(root) = machine.root_of(at).filter(|_| !machine.is_open(task)) else { return };
        let name = machine.tables.name(site.name);
        let stack = machine.tables.inside(Some(site), root);
        machine.task_begin(at, task, 0, name, stack, origin);
    }

    pub(super) fn range_end(&mut self, seat: SeatAt, range: u64, site: Site<'_>, took: Nanos) {
        let task = range_task(range);
        if !self.scheduler.machine.is_open(task) {
            self.range_begin(seat, range, site, Added);
        }
        self.say(seat, task, "took_ns", &took.0.to_string(), None, Added);
        let at = self.scheduler.seat(seat).at;
        if self.scheduler.machine.is_open(task) {
            self.scheduler.machine.task_end(at, task, Recorded);
        }
    }

    // Regions and spans.

    pub(super) fn enter_region(&mut self, seat: SeatAt, site: Site<'_>, origin: Origin) {
        let what = OpenRange::Region(self.hashes.hash_one(site.name));
        self.enter(seat, what, 0, site, origin);
    }

    /// Ends the region that has this many others open inside it.
    pub(super) fn region_end(&mut self, seat: SeatAt, site: Option<Site<'_>>, inside: u64) {
        match site {
            Some(site) => {
                let what = OpenRange::Region(self.hashes.hash_one(site.name));
                let open = self.scheduler.seat_mut(seat).close_region(what, inside);
                self.exit(seat, open);
            }
            // Neither the reader nor the trace tracks very deep ones.
            None if self.scheduler.seat_mut(seat).close_deep() => {}
            None => self.scheduler.machine.report.left_out.ends += 1,
        }
    }

    /// The thread's current goroutine enters a region that is part of a user task, or of none (0).
    pub(super) fn enter(
        &mut self,
        seat: SeatAt,
        what: OpenRange,
        task: u64,
        site: Site<'_>,
        origin: Origin,
    ) {
        self.scheduler.ensure(seat);
        self.tokens += 1;
        let token = Token(self.tokens);
        let at = self.scheduler.seat(seat).at;
        let machine = &mut self.scheduler.machine;
        let (Some(goroutine), Some(root)) = (machine.running(at), machine.root_of(at)) else {
            return;
        };
        let name = machine.tables.name(site.name);
        let stack = machine.tables.inside(Some(site), root);
        let region = OpenRegion { token, task, name, stack, is_over: false };
        let token = machine.enter(at, region, origin).then_some(token);
        self.scheduler.seat_mut(seat).open(Open { what, goroutine, token });
    }

    /// The thread leaves a region or span that is no longer in its list.
    fn exit(&mut self, seat: SeatAt, open: Option<Open>) {
        let Some(open) = open else {
            self.scheduler.machine.report.left_out.ends += 1;
            return;
        };
        if open.goroutine == self.scheduler.seat(seat).wanted() {
            self.scheduler.ensure(seat);
        }
        let at = self.scheduler.seat(seat).at;
        // Too deep ones are counted already.
        if let Some(token) = open.token
            && !self.scheduler.machine.exit(at, open.goroutine, token, Recorded)
        {
            self.scheduler.machine.report.left_out.ends += 1;
        }
    }

    /// Whether a span has a number that can name a user task; Go reserves 0 and the highest one.
    pub(super) fn is_known(&mut self, span: SpanId) -> bool {
        let is_known = span.incarnation != 0 && span.number() != u64::MAX;
        self.scheduler.machine.report.left_out.unknown += u64::from(!is_known);
        is_known
    }

    /// A span begins, on the thread's current goroutine.
    pub(super) fn begin_span<'a>(
        &mut self,
        seat: SeatAt,
        span: SpanId,
        site: Site<'_>,
        parent: Option<SpanId>,
        fields: Option<(Fields<'a>, Omitted<'a>)>,
        origin: Origin,
    ) {
        self.scheduler.ensure(seat);
        let (at, task) = (self.scheduler.seat(seat).at, span.number());
        let machine = &mut self.scheduler.machine;
        if machine.is_open(task) {
            machine.task_end(at, task, Added);
        }
        let Some(root) = machine.root_of(at) else { return };
        let name = machine.tables.name(site.name);
        let stack = machine.tables.inside(Some(site), root);
        let parent = parent.map_or(0, SpanId::number);
        machine.task_begin(at, task, parent, name, stack, origin);
        if let Some((fields, omitted)) = fields {
            self.say_fields(seat, task, fields, omitted);
        }
    }

    pub(super) fn span_create(
        &mut self,
        event: &Event,
        seat: SeatAt,
        span: SpanId,
        site: Site<'_>,
        parent: Option<SpanId>,
    ) {
        if self.is_known(span) {
            let fields = (event.fields(), event.omitted_fields());
            self.begin_span(seat, span, site, parent, Some(fields), Recorded);
        }
    }

    pub(super) fn span_enter(&mut self, event: &Event, seat: SeatAt, span: SpanId) {
        if !self.is_known(span) {
            return;
        }
        let site =
            event.site().unwrap_or(Site { name: event.name(), file: "", line: 0, blocking: false });
        if !self.scheduler.machine.is_open(span.number()) {
            self.begin_span(seat, span, site, None, None, Added);
        }
        self.enter(seat, OpenRange::Span(span.number()), span.number(), site, Recorded);
    }

    pub(super) fn span_exit(&mut self, seat: SeatAt, span: SpanId) {
        let open = self.scheduler.seat_mut(seat).close(OpenRange::Span(span.number()));
        self.exit(seat, open);
    }

    pub(super) fn span_close(&mut self, seat: SeatAt, span: SpanId) {
        let task = span.number();
        if !self.scheduler.machine.is_open(task) {
            self.scheduler.machine.report.left_out.ends += 1;
            return;
        }
        self.scheduler.ensure(seat);
        let at = self.scheduler.seat(seat).at;
        self.scheduler.machine.task_end(at, task, Recorded);
    }

    pub(super) fn span_record(&mut self, event: &Event, seat: SeatAt, span: SpanId) {
        if self.is_known(span) {
            self.say_fields(seat, span.number(), event.fields(), event.omitted_fields());
        }
    }

    // Logs.

    /// A log for each field.
    fn say_fields<'a>(
        &mut self,
        seat: SeatAt,
        task: u64,
        fields: Fields<'a>,
        omitted: Omitted<'a>,
    ) {
        for (name, value) in fields {
            match value {
                Value::Text(text) | Value::Error(text) if !text.cut => {
                    self.say(seat, task, name, &text, None, Added);
                }
                Value::Text(text) | Value::Error(text) => {
                    self.say(seat, task, name, &format!("{}…", &*text), None, Added);
                }
                value => self.say(seat, task, name, &value.to_string(), None, Added),
            }
        }
        // The recorder had no room for their values.
        for name in omitted {
            self.say(seat, task, name, "…", None, Added);
        }
    }

    pub(super) fn log(&mut self, event: &Event, seat: SeatAt) {
        let fields = event.fields();
        let value = match event.kind() {
            EventKind::Log { level, message, .. } => {
                let mark = if message.cut { "…" } else { "" };
                let mut value = format!("{} {}{mark}", level.name().to_uppercase(), &*message);
                // The first two are the level and the message.
                append(&mut value, fields.skip(2));
                append_omitted(&mut value, event.omitted_fields());
                value
            }
            EventKind::Counter { value, .. } => value.to_string(),
            _ => {
                let mut value = String::new();
                append(&mut value, fields);
                value
            }
        };
        let task = event.span().map_or(0, SpanId::number);
        self.say(seat, task, event.name(), &value, event.site(), Recorded);
    }

    /// The thread's current goroutine logs something, for a span or for none (0).
    pub(super) fn say(
        &mut self,
        seat: SeatAt,
        task: u64,
        key: &str,
        value: &str,
        site: Option<Site<'_>>,
        origin: Origin,
    ) {
        self.scheduler.ensure(seat);
        let at = self.scheduler.seat(seat).at;
        let machine = &mut self.scheduler.machine;
        let Some(root) = machine.root_of(at) else { return };
        let stack = machine.tables.inside(site, root);
        let key = machine.tables.name(key);
        let value = machine.tables.name(value);
        machine.log(at, task, key, value, stack, origin);
    }
}
