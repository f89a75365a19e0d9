//! A condition that lasts fires once.

#![forbid(unsafe_code)]

use crate::recorder::trigger::Armed;

/// Whether a trigger has fired for a condition that still lasts. If limits hold it back when the condition begins, it fires as
/// soon as they allow, if the condition still lasts then: else a hang that begins in the cool-down would leave nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latch {
    has_fired: bool,
    is_counted: bool,
}

impl Latch {
    /// The condition holds. Calls `fire` once while it lasts, when the trigger may fire.
    pub(super) fn holds(&mut self, armed: &Armed, fire: impl FnOnce(&Armed)) {
        if self.has_fired {
            return;
        }
        if armed.is_cooling() {
            // Once, and not with each look.
            if !std::mem::replace(&mut self.is_counted, true) {
                armed.count_suppressed();
            }
        } else if armed.admit() {
            self.has_fired = true;
            fire(armed);
        }
    }

    pub(super) fn has_fired(self) -> bool {
        self.has_fired
    }

    /// The condition is over.
    pub(super) fn is_over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::trigger::Trigger;
    use std::time::Duration;

    fn fires(latch: &mut Latch, armed: &Armed) -> bool {
        let mut fired = false;
        latch.holds(armed, |_| fired = true);
        fired
    }

    #[test]
    fn it_fires_once_until_the_condition_is_over() {
        let armed = Trigger::named("x").cool_down(Duration::ZERO).arm();
        let mut latch = Latch::default();
        assert_eq!([(); 3].map(|()| fires(&mut latch, &armed)), [true, false, false]);
        latch.is_over();
        assert!(fires(&mut latch, &armed));
    }

    #[test]
    fn what_begins_in_the_cool_down_fires_after_it_if_it_lasts() {
        let armed = Trigger::named("x").cool_down(Duration::from_millis(50)).arm();
        assert!(armed.admit());
        let mut latch = Latch::default();
        while !fires(&mut latch, &armed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        latch.is_over();
        let never = Trigger::named("x").per_hour(0).arm();
        assert!(!fires(&mut latch, &never) && !fires(&mut latch, &never) && !latch.has_fired());
    }
}
