//! Whether others have the cores.

use std::time::Instant;

/// Since when, and how long some thread of the machine had then waited for a core, in microseconds.
pub struct Pressure(Instant, Option<u64>);

/// Beyond this share of the time, a program does not do what it does at other times.
const HIGH: f64 = 0.25;

impl Pressure {
    pub fn now() -> Self {
        Self(Instant::now(), total())
    }

    /// Whether threads have waited for cores for much of the time since then.
    pub fn is_high(&self) -> bool {
        let (Some(before), Some(now)) = (self.1, total()) else { return is_loaded() };
        now.saturating_sub(before) as f64 > HIGH * self.0.elapsed().as_micros() as f64
    }
}

fn total() -> Option<u64> {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let some = pressure.lines().find(|line| line.starts_with("some "))?;
    some.rsplit_once("total=")?.1.parse().ok()
}

/// Where the kernel does not say how long threads wait.
fn is_loaded() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or(0.0);
    load > 1.25 * std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}
