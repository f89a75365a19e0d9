//! The displayed names of spans: the value of their field `otel.name`, as in `tracing-opentelemetry`, or
//! otherwise the name of their callsite.
//!
//! A span's events refer to a site by its index. For a span with another name the index lies beyond all sites
//! and stands for the site and the name; it is created when the first event needs it.

use super::bytes::{Bytes, Fault, Span};
use super::contents::Contents;
use super::definitions::NO_SITE;
use super::fields::ValuesAt;
use crate::wire::{SpanId, ValueType};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The field that names a span.
pub(crate) const FIELD: &str = "otel.name";
/// Indices from here on stand for a site and a name.
const RENAMED: u32 = 1 << 31;

/// The meanings of the indices beyond all sites.
#[derive(Default)]
pub(crate) struct Renamed {
    known: Mutex<Known>,
    /// The index of the name among each callsite's fields, by the callsite's index.
    fields: OnceLock<HashMap<u32, u64>>,
}

#[derive(Default)]
struct Known {
    names: Vec<(u32, Span)>,
    numbers: HashMap<(u32, u32), u32>,
}

impl Renamed {
    /// The index that stands for a site and a name.
    fn index(&self, site: u32, name: Span) -> u32 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.names.len() as u32;
        let number = *known.numbers.entry((site, name.start)).or_insert(next);
        if number == next {
            known.names.push((site, name));
        }
        RENAMED | number
    }

    /// The site and the name that an index stands for, if it does.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<(u32, Span)> {
        if index & RENAMED == 0 || index == NO_SITE {
            return None;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.names.get((index & !RENAMED) as usize).copied()
    }
}

impl Contents {
    /// For each callsite that has it, the field that names its spans.
    fn name_fields(&self) -> &HashMap<u32, u64> {
        self.renamed.fields.get_or_init(|| {
            let sites = (0..).map_while(|index| Some((index, self.tables.site(index)?)));
            let named = sites.filter_map(|(index, site)| {
                let mut fields = self.tables.fields(site).iter();
                let at = fields.position(|f| self.tables.text(&self.content, f.name) == FIELD)?;
                Some((index, at as u64))
            });
            named.collect()
        })
    }

    /// The name among these values of a callsite's fields.
    pub(crate) fn name_given(&self, site: u32, values: ValuesAt) -> Option<Span> {
        let given = match values {
            ValuesAt::Nowhere => return None,
            ValuesAt::Carried(index) => return self.begin.carried_name(index),
            ValuesAt::Content(given) => given,
        };
        let wanted = *self.name_fields().get(&site)?;
        let mut bytes = Bytes::new(&self.content, given, self.content.len() as u32);
        let mut name = None;
        let mut read = || -> Result<(), Fault> {
            for _ in 0..bytes.number()? {
                let (index, kind) = bytes.given()?;
                if index == wanted && kind == ValueType::Text {
                    name = self.tables.span(bytes.text()?);
                } else {
                    bytes.skip_value(kind)?;
                }
            }
            Ok(())
        };
        // Unreadable values are reported elsewhere.
        let _ = read();
        name.filter(|name| !name.of(&self.content).is_empty())
    }
}

/// The spans with a name of their own, while events are taken in order.
#[derive(Default)]
pub(crate) struct SpanNames(HashMap<SpanId, Span>);

impl SpanNames {
    pub(crate) fn new(of: &Contents) -> Self {
        let mut names = Self::default();
        for span in &of.begin.spans {
            names.learn(span.id, of.name_given(span.site, span.values));
        }
        names
    }

    /// These values of a span become known.
    pub(crate) fn record(&mut self, id: SpanId, site: u32, given: u32, of: &Contents) {
        if !of.name_fields().is_empty() {
            self.learn(id, of.name_given(site, given.into()));
        }
    }

    fn learn(&mut self, id: SpanId, name: Option<Span>) {
        if let Some(name) = name {
            self.0.insert(id, name);
        }
    }

    /// The span has ended.
    pub(crate) fn forget(&mut self, id: SpanId) {
        // Usually no span has its own name, and nothing needs to be hashed.
        if !self.0.is_empty() {
            self.0.remove(&id);
        }
    }

    /// The index that stands for the span's site with its name.
    #[inline]
    pub(crate) fn site(&self, id: SpanId, site: u32, of: &Contents) -> u32 {
        match self.0.get(&id) {
            Some(name) if site != NO_SITE => of.renamed.index(site, *name),
            _ => site,
        }
    }
}
