//! Arithmetic of times that holds whatever a file says that the time is.

use crate::wire::Nanos;

/// See the module.
pub(super) trait Length {
    /// From then to now; nothing if then is later.
    fn since(self, then: Nanos) -> Nanos;
    /// So much more.
    fn plus(self, more: Nanos) -> Nanos;
    /// Adds so much.
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
