//! Regions that end in an order that Go does not allow.
//!
//! In Go, the innermost region of a goroutine ends first, and any other order makes the whole trace invalid.
//! Entered spans may overlap each other and regions. So when an outer region ends, the exporter ends the
//! regions inside it, too, and begins them again.
//!
//! For each end that takes as many events as there are regions inside. To keep a few events of a snapshot
//! from becoming millions, there is a budget that grows with the number of events. When it is used up, a
//! region ends only when nothing is open inside it any more, later than it did.

use super::goroutine::{GoId, OpenRegion, Token};
use super::report::{Origin, Report};
use super::state_machine::{StateMachine, ThreadAt};
use std::io::Write;

/// The most regions that a goroutine is in. Deeper ones are left out.
const MAX_DEPTH: usize = 1024;
/// How many regions may begin again for each event of the snapshot, and how many in addition.
const AGAIN_AN_EVENT: u64 = 4;
const AGAIN_AT_FIRST: u64 = 1 << 14;

impl<W: Write> StateMachine<W> {
    /// The running goroutine enters a region, unless it is in too many.
    pub(super) fn enter(&mut self, at: ThreadAt, region: OpenRegion, origin: Origin) -> bool {
        let running = self.running(at).and_then(|id| self.goroutine(id));
        if running.is_some_and(|goroutine| goroutine.regions.len() >= MAX_DEPTH) {
            self.report.left_out.deep += 1;
            return false;
        }
        self.region_begin(at, region, origin)
    }

    /// A goroutine leaves a region: now, if it is running on this thread; otherwise when it runs again.
    pub(super) fn exit(&mut self, at: ThreadAt, id: GoId, token: Token, origin: Origin) -> bool {
        let is_running = self.running(at) == Some(id);
        let Some(goroutine) = self.goroutine_mut(id) else { return false };
        let Some(place) = goroutine.regions.iter().rposition(|region| region.token == token) else {
            return false;
        };
        goroutine.regions[place].is_over = true;
        if is_running {
            self.unwind(at, place, origin);
        }
        true
    }

    /// Ends the regions that ended while the now running goroutine was not.
    pub(super) fn catch_up(&mut self, at: ThreadAt) {
        let running = self.running(at).and_then(|id| self.goroutine(id));
        let over = |goroutine: &super::goroutine::Goroutine| {
            goroutine.regions.iter().position(|region| region.is_over)
        };
        if let Some(place) = running.and_then(over) {
            self.unwind(at, place, Origin::Added);
        }
    }

    /// Ends all regions of the running goroutine.
    pub(super) fn exit_all(&mut self, at: ThreadAt) {
        let depth = self.running(at).and_then(|id| self.goroutine(id)).map(|g| g.regions.len());
        for _ in 0..depth.unwrap_or_default() {
            self.region_end(at, Origin::Added);
        }
    }

    /// Ends the regions from this index on, and begins those again that have not ended. The end of the region
    /// at the index has this origin.
    fn unwind(&mut self, at: ThreadAt, place: usize, origin: Origin) {
        let Some(goroutine) = self.running(at).and_then(|id| self.goroutine(id)) else { return };
        let inner = goroutine.regions.get(place + 1..).unwrap_or_default().to_vec();
        let again = inner.iter().filter(|region| !region.is_over).count() as u64;
        if again > self.again_left() {
            return self.end_innermost(at);
        }
        self.report.begun_again += again;
        for _ in &inner {
            self.region_end(at, Origin::Added);
        }
        self.region_end(at, origin);
        for region in inner.into_iter().filter(|region| !region.is_over) {
            self.region_begin(at, region, Origin::Added);
        }
        self.end_innermost(at);
    }

    /// How many more regions may begin again.
    fn again_left(&self) -> u64 {
        let Report { events, begun_again, .. } = self.report;
        AGAIN_AT_FIRST
            .saturating_add(events.saturating_mul(AGAIN_AN_EVENT))
            .saturating_sub(begun_again)
    }

