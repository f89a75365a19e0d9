//! What cannot be compared, and why.

use super::side::DiffSide;
use super::{Kind, LEAST_COVERED, NotComparable};
use crate::format::counted;
use std::collections::BTreeSet;

/// With more of its generations lossy, a side says nothing about how often something happens.
const MOST_LOSSY: f64 = 0.5;

/// What can be compared.
pub(super) struct Comparable {
    pub(super) told: Vec<NotComparable>,
    /// Whether anything can.
    pub(super) any: bool,
    /// Whether the sides are of the same build: then places are the same to the line.
    pub(super) same_build: bool,
    /// Whether it says something if a message or a span is on one side only.
    pub(super) same_filters: bool,
    without: BTreeSet<Kind>,
}

impl Comparable {
    pub(super) fn of(good: &DiffSide, bad: &DiffSide, any_program: bool) -> Self {
        let same_build = good.about.builds == bad.about.builds && good.about.builds.len() == 1;
        let same_filters = good.about.filters == bad.about.filters;
        let mut this = Self {
            told: Vec::new(),
            any: true,
            same_build,
            same_filters,
            without: BTreeSet::new(),
        };
        this.whole(good, bad, any_program);
        if this.any {
            this.parts(good, bad);
        }
        this
    }

    /// Whether things of this kind can be compared.
    pub(super) fn has(&self, kind: Kind) -> bool {
        !self.without.contains(&kind)
    }

    fn whole(&mut self, good: &DiffSide, bad: &DiffSide, any_program: bool) {
        for (name, side) in [("GOOD", good), ("BAD", bad)] {
            let (all, lossy) = (side.about.generations - side.about.again, side.about.lossy);
            let covered = side.exposures.iter().sum::<f64>();
            if lossy > 0 && lossy as f64 > MOST_LOSSY * all as f64 {
                let all = counted(all, "generation");
                self.nothing(format!(
                    "{name} lost events in {lossy} of {all}: `lookback info` says why"
                ));
            } else if covered < LEAST_COVERED {
                let at_least = format!("at least {LEAST_COVERED:.0} s are needed");
                let covered = (covered * 100.0).floor() / 100.0;
                self.nothing(format!("{name} covers {covered:.2} s, and {at_least}"));
            } else if lossy > 0 {
                let without = counted(lossy, "generation");
                self.told.push(NotComparable {
                    what: "part",
                    because: format!(
                        "{name} lost events in {without} of {all}, which do not count"
                    ),
                });
            }
        }
        if good.about.programs != bad.about.programs && !any_program {
            let list = |side: &DiffSide| side.programs().collect::<Vec<_>>().join(", ");
            self.nothing(format!(
                "GOOD is of the program `{}`, and BAD of `{}`",
                list(good),
                list(bad)
            ));
        }
    }

    fn nothing(&mut self, because: String) {
        self.any = false;
        self.told.push(NotComparable { what: "all", because });
    }

    fn parts(&mut self, good: &DiffSide, bad: &DiffSide) {
        let sides = [good, bad];
        let hertz = sides.map(|side| &side.about.cpu_samples);
        if hertz[0] != hertz[1] || hertz[0].len() > 1 {
            let because = match sides.iter().position(|side| side.about.cpu_samples.is_empty()) {
                Some(at) => format!("{} has no samples of CPU time", ["GOOD", "BAD"][at]),
                None => "samples of CPU time were not taken equally often".to_owned(),
            };
            self.without(Kind::Cpu, because);
        }
        self.needs(
            Kind::Allocation,
            sides.map(|side| side.about.has_heap),
            "samples of allocations",
        );
        self.needs(Kind::Wait, sides.map(|side| side.about.has_waits), "places where tasks wait");
        self.needs(Kind::Lock, sides.map(|side| side.about.has_locks), "waits for locks");
        for kind in [Kind::System, Kind::Runtime, Kind::Machine] {
            let has = |side: &DiffSide| side.things.keys().any(|key| key.kind == kind);
            self.needs(kind, sides.map(has), "readings");
        }
        let is_nameless = sides.iter().any(|side| side.stacks.nameless);
        if !self.same_build && is_nameless {
            let because = "the builds differ, and not all functions have names: `--symbols DIR` says where to find them, \
                and `lookback symbolize` puts them into a file";
            for kind in [Kind::Cpu, Kind::Allocation, Kind::Wait] {
                self.without(kind, because.to_owned());
            }
        }
        if !self.same_filters {
            let list = |side: &DiffSide| {
                side.about.filters.iter().cloned().collect::<Vec<_>>().join(" or ")
            };
            self.told.push(NotComparable {
                what: "filter",
                because: format!(
                    "the filters of spans and logs differ (`{}`, `{}`): of those, what is on one side only is left out",
                    list(good),
                    list(bad)
                ),
            });
        }
        for (name, side) in [("GOOD", good), ("BAD", bad)] {
            for (kind, many) in &side.left_out {
                let because = format!(
                    "{name} has too many different names: {} left out, and what is on one side only, too",
                    counted(*many, "event")
                );
                self.told.push(NotComparable { what: kind.key(), because });
            }
        }
    }

    fn needs(&mut self, kind: Kind, [good, bad]: [bool; 2], what: &str) {
        if good != bad {
            self.without(kind, format!("{} has no {what}", if good { "BAD" } else { "GOOD" }));
        }
        if !good || !bad {
            self.without.insert(kind);
        }
    }

    fn without(&mut self, kind: Kind, because: String) {
        if self.without.insert(kind) {
            self.told.push(NotComparable { what: kind.key(), because });
        }
    }
}
