//! The bare clock instruction: no recorder that reads a clock can cost less.

/// Reads the processor's time stamp counter.
#[cfg(target_arch = "x86_64")]
#[inline]
#[must_use]
pub fn clock_instruction() -> u64 {
    // SAFETY: RDTSC has no operands and touches no memory; Linux permits it in user code unless a process
    // asks otherwise.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Reads the processor's virtual counter.
#[cfg(target_arch = "aarch64")]
#[inline]
#[must_use]
pub fn clock_instruction() -> u64 {
    let ticks: u64;
    // SAFETY: CNTVCT_EL0 can be read from user code and touches no memory.
    unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Elsewhere, the clock of the standard library.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[must_use]
pub fn clock_instruction() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