    /// Ends the innermost regions as long as they are over.
    fn end_innermost(&mut self, at: ThreadAt) {
        let is_over = |machine: &Self| {
            let running = machine.running(at).and_then(|id| machine.goroutine(id));
            running.and_then(|goroutine| goroutine.regions.last()).is_some_and(|last| last.is_over)
        };
        while is_over(self) && self.region_end(at, Origin::Added) {
            self.report.late_ends += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::go::goroutine::Status;
    use crate::export::go::report::Origin::{Added, Recorded};
    use crate::export::go::state_machine::ProcId;
    use crate::export::go::tables::{StackId, StringId};
    use crate::read::Site;
    use crate::wire::{ClockRecord, Nanos};

    const ID: GoId = GoId(1);

    /// A running goroutine inside three regions.
    fn inside() -> (StateMachine<Vec<u8>>, ThreadAt) {
        let mut machine = StateMachine::new(Vec::new(), Nanos(5000), &ClockRecord::default());
        let root = machine.tables.root(Site { name: "task", file: "", line: 0, blocking: false });
        let at = machine.thread(7);
        assert!(machine.proc_status(at, ProcId(0), Added));
        assert!(machine.proc_start(at, ProcId(0), Added));
        assert!(machine.go_status(at, ID, Status::Running, root, Added));
        for token in 1..=3 {
            assert!(machine.enter(at, region(token), Recorded));
        }
        (machine, at)
    }

    fn region(token: u64) -> OpenRegion {
        let (name, stack) = (StringId(0), StackId(0));
        OpenRegion { token: Token(token), task: 0, name, stack, is_over: false }
    }

    fn tokens(machine: &StateMachine<Vec<u8>>) -> Vec<u64> {
        machine.goroutine(ID).unwrap().regions.iter().map(|region| region.token.0).collect()
    }

    #[test]
    fn what_is_inside_of_a_region_that_ends_begins_again() {
        let (mut machine, at) = inside();
        assert!(machine.exit(at, ID, Token(1), Recorded));
        assert_eq!(tokens(&machine), [2, 3]);
        assert!(machine.exit(at, ID, Token(3), Recorded));
        assert!(!machine.exit(at, ID, Token(3), Recorded), "once");
        let report = machine.report;
        assert_eq!((report.regions_begun.recorded(), report.regions_begun.synthetic), (3, 2));
        assert_eq!((report.regions_ended.recorded(), report.regions_ended.synthetic), (2, 2));
    }

    #[test]
    fn what_ends_while_its_goroutine_waits_ends_when_that_runs() {
        let (mut machine, at) = inside();
        machine.go_block(at, StringId(0), StackId(0), Added);
        for token in [2, 1] {
            assert!(machine.exit(at, ID, Token(token), Recorded));
        }
        assert_eq!(tokens(&machine), [1, 2, 3]);
        machine.go_unblock(at, ID, Added);
        machine.go_start(at, ID, Added);
        machine.catch_up(at);
        assert_eq!(tokens(&machine), [3]);
        machine.exit_all(at);
        assert_eq!((tokens(&machine), machine.report.refused), (vec![], 0));
    }

    #[test]
    fn where_the_budget_is_used_up_an_end_comes_late_and_nothing_is_begun_again() {
        let (mut machine, at) = inside();
        machine.report.begun_again = AGAIN_AT_FIRST - 1;
        assert!(
            machine.exit(at, ID, Token(1), Recorded),
            "two are inside, and one may begin again"
        );
        assert_eq!((tokens(&machine), machine.report.late_ends), (vec![1, 2, 3], 0));
        assert!(machine.exit(at, ID, Token(2), Recorded));
        assert_eq!(tokens(&machine), [1, 3], "one is inside");
        assert!(machine.exit(at, ID, Token(3), Recorded));
        assert_eq!((tokens(&machine), machine.report.refused), (vec![], 0));
        assert_eq!(machine.report.late_ends, 1);
        let Report { regions_begun: begun, regions_ended: ended, .. } = machine.report;
        assert_eq!((begun.all, ended.all), (4, 4));
    }
}
