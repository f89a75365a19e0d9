//! Unique names for the values of an event.
//!
//! An event has values that the recorder defines (`level` and `message` of a log, its task or span) and the
//! program's fields, which may have the same names, or one name twice. The recorder's values keep their
//! names. A field with such a name gets the prefix `field.`; of several fields with one name, the first keeps
//! it, and the others become `name#2`, `name#3`, in order.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The names that are taken.
#[derive(Default)]
pub struct Keys<'a> {
    ours: Vec<&'a str>,
    taken: HashSet<Cow<'a, str>>,
    /// The last number used for each repeated name: a hostile file may repeat a name thousands of times in
    /// one event.
    numbers: HashMap<Cow<'a, str>, u32>,
}

impl<'a> Keys<'a> {
    /// Takes a name that the recorder defines.
    pub fn own(&mut self, name: &'a str) -> &'a str {
        self.ours.push(name);
        name
    }

    /// The unique name of a program's field. Call it after all calls of `own`.
    pub fn of(&mut self, name: &'a str) -> Cow<'a, str> {
        let is_ours = self.ours.contains(&name);
        let plain = if is_ours { Cow::Owned(format!("field.{name}")) } else { Cow::Borrowed(name) };
        let is_taken = |key: &Cow<'_, str>| self.taken.contains(key) || self.ours.contains(&&**key);
        let mut key = plain.clone();
        if is_taken(&key) {
            let number = self.numbers.entry(plain.clone()).or_insert(1);
            while is_taken(&key) {
                *number += 1;
                key = Cow::Owned(format!("{plain}#{number}"));
            }
        }
        self.taken.insert(key.clone());
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_ten_thousand_times_is_looked_for_once_each_time() {
        let mut keys = Keys::default();
        // With a search from the first one on, this took minutes.
        let last = (0..10_000).map(|_| keys.of("a").into_owned()).last();
        assert_eq!(last.as_deref(), Some("a#10000"));
    }

    #[test]
    fn every_name_is_there_once_and_ours_keep_theirs() {
        let mut keys = Keys::default();
        keys.own("level");
        keys.own("message");
        let names = ["level", "a", "a", "a#2", "field.level", "message", "a"];
        let found: Vec<_> = names.iter().map(|name| keys.of(name).into_owned()).collect();
        let expected =
            ["field.level", "a", "a#2", "a#2#2", "field.level#2", "field.message", "a#3"];
        assert_eq!(found, expected);
    }
}
