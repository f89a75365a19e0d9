//! The processes that panic, each in its way.

use super::*;

/// Does the part with this name; its snapshots belong into the directory.
pub fn run(name: &str, directory: &Path) {
    // SAFETY: the call has no preconditions.
    unsafe { libc::alarm(300) };
    if name == "abort in the hook before" {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            std::process::abort();
        }));
    }
    let recorder = start(directory);
    match name {
        "abort in the hook before" => {
            lookback::event!("last words");
            panic!("the process aborts in a hook");
        }
        "exit after a panic was caught" => {
            lookback::event!("last words");
            assert!(catch_unwind(|| panic!("it was caught, and yet")).is_err());
            std::process::exit(9);
        }
        "exit with a trigger that is delayed" => {
            lookback::event!("last words");
            let trigger = Trigger::named("late").delay(EVER).arm();
            let fired = trigger.fire(|| "it was to be delayed".to_owned());
            assert!(fired.is_some());
            eprintln!("it was to be delayed");
            std::process::exit(9);
        }
        "abort with a trigger that is delayed" => {
            lookback::event!("last words");
            let trigger = Trigger::named("late").delay(EVER).arm();
            let fired = trigger.fire(|| "it was to be delayed, too".to_owned());
            assert!(fired.is_some());
            eprintln!("it was to be delayed, too");
            std::process::abort();
        }
        "forked children end while it saves" => {
            lookback::event!("last words");
            let trigger = Trigger::named("slow disk").arm();
            recorder.while_saver_waits(|| {
                assert!(
                    trigger.fire(|| "the parent waits, its children do not".to_owned()).is_some()
                );
                for end in [libc::exit as unsafe extern "C" fn(i32) -> !, aborts] {
                    // SAFETY: the child ends at once.
                    match unsafe { libc::fork() } {
                        // SAFETY: both may be called at any time.
                        0 => unsafe { end(0) },
                        child => {
                            // SAFETY: the result is not used.
                            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
                        }
                    }
                }
            });
            eprintln!("the parent waits, its children do not");
            std::process::exit(9);
        }
        "panic in a thread, and main ends" => {
            lookback::event!("last words");
            let thread = std::thread::spawn(|| panic!("the thread cannot go on"));
            if thread.join().is_err() {
                std::mem::forget(recorder);
                std::process::exit(9);
            }
        }
        "abort in extern C" => {
            extern "C" fn cannot_unwind() {
                lookback::event!("last words");
                panic!("out of a function of C");
            }
            cannot_unwind();
        }
        "double panic" => {
            struct Worse;
            impl Drop for Worse {
                fn drop(&mut self) {
                    panic!("in a drop");
                }
            }
            let _worse = Worse;
            lookback::event!("last words");
            panic!("the first one");
        }
        "exit in the hook before" => {
            // Installed after ours, it is called first, and calls ours.
            let ours = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                ours(info);
                std::process::exit(7);
            }));
            lookback::event!("last words");
            panic!("the process exits with this");
        }
        "a task panics, and the hook was replaced" => {
            std::panic::set_hook(Box::new(|info| eprintln!("another hook: {info}")));
            lookback::event!("last words");
            for _ in 0..2 {
                let inner = async { panic!("nobody sees it") }.recorded("fails");
                let outer = inner.recorded("around");
                let mut outer = std::pin::pin!(outer);
                let mut context = Context::from_waker(Waker::noop());
                let poll = AssertUnwindSafe(|| outer.as_mut().poll(&mut context).is_ready());
                assert!(catch_unwind(poll).is_err());
            }
            let triggers = recorder.stats().triggers;
            assert_eq!((triggers.fired, triggers.suppressed), (1, 1), "one for each panic");
            std::process::exit(9);
        }
        "a task panics, and the hook sees it" => {
            lookback::event!("last words");
            let mut task = std::pin::pin!(async { panic!("the hook sees it") }.recorded("fails"));
            let mut context = Context::from_waker(Waker::noop());
            let poll = AssertUnwindSafe(|| task.as_mut().poll(&mut context).is_ready());
            assert!(catch_unwind(poll).is_err());
            let triggers = recorder.stats().triggers;
            assert_eq!((triggers.fired, triggers.suppressed), (1, 0), "once");
            std::process::exit(9);
        }
        "a blocking task panics, and the hook was replaced" => {
            std::panic::set_hook(Box::new(|info| eprintln!("another hook: {info}")));
            lookback::event!("last words");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it starts");
            let failed = lookback::block_on(&runtime, async {
                lookback::spawn_blocking(|| panic!("nobody sees it")).await.is_err()
            });
            assert!(failed);
            std::process::exit(9);
        }
        "main thread" => {
            lookback::event!("last words");
            std::mem::forget(recorder);
            panic!("nobody catches it");
        }
        other => panic!("no part is called {other}"),
    }
}

unsafe extern "C" fn aborts(_: i32) -> ! {
    std::process::abort()
}
