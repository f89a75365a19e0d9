//! What wanted a core while others had them is told with the finding that says so, and not beside it.

use crate::analysis::{Evidence, Finding};

/// How many are told.
const MOST: usize = 6;

/// Makes evidence of the findings that come right after it, if they are explained by it.
pub(super) fn fold(findings: &mut Vec<Finding>) {
    let Some(at) = findings.iter().position(|finding| finding.analysis == "starved") else {
        return;
    };
    let explained = findings[at + 1..].iter().take_while(|victim| findings[at].starved(victim));
    let until = at + 1 + explained.count();
    let victims: Vec<_> = findings.drain(at + 1..until).collect();
    let lines = victims.iter().take(MOST).filter_map(|victim| {
        let first = victim.evidence.first()?;
        // What it did meanwhile follows after a colon; here it is known.
        let what = victim.title.split_once(": ").map_or(&*victim.title, |(what, _)| what);
        Some(Evidence { what: format!("meanwhile: {what}"), depth: 1, ..first.clone() })
    });
    let lines: Vec<_> = lines.collect();
    findings[at].evidence.extend(lines);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Moment, Score, Unit};
    use crate::wire::Nanos;

    fn finding(analysis: &'static str, title: &str, wants_core: bool) -> Finding {
        let score = Score { value: 0.95, limit: 0.25, unit: Unit::Share };
        let evidence = Evidence {
            what: "it".to_owned(),
            at: Moment(5),
            until: None,
            before_end: Nanos(5),
            thread: None,
            task: None,
            span: None,
            depth: 0,
        };
        let mut finding = Finding::new(analysis, title.to_owned(), score, vec![evidence]);
        finding.wants_core = wants_core;
        finding
    }

    #[test]
    fn what_wanted_a_core_is_told_with_who_had_them_and_what_did_not_stays() {
        let mut findings = vec![
            finding("locks", "a lock", false),
            finding("starved", "others had them", false),
            finding("spans", "Span `get` took 764 ms: 454 ms being polled", true),
            finding("polls", "Task `serve` held r0/w0 for 460 ms", true),
            finding("polls", "Task `other` held r0/w1", false),
            finding("delays", "Task `third` waited", true),
        ];
        fold(&mut findings);
        let titles: Vec<_> = findings.iter().map(|finding| finding.title.as_str()).collect();
        let rest = ["a lock", "others had them", "Task `other` held r0/w1", "Task `third` waited"];
        assert_eq!(titles, rest);
        let told: Vec<_> = findings[1].evidence.iter().map(|of| (of.depth, &*of.what)).collect();
        assert_eq!(
            told[1..],
            [
                (1, "meanwhile: Span `get` took 764 ms"),
                (1, "meanwhile: Task `serve` held r0/w0 for 460 ms")
            ]
        );
    }
}
