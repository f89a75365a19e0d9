//! The spans that are asked for, with all spans inside of them: by their ids, by their names, or by the distributed trace that
//! they belong to.

use crate::glob::Pattern;
use crate::ids::parse_span;
use lookback::read::wire::SpanId;
use lookback::read::{DecodedGeneration, Event, EventKind, Trace, Value};
use std::collections::{HashMap, HashSet};

/// The fields that name the trace of a span, as a whole.
const TRACE_ID_FIELDS: [&str; 4] = ["trace_id", "trace.id", "traceId", "otel.trace_id"];

/// See the module. It knows those that are open, so its size grows with what lives.
#[derive(Debug)]
pub struct SpanFamily {
    asked: Vec<Asked>,
    trace_id: Option<(String, bool)>,
    open: HashSet<SpanId>,
    /// Closed by the last event.
    closed: Option<SpanId>,
}

/// What is asked for, and whether it is there.
#[derive(Debug)]
struct Asked {
    text: String,
    which: Which,
    met: bool,
}

#[derive(Debug)]
enum Which {
    One(SpanId),
    /// All that are called so.
    Called(Pattern),
}

impl SpanFamily {
    /// `None` if nothing is asked for.
    pub fn new(spans: &[String], trace_id: Option<&str>, trace: &Trace) -> Option<Self> {
        if spans.is_empty() && trace_id.is_none() {
            return None;
        }
        let asked = |text: &String| {
            let called = || Which::Called(Pattern::whole(text));
            let which = parse_span(text).map_or_else(called, Which::One);
            Asked { text: text.clone(), which, met: false }
        };
        let asked = spans.iter().map(asked).collect();
        let trace_id = trace_id.map(|id| (id.to_ascii_lowercase(), false));
        let mut family = Self { asked, trace_id, open: HashSet::new(), closed: None };
        if let Some(first) = trace.generations().first()
            && let Ok(first) = trace.generation(first.number)
        {
            family.begin(&first);
        }
        Some(family)
    }

    /// The spans that are open when the snapshot begins.
    fn begin(&mut self, generation: &DecodedGeneration) {
        let mut left = Vec::new();
        for status in generation.spans() {
            if self.is_asked(status.span, Some(status.site.name))
                | self.is_of_trace(status.fields())
            {
                self.open.insert(status.span);
            } else if let Some(parent) = status.parent {
                left.push((parent, status.span));
            }
        }
        // A child may be stated before its parent.
        let mut children: HashMap<SpanId, Vec<SpanId>> = HashMap::new();
        left.into_iter().for_each(|(parent, span)| children.entry(parent).or_default().push(span));
        let mut new: Vec<_> = self.open.iter().copied().collect();
        while let Some(span) = new.pop() {
            for child in children.remove(&span).unwrap_or_default() {
                self.open.insert(child);
                new.push(child);
            }
        }
    }

    /// Its name is known where it begins, and where it gets another one.
    fn is_asked(&mut self, span: SpanId, name: Option<&str>) -> bool {
        let mut found = false;
        for asked in &mut self.asked {
            let is_it = match &asked.which {
                // A name may be a number, too.
                Which::One(id) => *id == span || name == Some(&*asked.text),
                Which::Called(pattern) => name.is_some_and(|name| pattern.matches(name)),
            };
            asked.met |= is_it;
            found |= is_it;
        }
        found
    }

    fn is_of_trace<'a>(&mut self, fields: impl Iterator<Item = (&'a str, Value<'a>)>) -> bool {
        let Some((id, met)) = &mut self.trace_id else { return false };
        let mut fields = fields;
        let found = fields.any(|(name, value)| match value {
            // version-trace-parent-flags
            Value::Text(text) if name == "traceparent" => {
                text.split('-').nth(1).is_some_and(|of| of.eq_ignore_ascii_case(id))
            }
            Value::Text(text) if TRACE_ID_FIELDS.contains(&name) => text.eq_ignore_ascii_case(id),
            _ => false,
        });
        *met |= found;
        found
    }

    /// Whether the event is of one of these spans, or was recorded inside of one. Each event must be shown to it.
    pub fn includes(&mut self, event: &Event) -> bool {
        if let Some(closed) = self.closed.take() {
            self.open.remove(&closed);
        }
        let concerned = match event.kind() {
            EventKind::SpanCreate { span, parent, .. } => {
                let is_inside = parent.is_some_and(|parent| self.open.contains(&parent));
                let name = Some(event.name());
                if self.is_asked(span, name) | self.is_of_trace(event.fields()) | is_inside {
                    self.open.insert(span);
                }
                Some(span)
            }
            EventKind::SpanRecord { span } => {
                // It may have its name from a field that is recorded only now.
                if self.is_asked(span, Some(event.name())) | self.is_of_trace(event.fields()) {
                    self.open.insert(span);
                }
                Some(span)
            }
            EventKind::SpanClose { span } => {
                self.closed = Some(span);
                Some(span)
            }
            EventKind::SpanEnter { span }
            | EventKind::SpanExit { span }
            | EventKind::SpanFollows { span, .. } => Some(span),
            _ => None,
        };
        // Of a span that began in a gap only its events are known.
        for span in [event.span(), concerned].into_iter().flatten() {
            if self.open.contains(&span) || self.is_asked(span, None) {
                self.open.insert(span);
                return true;
            }
        }
        false
    }

    /// The spans that were asked for and are not there, and the trace, if none of its spans is there.
    pub fn missing(&self) -> (impl Iterator<Item = &str>, Option<&str>) {
        let spans = self.asked.iter().filter(|asked| !asked.met).map(|asked| asked.text.as_str());
        let trace = self.trace_id.as_ref().filter(|(_, met)| !met).map(|(id, _)| id.as_str());
        (spans, trace)
    }
}
