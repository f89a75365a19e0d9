//! What lies directly inside something, by name: whether one of these explains its length.

use super::interner::Name;
use super::nanos_ext::Length;
use crate::wire::Nanos;

/// The most names that are distinguished. Further names took less time, or came last.
const NAMES: usize = 4;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Inner(Vec<Part>);

/// The total of one name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) name: Name,
    pub(super) count: u64,
    pub(super) total: Nanos,
    pub(super) longest: Nanos,
}

impl Inner {
    /// Adds one that was inside for this long.
    pub(super) fn add(&mut self, name: Name, length: Nanos) {
        if let Some(part) = self.0.iter_mut().find(|part| part.name == name) {
            part.count += 1;
            part.total.grow(length);
            part.longest = part.longest.max(length);
            return;
        }
        let part = Part { name, count: 1, total: length, longest: length };
        if self.0.len() < NAMES {
            self.0.push(part);
        } else if let Some(least) = self.0.iter_mut().min_by_key(|part| part.total)
            && least.total < length
        {
            *least = part;
        }
    }

    /// The name that took at least half of this length, in sequence.
    pub(super) fn most_of(&self, length: Nanos) -> Option<Part> {
        let most = self.0.iter().max_by_key(|part| part.total)?;
        (length.0 > 0 && most.total.0 >= length.0.div_ceil(2)).then_some(*most)
    }

    /// The name of which a single one took at least half of this length: for things that may run at once.
    pub(super) fn one_most_of(&self, length: Nanos) -> Option<Part> {
        let most = self.0.iter().max_by_key(|part| part.longest)?;
        (length.0 > 0 && most.longest.0 >= length.0.div_ceil(2)).then_some(*most)
    }
}

#[cfg(test)]
mod tests {
    use super::super::interner::Names;
    use super::*;

    #[test]
    fn the_part_that_took_half_is_told() {
        let mut names = Names::default();
        let [lock, read, write] = ["lock", "read", "write"].map(|name| names.name(name));
        let mut inner = Inner::default();
        inner.add(read, Nanos(30));
        inner.add(lock, Nanos(25));
        inner.add(lock, Nanos(30));
        let most = inner.most_of(Nanos(110)).unwrap();
        assert_eq!(
            (most.name, most.count, most.total, most.longest),
            (lock, 2, Nanos(55), Nanos(30))
        );
        assert_eq!((inner.most_of(Nanos(111)), inner.most_of(Nanos(0))), (None, None));
        assert_eq!(inner.one_most_of(Nanos(61)), None);
        inner.add(write, Nanos(40));
        assert_eq!(inner.one_most_of(Nanos(80)).unwrap().name, write);
    }

    #[test]
    fn of_many_names_the_longest_are_kept() {
        let mut names = Names::default();
        let mut inner = Inner::default();
        for number in 0..100 {
            inner.add(names.name(&number.to_string()), Nanos(number));
        }
        assert_eq!(inner.most_of(Nanos(100)).unwrap().total, Nanos(99));
    }
}
