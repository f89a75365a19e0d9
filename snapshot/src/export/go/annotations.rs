//! What a thread is inside of, and what is said there: regions, spans, logs.

use super::goroutine::{OpenRegion, Token};
use super::mapping::Mapping;
use super::report::Origin::{self, Added, Recorded};
use super::seat::{Open, SeatAt, What};
use super::text::{append, append_omitted};
use crate::read::{Event, EventKind, Fields, Omitted, Site, Value};
use crate::wire::SpanId;
use std::hash::BuildHasher;
use std::io::Write;

impl<W: Write> Mapping<W> {
    // Regions and spans.

    pub(super) fn enter_region(&mut self, seat: SeatAt, site: Site<'_>, origin: Origin) {
        let what = What::Region(self.hashes.hash_one(site.name));
        self.enter(seat, what, 0, site, origin);
    }

    /// A region ends in which so many others go on.
    pub(super) fn region_end(&mut self, seat: SeatAt, site: Option<Site<'_>>, inside: u64) {
        match site {
            Some(site) => {
                let what = What::Region(self.hashes.hash_one(site.name));
                let open = self.stage.seat_mut(seat).close_region(what, inside);
                self.exit(seat, open);
            }
            // Of those that are very deep, neither the reader nor the trace knows any.
            None if self.stage.seat_mut(seat).close_deep() => {}
            None => self.stage.machine.report.left_out.ends += 1,
        }
    }

    /// What runs on the thread enters a region, which is part of a task or of none (0).
    pub(super) fn enter(
        &mut self,
        seat: SeatAt,
        what: What,
        task: u64,
        site: Site<'_>,
        origin: Origin,
    ) {
        self.stage.ensure(seat);
        self.tokens += 1;
        let token = Token(self.tokens);
        let at = self.stage.seat(seat).at;
        let machine = &mut self.stage.machine;
        let (Some(goroutine), Some(root)) = (machine.running(at), machine.root_of(at)) else {
            return;
        };
        let name = machine.tables.name(site.name);
        let stack = machine.tables.inside(Some(site), root);
        let region = OpenRegion { token, task, name, stack, is_over: false };
        let token = machine.enter(at, region, origin).then_some(token);
        self.stage.seat_mut(seat).open(Open { what, goroutine, token });
    }

    /// The thread leaves this one, which it is inside of no more.
    fn exit(&mut self, seat: SeatAt, open: Option<Open>) {
        let Some(open) = open else {
            self.stage.machine.report.left_out.ends += 1;
            return;
        };
        if open.goroutine == self.stage.seat(seat).wanted() {
            self.stage.ensure(seat);
        }
        let at = self.stage.seat(seat).at;
        // What was too deep is counted already.
        if let Some(token) = open.token
            && !self.stage.machine.exit(at, open.goroutine, token, Recorded)
        {
            self.stage.machine.report.left_out.ends += 1;
        }
    }

    /// Whether a span has a number, as a user task; 0 and the highest one are Go's.
    pub(super) fn is_known(&mut self, span: SpanId) -> bool {
        let is_known = span.incarnation != 0 && span.number() != u64::MAX;
        self.stage.machine.report.left_out.unknown += u64::from(!is_known);
        is_known
    }

    /// A span begins, on what runs on the thread.
    pub(super) fn begin_span<'a>(
        &mut self,
        seat: SeatAt,
        span: SpanId,
        site: Site<'_>,
        parent: Option<SpanId>,
        fields: Option<(Fields<'a>, Omitted<'a>)>,
        origin: Origin,
    ) {
        self.stage.ensure(seat);
        let (at, task) = (self.stage.seat(seat).at, span.number());
        let machine = &mut self.stage.machine;
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
        if !self.stage.machine.is_open(span.number()) {
            self.begin_span(seat, span, site, None, None, Added);
        }
        self.enter(seat, What::Span(span.number()), span.number(), site, Recorded);
    }

    pub(super) fn span_exit(&mut self, seat: SeatAt, span: SpanId) {
        let open = self.stage.seat_mut(seat).close(What::Span(span.number()));
        self.exit(seat, open);
    }

    pub(super) fn span_close(&mut self, seat: SeatAt, span: SpanId) {
        let task = span.number();
        if !self.stage.machine.is_open(task) {
            self.stage.machine.report.left_out.ends += 1;
            return;
        }
        self.stage.ensure(seat);
        let at = self.stage.seat(seat).at;
        self.stage.machine.task_end(at, task, Recorded);
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
        // There was no room for their values.
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

    /// What runs on the thread says something, of a span or of none (0).
    pub(super) fn say(
        &mut self,
        seat: SeatAt,
        task: u64,
        key: &str,
        value: &str,
        site: Option<Site<'_>>,
        origin: Origin,
    ) {
        self.stage.ensure(seat);
        let at = self.stage.seat(seat).at;
        let machine = &mut self.stage.machine;
        let Some(root) = machine.root_of(at) else { return };
        let stack = machine.tables.inside(site, root);
        let key = machine.tables.name(key);
        let value = machine.tables.name(value);
        machine.log(at, task, key, value, stack, origin);
    }
}
