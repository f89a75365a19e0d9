//! A budget of steps for finding what ends out of order, and for closing the gap that it leaves. Each such
//! end takes as many steps as there are things inside it, so a malicious file could take forever. When the
//! budget is used up, everything open is forgotten.

/// See the module.
pub(super) struct Steps(u64);

/// Enough for ten thousand guards of one thread that are dropped in the order in which they were made.
const AT_FIRST: u64 = 1 << 26;
const AN_EVENT: u64 = 256;

impl Default for Steps {
    fn default() -> Self {
        Self(AT_FIRST)
    }
}

impl Steps {
    /// Adds the steps for another event.
    #[inline]
    pub(super) fn earn(&mut self) {
        self.0 = self.0.saturating_add(AN_EVENT);
    }

    /// Takes this many steps, if there are enough.
    pub(super) fn take(&mut self, many: usize) -> bool {
        let left = self.0.checked_sub(many as u64);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_used_up_and_events_bring_new_ones() {
        let mut steps = Steps::default();
        assert!(steps.take(AT_FIRST as usize) && !steps.take(1));
        steps.earn();
        assert!(steps.take(AN_EVENT as usize) && !steps.take(1));
    }
}
