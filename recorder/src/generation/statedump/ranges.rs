//! The ranges of the process that are open when a generation ends.

use crate::generation::statedump::threads::Statuses;
use crate::record::ranges::Noted;
use lookback_snapshot::wire::{Kind, MAX_VARINT};

/// The most that one takes.
const SIZE: usize = 1 + 3 * MAX_VARINT;
/// How [`Kind::Omitted`] refers to ranges.
const RANGES_OMITTED: u64 = 7;

impl Statuses<'_> {
    /// Lists them; those without room are counted.
    pub(crate) fn ranges(&mut self, ranges: &[Noted]) {
        let mut omitted = 0;
        for noted in ranges {
            match self.id(noted.site).filter(|_| self.has_room(SIZE)) {
                Some(id) => {
                    let ago = self.base.saturating_sub(noted.began);
                    self.numbers(Kind::RangeStatus, &[noted.number, u64::from(id), ago]);
                }
                None => omitted += 1,
            }
        }
        if omitted > 0 {
            self.count_omitted(RANGES_OMITTED, omitted);
        }
    }
}
