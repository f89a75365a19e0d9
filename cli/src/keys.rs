//! The names that an event's values are printed under: each of them once.
//!
//! An event has values of our own (`level` and `message` of a log, which task or span it is of), and
//! those of the program, which may be called the same, and may have one name twice. Ours keep their
//! names. One of the program's that is called as one of ours is `field.` and its name; of those with one
//! name, the first one keeps it, and the others are `name#2`, `name#3`, as they come.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// See the module.
#[derive(Default)]
pub struct Keys<'a> {
    ours: Vec<&'a str>,
    taken: HashSet<Cow<'a, str>>,
    /// Up to which number those of a name are taken, that came again: an event of a file that was made to take
    /// long has thousands.
    numbers: HashMap<Cow<'a, str>, u32>,
}

impl<'a> Keys<'a> {
    /// A name of ours.
    pub fn own(&mut self, name: &'a str) -> &'a str {
        self.ours.push(name);
        name
    }

    /// The name to print a field of the program's under, behind all of ours.
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
