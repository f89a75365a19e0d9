//! The judge: watches a program by its own means, so that a trace can be compared with what it saw.
//!
//! It sees spans and their events as `tracing` reports them, through layers on both sides of the recorder's
//! (or around its subscriber); the program itself reports everything else, at the very place. For every call
//! it keeps a reading of the clock before and one after, so the truth lies in between, however slow the
//! machine is.

use crate::clock::{Window, now, tid};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Everything known about a program.
#[derive(Default)]
pub struct Facts {
    pub spans: BTreeMap<u64, SpanFact>,
    pub logs: BTreeMap<u64, LogFact>,
    pub typed: BTreeMap<u64, TypedFact>,
    pub tasks: BTreeMap<u64, TaskFact>,
    pub threads: BTreeMap<u64, ThreadFact>,
    pub follows: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub struct SpanFact {
    pub name: &'static str,
    pub recorded: bool,
    /// The nearest recorded span outwards.
    pub parent: Option<u64>,
    /// Whether the current span is certain: a span that is entered twice is in the thread's list twice.
    pub is_sure: bool,
    pub created: Window,
    pub closed: Option<Window>,
    pub enters: Vec<(u64, Window)>,
    pub exits: Vec<(u64, Window)>,
    pub late: Vec<u64>,
}

#[derive(Debug)]
pub struct LogFact {
    pub level: Level,
    pub span: Option<u64>,
    pub is_sure: bool,
    pub message: String,
    pub at: Window,
    pub thread: u64,
}

#[derive(Debug)]
pub struct TypedFact {
    pub values: (u64, i64, f64, bool, String),
    pub at: Window,
    pub thread: u64,
    pub task: Option<u64>,
}

#[derive(Debug, Default)]
pub struct TaskFact {
    pub name: Option<&'static str>,
    pub parent: Option<u64>,
    pub polls: Vec<PollFact>,
    pub end: Option<End>,
    /// Work for the pool of blocking threads: it has no polls.
    pub is_blocking: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Ready,
    Panicked,
    Dropped,
}

#[derive(Debug)]
pub struct PollFact {
    pub thread: u64,
    /// The last reading on this thread before the poll.
    pub lower: u64,
    /// The first and the last thing inside it.
    pub inside: Window,
    /// The first reading on this thread after the poll.
    pub upper: u64,
    /// What it waits for, and whether that is certain.
    pub reason: Option<&'static str>,
    pub is_sure: bool,
}

#[derive(Debug, Default)]
pub struct ThreadFact {
    pub begins: Vec<(&'static str, Window)>,
    pub ends: Vec<(&'static str, Window, Window)>,
    pub counters: Vec<(&'static str, u64)>,
    pub messages: Vec<String>,
}

static FACTS: Mutex<Option<Facts>> = Mutex::new(None);
static IDS: Mutex<Option<HashMap<u64, u64>>> = Mutex::new(None);
static RECORDING: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU64 = AtomicU64::new(1);
/// The most verbose level that the recorder should record.
static LEVEL: Mutex<Level> = Mutex::new(Level::TRACE);

thread_local! {
    /// The spans that this thread has entered.
    static STACK: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// The tasks that this thread is polling.
    static TASKS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// The pending waits of this poll, in the order in which they were polled.
    static REASONS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    /// Whether another task was polled inside this poll.
    static NESTED: Cell<bool> = const { Cell::new(false) };
    static BEFORE: Cell<u64> = const { Cell::new(0) };
    static LAST: Cell<u64> = const { Cell::new(0) };
    /// The last poll that ended here: its task, and which of the task's polls.
    static ENDED: Cell<Option<(u64, usize)>> = const { Cell::new(None) };
}

/// A unique number.
pub fn fresh() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub fn facts() -> impl std::ops::DerefMut<Target = Facts> {
    struct Guard(MutexGuard<'static, Option<Facts>>);
    impl std::ops::Deref for Guard {
        type Target = Facts;
        fn deref(&self) -> &Facts {
            self.0.as_ref().expect("there is a program")
        }
    }
    impl std::ops::DerefMut for Guard {
        fn deref_mut(&mut self) -> &mut Facts {
            self.0.as_mut().expect("there is a program")
        }
    }
    Guard(lock(&FACTS))
}

/// A program may panic anywhere.
fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A new program begins; nothing is recorded yet.
pub fn begin(level: Level) {
    *lock(&FACTS) = Some(Facts::default());
    *lock(&LEVEL) = level;
}

pub fn is_recorded(recording: bool) {
    RECORDING.store(recording, Ordering::SeqCst);
}

/// The program has ended: returns everything known about it.
pub fn end() -> Facts {
    lock(&FACTS).take().expect("there is a program")
}

/// A reading of the clock on this thread, to bound polls.
pub fn touch() -> u64 {
    let time = now();
    let ended = ENDED.try_with(Cell::take).ok().flatten();
    if let Some((task, poll)) = ended
        && let Some(fact) = facts().tasks.get_mut(&task)
    {
        fact.polls[poll].upper = time;
    }
    let _ = LAST.try_with(|last| last.set(time));
    time
}

/// The task that this thread is polling.
pub fn current_task() -> Option<u64> {
    TASKS.with_borrow(|tasks| tasks.last().copied())
}

pub struct PollGuard {
    task: u64,
    start: u64,
    lower: u64,
    outer: Vec<&'static str>,
    outer_nested: bool,
    pub is_pending: bool,
    pub is_over: bool,
}

/// A poll of this task begins on this thread.
pub fn poll(task: u64) -> PollGuard {
    let lower = LAST.get();
    let start = touch();
    TASKS.with_borrow_mut(|tasks| tasks.push(task));
    let outer = REASONS.take();
    let outer_nested = NESTED.replace(false);
    PollGuard { task, start, lower, outer, outer_nested, is_pending: false, is_over: false }
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        TASKS.with_borrow_mut(|tasks| tasks.pop());
        let reasons = REASONS.replace(std::mem::take(&mut self.outer));
        let reason = reasons.first().copied().filter(|_| self.is_pending);
        let nested = NESTED.replace(true);
        if TASKS.with_borrow(|tasks| tasks.is_empty()) {
            NESTED.set(self.outer_nested);
        }
        let end = touch();
        let mut facts = facts();
        let fact = facts.tasks.entry(self.task).or_default();
        fact.polls.push(PollFact {
            thread: tid(),
            lower: self.lower,
            inside: Window { before: self.start, after: end },
            upper: u64::MAX,
            reason,
            is_sure: !nested,
        });
        if !self.is_pending {
            fact.end = Some(if self.is_over { End::Ready } else { End::Panicked });
        }
        ENDED.set(Some((self.task, fact.polls.len() - 1)));
    }
}

/// A wait inside the poll is pending, for this reason.
pub fn waits_for(reason: &'static str) {
    REASONS.with_borrow_mut(|reasons| {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    });
}

/// A wait inside the poll is over, or was dropped.
pub fn waits_no_more(reason: &'static str) {
    let _ = REASONS.try_with(|reasons| reasons.borrow_mut().retain(|other| *other != reason));
}

fn before() {
    BEFORE.set(now());
}

fn window() -> Window {
    Window { before: BEFORE.get(), after: now() }
}

fn number_of(id: &Id) -> u64 {
    lock(&IDS).get_or_insert_default().get(&id.into_u64()).copied().unwrap_or(0)
}

/// A span, or none, and whether that is certain.
type Known = (Option<u64>, bool);

/// The nearest recorded span from this one outwards.
fn recorded(facts: &Facts, span: u64) -> Known {
    match facts.spans.get(&span) {
        Some(fact) if fact.recorded => (Some(span), true),
        Some(fact) => (fact.parent, fact.is_sure),
        None => (None, true),
    }
}

/// What the spans that this thread has entered imply for a new span or an event.
fn current(find: impl Fn(&[u64]) -> Known) -> Known {
    STACK.with_borrow(|stack| {
        let twice = stack.iter().enumerate().any(|(at, span)| stack[..at].contains(span));
        let (found, is_sure) = find(stack);
        (found, is_sure && !twice)
    })
}

/// The parent of a new span: the nearest recorded one from the current span outwards.
fn parent(facts: &Facts, explicit: Option<&Id>, is_root: bool) -> Known {
    match explicit {
        Some(id) => recorded(facts, number_of(id)),
        None if is_root => (None, true),
        None => current(|stack| stack.last().map_or((None, true), |span| recorded(facts, *span))),
    }
}

/// The span of an event: the innermost recorded one that its thread has entered.
fn around(facts: &Facts, explicit: Option<&Id>, is_root: bool) -> Known {
    let is_recorded = |span: &&u64| facts.spans.get(span).is_some_and(|fact| fact.recorded);
    match explicit {
        Some(id) => recorded(facts, number_of(id)),
        None if is_root => (None, true),
        None => current(|stack| (stack.iter().rev().find(is_recorded).copied(), true)),
    }
}

#[derive(Default)]
struct Seen {
    id: u64,
    late: Option<u64>,
    message: String,
}

impl Visit for Seen {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "id" => self.id = value,
            "late" => self.late = Some(value),
            _ => {}
        }
    }
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

fn wants(level: &Level) -> bool {
    RECORDING.load(Ordering::SeqCst) && level <= &*lock(&LEVEL)
}

fn created(attributes: &Attributes<'_>, id: &Id) {
    let created = window();
    let mut seen = Seen::default();
    attributes.record(&mut seen);
    if seen.id == 0 || lock(&FACTS).is_none() {
        return;
    }
    let mut facts = facts();
    let (parent, is_sure) = parent(&facts, attributes.parent(), attributes.is_root());
    lock(&IDS).get_or_insert_default().insert(id.into_u64(), seen.id);
    let metadata = attributes.metadata();
    let fact = SpanFact {
        name: metadata.name(),
        recorded: wants(metadata.level()),
        parent,
        is_sure,
        created,
        closed: None,
        enters: Vec::new(),
        exits: Vec::new(),
        late: Vec::new(),
    };
    facts.spans.insert(seen.id, fact);
}

fn with_span(id: &Id, change: impl FnOnce(&mut SpanFact, Window)) {
    let (number, window) = (number_of(id), window());
    if let Some(facts) = lock(&FACTS).as_mut()
        && let Some(span) = facts.spans.get_mut(&number)
    {
        change(span, window);
    }
}

fn entered(id: &Id) {
    STACK.with_borrow_mut(|stack| stack.push(number_of(id)));
    with_span(id, |span, at| span.enters.push((tid(), at)));
}

fn left(id: &Id) {
    let number = number_of(id);
    STACK.with_borrow_mut(|stack| {
        if let Some(at) = stack.iter().rposition(|span| *span == number) {
            stack.remove(at);
        }
    });
    with_span(id, |span, at| span.exits.push((tid(), at)));
}

fn closed(id: &Id) {
    with_span(id, |span, at| span.closed = Some(at));
    lock(&IDS).get_or_insert_default().remove(&id.into_u64());
}

fn late(id: &Id, values: &Record<'_>) {
    let mut seen = Seen::default();
    values.record(&mut seen);
    with_span(id, |span, _| span.late.extend(seen.late));
}

fn followed(id: &Id, from: &Id) {
    let pair = (number_of(id), number_of(from));
    if RECORDING.load(Ordering::SeqCst)
        && let Some(facts) = lock(&FACTS).as_mut()
    {
        facts.follows.push(pair);
    }
}

fn said(event: &Event<'_>) {
    let at = window();
    let mut seen = Seen::default();
    event.record(&mut seen);
    if seen.id == 0 || !wants(event.metadata().level()) {
        return;
    }
    let mut facts = facts();
    let (span, is_sure) = around(&facts, event.parent(), event.is_root());
    let level = *event.metadata().level();
    let fact = LogFact { level, span, is_sure, message: seen.message, at, thread: tid() };
    facts.logs.insert(seen.id, fact);
}

/// The layer below the recorder's: called before it.
pub struct Before;

impl<S: Subscriber> Layer<S> for Before {
    fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        before();
    }
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        before();
    }
    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        before();
    }
    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        before();
    }
    fn on_close(&self, _: Id, _: Context<'_, S>) {
        before();
    }
}

