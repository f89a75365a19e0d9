//! The recorder's clock: one instruction where the processor has a reliable counter, the operating
//! system's monotonic clock elsewhere.

use crate::os::mode::Mode;
use lookback_snapshot::wire::{ClockKind, ClockRecord, Nanos, Ticks};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The current time, in the clock's unit.
#[inline(always)]
pub(crate) fn now(mode: Mode) -> u64 {
    if mode.has_counter() { counter() } else { monotonic().0 }
}

/// The bare clock instruction, as the hot path uses it: for benchmarks to compare with.
#[doc(hidden)]
#[inline(always)]
#[must_use]
pub fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
        (unsafe { core::arch::x86_64::_rdtsc() }) >> ClockKind::TSC_SHIFT
    }
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: the virtual counter can be read from user space; it touches no memory.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
        ticks
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        monotonic().0
    }
}

/// The operating system's monotonic clock.
pub(crate) fn monotonic() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; the clock exists everywhere.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// For how long the machine has been suspended since it booted: the monotonic clock leaves that out.
#[cfg(target_os = "linux")]
pub(crate) fn suspended() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; where there is no such clock it stays 0.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    let whole = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Nanos(whole.saturating_sub(monotonic().0))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn suspended() -> Nanos {
    Nanos(0)
}

/// The CPU time of this thread.
pub(crate) fn of_this_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; where there is no such clock it stays 0.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub(crate) fn wall() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Nanos(since.as_nanos() as u64)
}

/// Chooses the clock for this machine.
pub(crate) fn detect() -> ClockKind {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::__cpuid;
        // Advanced power management information: bit 8 of edx says that the counter runs at a
        // constant rate in every processor state.
        let extended = __cpuid(0x8000_0000).eax;
        let is_invariant = extended >= 0x8000_0007 && __cpuid(0x8000_0007).edx & 1 << 8 != 0;
        if is_invariant && may_be_read() && kernel_trusts_it() {
            return ClockKind::Tsc;
        }
        ClockKind::Monotonic
    }
    #[cfg(target_arch = "aarch64")]
    {
        ClockKind::CounterTimer
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        ClockKind::Monotonic
    }
}

/// Whether the counter can be read at all: a process can ask for a signal instead (`PR_SET_TSC`),
/// as record-and-replay debuggers do.
#[cfg(target_arch = "x86_64")]
fn may_be_read() -> bool {
    #[cfg(target_os = "linux")]
    {
        let mut mode: libc::c_int = 0;
        // SAFETY: the kernel writes a number to a valid place.
        let known = unsafe { libc::prctl(libc::PR_GET_TSC, &raw mut mode) } == 0;
        !(known && mode == libc::PR_TSC_SIGSEGV)
    }
    #[cfg(not(target_os = "linux"))]
    true
}

/// Whether the kernel uses the counter, or could. The kernel marks a counter as unstable, and no
/// longer offers it, if it differed between processors or drifted from another clock.
#[cfg(target_arch = "x86_64")]
fn kernel_trusts_it() -> bool {
    let of_kernel = |name| {
        let path = format!("/sys/devices/system/clocksource/clocksource0/{name}_clocksource");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    is_trusted(&of_kernel("available"), &of_kernel("current"))
}

/// [`kernel_trusts_it`], given what the kernel reports, which may be nothing.
#[cfg(target_arch = "x86_64")]
fn is_trusted(available: &str, current: &str) -> bool {
    // The clocks that an administrator chooses who distrusts the counter. Paravirtual clocks are
    // derived from the counter.
    let slow = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];
    let is_there = available.split_whitespace().any(|clock| clock == "tsc");
    (is_there || available.trim().is_empty()) && !slow.contains(&current.trim())
}

/// Relates the recorder's clock to those of the operating system.
#[derive(Debug)]
pub(crate) struct Calibration {
    mode: Mode,
    first: (u64, Nanos),
    frequency: u64,
}

impl Calibration {
    /// Measures the clock's frequency against the monotonic clock, for a few milliseconds. Each
    /// generation's clock records refine it.
    pub(crate) fn measure(mode: Mode) -> Self {
        let first = pair(mode);
        let mut calibration = Self { mode, first, frequency: 1_000_000_000 };
        if mode.has_counter() {
            std::thread::sleep(Duration::from_millis(4));
            calibration.refine(pair(mode));
        }
        calibration
    }

    fn refine(&mut self, (ticks, monotonic): (u64, Nanos)) {
        let elapsed = u128::from(monotonic.0.saturating_sub(self.first.1.0));
        let passed = u128::from(ticks.saturating_sub(self.first.0));
        if self.mode.has_counter() && elapsed > 1_000_000 && passed > 0 {
            self.frequency = (passed * 1_000_000_000 / elapsed) as u64;
        }
    }

    /// The current instant by all clocks.
    pub(crate) fn record(&mut self) -> ClockRecord {
        let (ticks, monotonic) = pair(self.mode);
        self.refine((ticks, monotonic));
        ClockRecord { ticks: Ticks(ticks), monotonic, wall: wall(), frequency: self.frequency }
    }

    pub(crate) fn frequency(&self) -> u64 {
        self.frequency
    }
}

/// The current instant by all clocks, at a known frequency.
pub(crate) fn instant(mode: Mode, frequency: u64) -> ClockRecord {
    let (ticks, monotonic) = pair(mode);
    ClockRecord { ticks: Ticks(ticks), monotonic, wall: wall(), frequency }
}

/// Both clocks at one instant: the quickest of three attempts.
fn pair(mode: Mode) -> (u64, Nanos) {
    let attempt = |_| {
        let before = now(mode);
        let monotonic = monotonic();
        let after = now(mode);
        (after.wrapping_sub(before), (before + after.wrapping_sub(before) / 2, monotonic))
    };
    (0..3).map(attempt).min_by_key(|(passed, _)| *passed).map(|(_, pair)| pair).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_counter_that_the_kernel_does_not_trust_is_not_used() {
        assert!(is_trusted("tsc hpet acpi_pm \n", "tsc\n"));
        assert!(is_trusted("kvm-clock tsc acpi_pm \n", "kvm-clock\n"));
        assert!(is_trusted("", ""), "where the kernel does not say, the processor's word counts");
        assert!(!is_trusted("hpet acpi_pm \n", "hpet\n"), "it was marked as unstable");
        assert!(!is_trusted("kvm-clock acpi_pm \n", "kvm-clock\n"));
        assert!(
            !is_trusted("tsc hpet acpi_pm \n", "hpet\n"),
            "the administrator chose another clock"
        );
    }

    #[test]
    fn the_clock_advances_as_the_monotonic_clock_does() {
        let mode = Mode::new(detect(), false);
        let mut calibration = Calibration::measure(mode);
        let first = calibration.record();
        std::thread::sleep(Duration::from_millis(20));
        let second = calibration.record();
        let ticks = (second.ticks.0 - first.ticks.0) as f64 * 1e9 / second.frequency as f64;
        let nanos = (second.monotonic.0 - first.monotonic.0) as f64;
        assert!((ticks / nanos - 1.0).abs() < 0.01, "{ticks} by ticks, {nanos} by the clock");
    }
}
