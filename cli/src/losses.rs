//! Adding up losses. A damaged file may say any number of them.

use lookback::read::GenerationInfo;
use std::collections::BTreeMap;

/// The events that were lost in all of these, by cause.
pub fn by_cause(generations: &[GenerationInfo]) -> BTreeMap<String, u64> {
    let mut lost = BTreeMap::new();
    for cause in generations.iter().flat_map(|generation| &generation.lost) {
        let many: &mut u64 = lost.entry(cause.name().into_owned()).or_default();
        *many = many.saturating_add(cause.count);
    }
    lost
}

/// All of these; the highest number if they are more.
pub fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
