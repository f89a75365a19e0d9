//! A recorder in a shared object, as in a plugin of a program in another language. The program loads it,
//! calls these functions, and may unload it: the code that the system still calls stays mapped.
//!
//! ```text
//! cargo build --example shared_object    # target/debug/examples/libshared_object.so
//! ```

use lookback::Recorder;
use std::path::PathBuf;
use std::sync::Mutex;

static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// Starts recording, into a black box at `LOOKBACK_EXAMPLE_BOX` if that is set. Returns whether it succeeded.
#[unsafe(no_mangle)]
pub extern "C" fn example_start() -> bool {
    let builder = Recorder::builder().max_bytes(1 << 20);
    let builder = match std::env::var_os("LOOKBACK_EXAMPLE_BOX") {
        Some(path) => builder.black_box(PathBuf::from(path)),
        None => builder,
    };
    let Ok(mut recorder) = RECORDER.lock() else { return false };
    *recorder = builder.start().ok();
    recorder.is_some()
}

/// Records that the calling thread was here.
#[unsafe(no_mangle)]
pub extern "C" fn example_record(number: u64) {
    lookback::event!("called", number = number);
}

/// Stops recording. Returns how many events the last snapshot has.
#[unsafe(no_mangle)]
pub extern "C" fn example_stop() -> u64 {
    let recorder = RECORDER.lock().ok().and_then(|mut recorder| recorder.take());
    recorder.and_then(|recorder| recorder.stop().ok()).map_or(0, |snapshot| snapshot.events())
}
