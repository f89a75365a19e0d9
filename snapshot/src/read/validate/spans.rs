//! Compares a generation's statements about spans with what the previous one left.

use super::Check;
use super::join::{Pair, join};
use crate::read::decode::carried::{CarriedSpan, Carry};
use crate::read::decode::initial_state::UNKNOWN_PARENT;
use crate::wire::Generation;

impl Check<'_> {
    /// Checks that every span continues as it was left, and that none comes from nowhere.
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

/// A field whose stated value differs. Not checked if the generation records values: one thread may state the
/// span after another has recorded them. A missing field is no contradiction: only a bounded part of a span's
/// fields is restated.
fn other_value<'a>(was: &CarriedSpan, is: &'a CarriedSpan) -> Option<&'a str> {
    let known = |name: &str| was.fields.iter().find(|(known, _)| **known == *name);
    let wrong = |(name, stated): &&(Box<str>, crate::read::decode::owned_value::Owned)| {
        known(name).is_none_or(|(_, value)| !value.may_be(stated))
    };
    is.fields.iter().find(wrong).map(|(name, _)| &**name)
}
