//! A part of a snapshot: some of its generations, each of which can be read without the others.

use crate::format::{escape, parse_duration};
use crate::moment::AskedMoment;
use crate::wall_clock::rfc3339;
use anyhow::bail;
use clap::Args;
use lookback::read::Trace;
use lookback::read::wire::Nanos;
use std::time::Duration;

/// Which part is asked for.
#[derive(Args, Debug)]
pub struct Part {
    /// Only the last part of the snapshot: 500ms, 2s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "since")]
    last: Option<Duration>,
    /// Only from this moment on: +1.204 (seconds since the first event), 500ms, -2s (before the end), or
    /// 2026-11-24T15:41:17.5Z
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    since: Option<AskedMoment>,
    /// Only up to this moment
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    until: Option<AskedMoment>,
}

impl Part {
    /// That part of the snapshot.
    pub fn of(&self, trace: Trace) -> anyhow::Result<Trace> {
        if self.last.is_none() && self.since.is_none() && self.until.is_none() {
            return Ok(trace);
        }
        let ends = trace.generations().iter().map(|of| of.start.0.saturating_add(of.duration.0));
        let end = ends.max().unwrap_or_default();
        let first = trace.events().flatten().next().map_or(0, |event| event.time().0);
        let resolve = |moment: AskedMoment| moment.resolve(&trace, first, end);
        let last = |length: Duration| {
            end.saturating_sub(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX))
        };
        let since = self.since.map(resolve).or(self.last.map(last)).unwrap_or(0);
        let until = self.until.map_or(u64::MAX, resolve);
        let wall = |info: Option<&lookback::read::GenerationInfo>| info.map_or(0, |of| of.wall.0);
        let infos = trace.generations();
        let (from, to) = (wall(infos.first()), wall(infos.last()));
        let file = escape(trace.file()).into_owned();
        let part = trace.within(Nanos(since), Nanos(until));
        if part.generations().is_empty() {
            let (from, to) = (rfc3339(from), rfc3339(to));
            bail!(
                "{file}: nothing was recorded at that time: the snapshot begins at {from}, and its last generation at {to}"
            );
        }
        Ok(part)
    }
}
