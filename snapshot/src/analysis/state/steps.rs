//! How many steps may be taken to find what ends in another order than it began, and to close the gap that it
//! leaves. Each takes as many as there are things inside of it, so a file that was made for it would take
//! for ever. Where they are used up, what is open is forgotten.

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
    /// There was another event.
    #[inline]
    pub(super) fn earn(&mut self) {
        self.0 = self.0.saturating_add(AN_EVENT);
    }

    /// Takes so many, if there are.
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
