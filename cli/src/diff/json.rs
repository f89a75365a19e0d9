//! The comparison as JSON. Its keys are stable.

use super::print::headline;
use lookback::read::analysis::{Diff, DiffChange, DiffNumbers, DiffSide, Difference};
use serde_json::{Value, json};
use std::path::Path;

pub fn diff(diff: &Diff, sides: [(&Path, &DiffSide); 2], damage: &[String]) -> Value {
    let [good, bad] = sides.map(|(path, side)| {
        json!({
            "path": path.to_string_lossy(),
            "files": side.files(),
            "program": side.programs().collect::<Vec<_>>(),
            "covered_ns": side.covered().0,
            "events": side.events(),
        })
    });
    let list = |of: &[Difference]| of.iter().map(difference).collect::<Vec<_>>();
    let not_comparable = diff.not_comparable.iter();
    let not_comparable =
        not_comparable.map(|part| json!({ "what": part.what, "because": part.because }));
    json!({
        "good": good,
        "bad": bad,
        "headline": headline(diff),
        "asked": diff.asked,
        "differences": list(&diff.differences),
        "uncertain": list(&diff.uncertain),
        "rare": list(&diff.rare),
        "around": list(&diff.around),
        "not_comparable": not_comparable.collect::<Vec<_>>(),
        "damage": damage,
    })
}

fn difference(of: &Difference) -> Value {
    let change = |change: &DiffChange| {
        let ratio = change.ratio();
        json!({
            "what": change.what.key(),
            "good": change.good,
            "bad": change.bad,
            "ratio": ratio.is_finite().then_some(ratio),
            "p": change.p,
            "score": change.score,
        })
    };
    json!({
        "kind": of.kind.key(),
        "name": of.name,
        "within": of.within,
        "words": of.in_words(),
        "score": of.score,
        "changes": of.changes.iter().map(change).collect::<Vec<_>>(),
        "good": numbers(&of.good),
        "bad": numbers(&of.bad),
    })
}

fn numbers(of: &DiffNumbers) -> Value {
    json!({
        "count": of.count,
        "per_second": of.per_second,
        "failures": of.failures,
        "p50_ns": of.p50,
        "p90_ns": of.p90,
        "p99_ns": of.p99,
        "max_ns": of.most,
        "time": of.time,
        "polled": of.polled,
        "level": of.level,
    })
}
