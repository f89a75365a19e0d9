//! What a generation states of its spans, against what the one before left.

use super::Check;
use super::join::{Pair, join};
use crate::read::carry::{CarriedSpan, Carry};
use crate::read::spans::UNKNOWN_PARENT;
use crate::wire::Generation;

impl Check<'_> {
    /// Every span lives on as it was left, and none comes from nowhere.
    pub(super) fn spans(&mut self, left: &Carry, said: &Carry, number: Generation) {
        for pair in join(&left.spans, &said.spans, |span| span.id) {
            match pair {
                Pair::Left(was) => {
                    let (id, name) = (was.id, &left.site(was.site).name);
                    self.say(format!("span {id} ({name}) is still open, and has no status"));
                }
                Pair::Right(is) => {
                    let (id, name) = (is.id, &said.site(is.site).name);
                    self.say(format!(
                        "span {id} ({name}) has a status; generation {number} left none of it"
                    ));
                }
                Pair::Both(was, is) => {
                    let id = is.id;
                    let (was_at, is_at) = (left.site(was.site), said.site(is.site));
                    if was_at != is_at {
                        let (is, was) = (&is_at.name, &was_at.name);
                        self.say(format!(
                            "span {id} is stated with the name {is}; generation {number} left it \
                             with {was}"
                        ));
                    } else if was.parent != is.parent && was.parent != UNKNOWN_PARENT {
                        let (is, was) = (is.parent, was.parent);
                        self.say(format!(
                            "span {id} is stated as a child of {is}; generation {number} left it \
                             as one of {was}"
                        ));
                    } else if !(was.part || is.part || self.of.begin.recorded_spans.contains(&id))
                        && let Some(field) = other_value(was, is)
                    {
                        self.say(format!(
                            "span {id} is stated with another value of {field} than generation \
                             {number} left it with"
                        ));
                    }
                }
            }
        }
    }
}

/// A field that is stated as it was not. Not asked where values were recorded in the generation: one
/// thread may state the span when another has recorded them already. That one is not stated is no contradiction: how much of a
/// span's fields is restated has a bound.
fn other_value<'a>(was: &CarriedSpan, is: &'a CarriedSpan) -> Option<&'a str> {
    let known = |name: &str| was.fields.iter().find(|(known, _)| **known == *name);
    let wrong = |(name, stated): &&(Box<str>, crate::read::owned::Owned)| {
        known(name).is_none_or(|(_, value)| !value.may_be(stated))
    };
    is.fields.iter().find(wrong).map(|(name, _)| &**name)
}
