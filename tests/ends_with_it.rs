//! Changes between the end of a recording and the listing of its last generation do not affect that
//! generation: tracing is off, so they are not recorded, and the generation shows the state at its end.
//!
//! The stopping thread is held up there on purpose (`fault_injection`), in builds with debug assertions or
//! with that feature.
#![cfg(any(debug_assertions, feature = "fault_injection"))]

mod common;

use lookback::fault_injection::{Point, hold};
use lookback::read::{EventKind, Trace};
use lookback::{RecordExt, Recorder};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn start() -> Recorder {
    common::start_with(4 << 20, Duration::from_secs(3600))
}

/// Stops, and calls `meanwhile` when tracing is off and the last generation has not been listed yet.
fn stop_while(recorder: Recorder, meanwhile: impl FnOnce()) -> Trace {
    hold(Point::Published, Duration::MAX, 1);
    let trace = std::thread::scope(|scope| {
        let stopped = scope.spawn(|| common::stop(recorder));
        assert!(common::wait_for(|| !lookback::is_recording()));
        meanwhile();
        hold(Point::Published, Duration::ZERO, 1);
        stopped.join().expect("it stops")
    });
    assert!(trace.generations().iter().all(|generation| generation.complete));
    common::assert_sound(&trace);
    trace
}

/// A future that is never done. Its second poll waits for `go_on`.
fn task(go_on: mpsc::Receiver<()>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let mut polls = 0;
    let future = std::future::poll_fn(move |_| {
        polls += 1;
        if polls == 2 {
            go_on.recv().expect("somebody lets it go on");
        }
        Poll::Pending
    });
    Box::pin(future.recorded("never done"))
}

fn poll(task: &mut Pin<Box<dyn Future<Output = ()> + Send>>) {
    assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Ends generations in which nothing open is mentioned.
fn pass(recorder: &Recorder) {
    for _ in 0..2 {
        lookback::event!("passes");
        common::advance(recorder);
    }
    lookback::event!("the last one");
}

#[test]
fn what_ends_while_the_recorder_does_was_there_until_then() {
    common::alone("what_ends_while_the_recorder_does_was_there_until_then", || {
        tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
        for polled in [false, true] {
            let recorder = start();
            let (let_go, go_on) = mpsc::channel();
            let (mut dropped, mut kept) = (task(go_on), task(mpsc::channel().1));
            let span = tracing::info_span!("open");
            [&mut dropped, &mut kept].into_iter().for_each(poll);
            let (sender, ended) = mpsc::channel();
            let thread = std::thread::spawn(move || {
                if polled {
                    poll(&mut dropped);
                }
                sender.send(dropped).unwrap();
            });
            pass(&recorder);
            let trace = stop_while(recorder, || {
                let_go.send(()).unwrap();
                drop(ended.recv().unwrap());
                thread.join().unwrap();
                drop(span);
            });
            let last = trace.generations().last().expect("there is one").number;
            let begin = trace.generation(last).expect("it can be read");
            assert_eq!((begin.tasks().count(), begin.spans().count()), (2, 1));
            // What still exists continues in the next recording; what is gone is not in it.
            let recorder = start();
            pass(&recorder);
            drop(kept);
            pass(&recorder);
            let trace = common::stop(recorder);
            let drops = common::events(&trace)
                .filter(|event| matches!(event.kind(), EventKind::TaskDrop { .. }));
            assert_eq!(drops.count(), 1);
        }
    });
}
