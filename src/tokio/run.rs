//! Runs a program, or a test, on a recorded runtime.

use ::tokio::runtime::Builder;
use std::future::Future;

/// Builds a runtime that is [instrumented](super::instrument) and has all drivers, and runs the future on it
/// as [`block_on`](super::block_on) does: what [`#[lookback::main]`](crate::main) and
/// [`#[lookback::test]`](crate::test) expand to.
///
/// # Panics
/// If the system refuses what the runtime needs, and inside another runtime.
///
/// ```
/// let mut builder = tokio::runtime::Builder::new_current_thread();
/// let answer = lookback::tokio::run(&mut builder, async { lookback::spawn(async { 42 }).await });
/// assert_eq!(answer.unwrap(), 42);
/// ```
#[track_caller]
pub fn run<F: Future>(builder: &mut Builder, future: F) -> F::Output {
    // A hook that is already set stays, at the cost of a part of the recording, as `instrument` returns.
    let _ = super::instrument(builder.enable_all());
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("Tokio's runtime cannot be built: {error}"),
    };
    super::block_on(&runtime, future)
}
