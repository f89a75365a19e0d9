//! Tasks that wait for somebody at the other end: to take what they write, to accept them, to make room in a channel.
//!
//! It is usual to wait for any time for a message or for data, because nothing may have been sent. But whoever writes, connects
//! or sends waits only if the other end does not keep up, so a long wait is one that somebody else is the cause of.

use super::tasks::{MOST_SAID, WaitingGroup};
use super::{Found, finding, said};
use crate::analysis::{Evidence, Report, STANDS, Score, Unit};
use crate::format::duration;
use crate::symbols::{Awaited, Location};
use crate::wire::Nanos;

/// How many findings there are.
const MOST_FINDINGS: usize = 3;
/// How many of the functions farther out are told.
const MOST_CALLERS: usize = 4;

/// From which length on a wait to write says something. A client over a slow network takes seconds to make room in a full
/// socket, and is no incident.
const WRITES: Nanos = Nanos(5_000_000_000);

/// From which length on such a wait says something, and of whom; none if a wait for it never does.
const fn limit(awaited: Awaited) -> Option<(Nanos, &'static str)> {
    match awaited {
        Awaited::Writable => Some((WRITES, "whoever is at the other end does not read")),
        Awaited::Connect => Some((STANDS, "whoever is at the other end does not accept")),
        Awaited::Room => Some((STANDS, "whoever receives from the channel does not keep up")),
        _ => None,
    }
}

/// Adds what is found about them.
pub(super) fn find(report: &Report, groups: &[WaitingGroup], found: &mut Found) {
    let before = found.findings.len();
    for group in groups {
        let Some((limit, cause)) = group.awaited.and_then(limit) else { continue };
        // Those who may hold what others want are told already.
        if group.longest < limit || group.is_told(found) {
            continue;
        }
        if found.findings.len() - before >= MOST_FINDINGS {
            return;
        }
        let waits = group.waits();
        let title = format!("{waits}, the longest for {}: {cause}", duration(group.longest));
        let (value, limit) = (group.longest.0 as f64, limit.0 as f64);
        let score = Score { value, limit, unit: Unit::Nanos };
        let mut told = vec![group.evidence("", report, 0)];
        // What writes is mostly of use to all; who asked it to is farther out.
        let callers = group.functions.iter().skip(MOST_SAID).take(MOST_CALLERS);
        let called = |by: &Location| {
            let what = format!("called at {}", said(by));
            Evidence { what, depth: 1, task: None, ..told[0].clone() }
        };
        let callers: Vec<_> = callers.map(called).collect();
        told.extend(callers);
        found.findings.push(finding(title, score, told));
        group.add_to(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tasks::tests::{group, in_command};
    use super::*;

    fn titles(groups: &[WaitingGroup]) -> Vec<String> {
        let mut found = Found::default();
        find(&Report::default(), groups, &mut found);
        found.findings.into_iter().map(|finding| finding.title).collect()
    }

    #[test]
    fn who_waits_long_to_connect_to_write_or_for_room_has_a_finding() {
        let titles = titles(&[
            group(Awaited::Writable, 8, &[("db::write_frame", 208)]),
            group(Awaited::Connect, 3, &[("covers::ask", 35)]),
            in_command(Awaited::Room, "journal::note", 42),
        ]);
        assert_eq!(titles.len(), 3, "{titles:?}");
        let told = "1 task wait for leave to write at src/db.rs:208 (db::write_frame), the longest for 8 s: \
                    whoever is at the other end does not read";
        assert_eq!(titles[0], told);
        assert!(
            titles[1].contains("db.rs:35") && titles[1].ends_with("does not accept"),
            "{titles:?}"
        );
        assert!(titles[2].contains("db.rs:42") && titles[2].ends_with("keep up"), "{titles:?}");
    }

    #[test]
    fn who_waits_for_data_or_for_a_slow_client_has_none() {
        let titles = titles(&[
            group(Awaited::Data, 60, &[("db::read", 69)]),
            group(Awaited::Message, 60, &[("journal::run", 20)]),
            group(Awaited::Closed, 60, &[("journal::end", 21)]),
            group(Awaited::Writable, 4, &[("db::write_frame", 208)]),
        ]);
        assert!(titles.is_empty(), "{titles:?}");
    }
}
