//! A recorder in a shared object that is unloaded: the code that the system calls later is still there.

mod common;

use common::alone;
use common::plugin::{Library, built};
use std::sync::mpsc::channel;

#[test]
fn it_may_be_unloaded_while_threads_live_that_have_recorded() {
    alone("it_may_be_unloaded_while_threads_live_that_have_recorded", || {
        let path = built();
        let directory = tempfile::tempdir().unwrap();
        // SAFETY: no other thread of this process looks at the environment.
        unsafe { std::env::set_var("LOOKBACK_EXAMPLE_BOX", directory.path().join("service.box")) };
        for round in 0..3 {
            let library = Library::load(&path);
            let (go_on, waits) = channel::<()>();
            let (tell, recorded) = channel();
            let lives = std::thread::scope(|scope| {
                // In threads of their own: their destructors do not keep the library loaded.
                assert!(scope.spawn(|| library.start()).join().unwrap());
                let record = library.find(c"example_record") as usize;
                let lives = std::thread::spawn(move || {
                    // SAFETY: the library is loaded, and that is the function's type.
                    let record =
                        unsafe { std::mem::transmute::<usize, extern "C" fn(u64)>(record) };
                    record(1);
                    tell.send(()).unwrap();
                    let _ = waits.recv();
                });
                recorded.recv().unwrap();
                scope.spawn(|| library.record(2));
                lives
            });
            let events = std::thread::scope(|scope| scope.spawn(|| library.stop()).join().unwrap());
            assert!(events >= 2, "{events} events in round {round}");
            library.unload();
            drop(go_on);
            // A destructor notices the end of the thread, and is still there.
            lives.join().unwrap();
        }
        // So are the handler of fatal signals, and what the end of the process calls.
        // SAFETY: a signal that this thread handles below.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: sends a signal to this process.
            unsafe { libc::raise(libc::SIGFPE) };
        }
        let mut status = 0;
        // SAFETY: a valid place.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(libc::WTERMSIG(status), libc::SIGFPE);
    });
}
