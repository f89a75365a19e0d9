//! Who looks on while a snapshot is analyzed, and sees what the pass sees.

use super::event_view::EventView;
use super::report_context::ReportContext;
use super::state::{Gap, LiveState, Poll, SpanDone};
use crate::read::DecodedGeneration;
use crate::wire::Nanos;

/// See the module.
pub(super) trait Onlooker {
    /// A generation is read next.
    fn list(&mut self, _decoded: &DecodedGeneration, _live: &mut LiveState) {}

    /// An event, before the state follows it.
    fn before(&mut self, _view: &EventView<'_>, _live: &mut LiveState) {}

    /// A gap between two polls has ended.
    fn gap(&mut self, _gap: &Gap, _at: Nanos) {}

    /// A poll has ended.
    fn poll_over(&mut self, _poll: &Poll, _live: &LiveState) {}

    /// A span has ended, or the snapshot has.
    fn span_done(&mut self, _span: &SpanDone, _live: &LiveState) {}

    /// The snapshot has ended; tasks that live are still known.
    fn end(&mut self, _context: &ReportContext<'_>) {}

    /// All spans have ended.
    fn conclude(&mut self, _context: &ReportContext<'_>) {}
}
