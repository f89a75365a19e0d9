//! Panics on several threads at once. Built with `panic = "abort"`, the first one ends the process; its
//! snapshot is there all the same: `panic_abort DIRECTORY [THREADS]`.

use lookback::Recorder;
use std::sync::{Arc, Barrier};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next().ok_or("where are snapshots to be put?")?;
    let threads = arguments.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(1);
    let recorder = Recorder::builder()
        .max_bytes(4 << 20)
        .snapshot_dir(directory)
        .panic_patience(Duration::from_secs(60))
        .start()?;
    lookback::event!("last words");
    let barrier = Arc::new(Barrier::new(threads));
    let panic = |barrier: Arc<Barrier>| {
        move || {
            barrier.wait();
            panic!("the process aborts with this");
        }
    };
    let all: Vec<_> =
        (0..threads).map(|_| std::thread::spawn(panic(Arc::clone(&barrier)))).collect();
    all.into_iter().for_each(|thread| drop(thread.join()));
    recorder.stop()?;
    Ok(())
}
