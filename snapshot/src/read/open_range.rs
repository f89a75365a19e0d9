//! Ranges of the process that were open when a generation ended.

use super::Site;
use super::decode::contents::Contents;
use super::decode::definitions::ListedRange;
use crate::wire::Nanos;

/// A range of the process that was open when a generation ended, or shortly before: see
/// [`DecodedGeneration::ranges`](super::DecodedGeneration::ranges).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct OpenRange<'a> {
    /// Its number, which no other range of the process has.
    pub range: u64,
    /// Where it began, with its name.
    pub site: Site<'a>,
    /// When it began, in nanoseconds of the monotonic clock.
    pub began: Nanos,
}

impl<'a> OpenRange<'a> {
    pub(super) fn all(of: &'a Contents) -> impl Iterator<Item = Self> {
        of.tables.ranges.iter().map(|listed| {
            let ListedRange { range, site, began } = *listed;
            let site = of.site(of.tables.site_index(site)).unwrap_or(Site::UNKNOWN);
            Self { range, site, began: of.timeline.at(began) }
        })
    }
}
