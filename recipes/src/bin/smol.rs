//! smol, or any executor: futures are `recorded`, and its threads say that they are workers.

use lookback::RecordExt;
use lookback_recipes::{Seen, start};
use std::time::Duration;

fn main() {
    let recorder = start();
    let executor = smol::Executor::new();
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (executor, stopped) = (&executor, stopped.clone());
            scope.spawn(move || {
                let _worker = lookback::worker(&format!("smol-{number}"));
                let _ = smol::block_on(executor.run(stopped.recv()));
            });
        }
        smol::block_on(async {
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let work = async {
                        let timer = smol::Timer::after(Duration::from_millis(2));
                        timer.waiting_for("the timer").await;
                    };
                    executor.spawn(work.recorded("tick"))
                })
                .collect();
            for task in tasks {
                task.await;
            }
        });
        drop(stop);
    });
    let seen = Seen::of(&recorder.stop().expect("it stops"));
    assert_eq!(seen.count("task_create", "tick"), 10);
    assert_eq!(seen.kinds["task_ready"], 10);
    seen.tell("smol");
}