/// The layer above the recorder's: called after it.
pub struct After;

impl<S: Subscriber> Layer<S> for After {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        created(attributes, id);
    }
    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        late(id, values);
    }
    fn on_follows_from(&self, id: &Id, from: &Id, _: Context<'_, S>) {
        followed(id, from);
    }
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        said(event);
    }
    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        entered(id);
    }
    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        left(id);
    }
    fn on_close(&self, id: Id, _: Context<'_, S>) {
        closed(&id);
    }
}

/// A subscriber that passes everything on to another one, and watches.
pub struct Around<S>(pub S);

impl<S: Subscriber> Subscriber for Around<S> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }
    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        self.0.max_level_hint()
    }
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        before();
        let id = self.0.new_span(attributes);
        created(attributes, &id);
        id
    }
    fn record(&self, id: &Id, values: &Record<'_>) {
        self.0.record(id, values);
        late(id, values);
    }
    fn record_follows_from(&self, id: &Id, from: &Id) {
        self.0.record_follows_from(id, from);
        followed(id, from);
    }
    fn event(&self, event: &Event<'_>) {
        before();
        self.0.event(event);
        said(event);
    }
    fn enter(&self, id: &Id) {
        before();
        self.0.enter(id);
        entered(id);
    }
    fn exit(&self, id: &Id) {
        before();
        self.0.exit(id);
        left(id);
    }
    fn clone_span(&self, id: &Id) -> Id {
        self.0.clone_span(id)
    }
    fn try_close(&self, id: Id) -> bool {
        before();
        let is_closed = self.0.try_close(id.clone());
        if is_closed {
            closed(&id);
        }
        is_closed
    }
    fn current_span(&self) -> tracing_core::span::Current {
        self.0.current_span()
    }
}
