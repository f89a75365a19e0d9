//! Arithmetic on times that is safe whatever times a file contains.

use crate::wire::Nanos;

/// See the module.
pub(super) trait Length {
    /// From `then` to this time; zero if `then` is later.
    fn since(self, then: Nanos) -> Nanos;
    /// This time plus a duration.
    fn plus(self, more: Nanos) -> Nanos;
    /// Adds a duration.
    fn grow(&mut self, more: Nanos);
}

impl Length for Nanos {
    fn since(self, then: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(then.0))
    }

    fn plus(self, more: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(more.0))
    }

    fn grow(&mut self, more: Nanos) {
        *self = self.plus(more);
    }
}
