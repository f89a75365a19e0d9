//! The recorder's status as JSON.

use super::reply::{Failure, json, unblocked};
use ::axum::response::Response;
use http::StatusCode;
use lookback_recorder::{DurationSummary, Error, Stats, stats};
use serde_json::{Map, Value, json};

/// The status; `"recording": false` if nothing is recorded.
pub(super) async fn get() -> Result<Response, Failure> {
    let status = match unblocked(stats).await? {
        Ok(stats) => describe(&stats),
        Err(error @ (Error::NotRecording | Error::Forked)) => {
            json!({ "recording": false, "why_not": error.to_string() })
        }
        Err(error) => return Err(error.into()),
    };
    Ok(json(StatusCode::OK, &status))
}

fn describe(stats: &Stats) -> Value {
    let lost = stats.lost.iter().map(|(cause, count)| (cause.to_string(), json!(count)));
    json!({
        "recording": stats.broken.is_none(),
        "why_not": stats.broken,
        "pid": std::process::id(),
        "events": stats.recorded,
        "reclaimed": stats.reclaimed,
        "lost": lost.collect::<Map<_, _>>(),
        "bytes": stats.bytes,
        "max_bytes": stats.max_bytes,
        "window_ns": nanos(stats.window),
        "generation": stats.generation,
        "generations": stats.generations,
        "threads": stats.threads,
        "snapshot_dir": stats.snapshot_dir.to_string_lossy(),
        "black_box": stats.black_box.as_ref().map(|path| path.to_string_lossy()),
        "triggers": {
            "armed": stats.armed,
            "fired": stats.triggers.fired,
            "suppressed": stats.triggers.suppressed,
            "saved": stats.triggers.saved,
            "failed": stats.triggers.failed,
            "last_error": stats.triggers.last_error,
        },
        "advances": times(&stats.advances),
        "snapshots": times(&stats.snapshots),
        "sink": { "lost": stats.sink_lost, "error": stats.sink_error },
        // The counter's own frequency, as in `lookback info`: the recorder drops its lowest bits.
        "clock": {
            "kind": stats.clock.name(),
            "frequency": stats.clock_frequency.saturating_mul(stats.clock.divisor()),
        },
        "barrier": format!("{:?}", stats.barrier).to_lowercase(),
    })
}

fn times(summary: &DurationSummary) -> Value {
    json!({
        "count": summary.count,
        "median_ns": nanos(summary.median),
        "p99_ns": nanos(summary.p99),
        "longest_ns": nanos(summary.longest),
    })
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
