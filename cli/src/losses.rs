//! Adds up losses, without overflow: a damaged file may claim any number.

use lookback::read::GenerationInfo;
use std::collections::BTreeMap;

/// The lost events of these generations, by cause.
pub fn by_cause(generations: &[GenerationInfo]) -> BTreeMap<String, u64> {
    let mut lost = BTreeMap::new();
    for cause in generations.iter().flat_map(|generation| &generation.lost) {
        let many: &mut u64 = lost.entry(cause.name().into_owned()).or_default();
        *many = many.saturating_add(cause.count);
    }
    lost
}

/// The sum, or `u64::MAX` if it is larger.
pub fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
