//! The types of futures.

use super::Site;
use super::decode::contents::Contents;

/// The type of the tasks that are spawned at one place: see
/// [`DecodedGeneration::task_types`](super::DecodedGeneration::task_types).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskType<'a> {
    /// The place, named by the type of its futures.
    pub site: Site<'a>,
    /// How many bytes each of the futures takes.
    pub size: u64,
}

impl<'a> TaskType<'a> {
    pub(super) fn all(of: &'a Contents) -> impl Iterator<Item = Self> {
        of.tables.task_sizes.iter().filter_map(|(site, size)| {
            let site = of.site(of.tables.site_index(*site))?;
            Some(Self { site, size: *size })
        })
    }
}
