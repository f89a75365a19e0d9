//! A recorder in a shared object that is unloaded: what the system calls later is still there.

mod common;

use common::alone;
use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;

/// The example `shared_object`, built as this test is: where it is.
fn built() -> PathBuf {
    // …/target/debug/deps/shared_object-0123456789abcdef
    let executable = std::env::current_exe().unwrap();
    let profile = executable.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--offline", "--example", "shared_object"]);
    // With the features that the tests themselves are usually built with: then there is nothing to build.
    if cfg!(feature = "fault_injection") {
        cargo.args(["--package", "lookback", "--features", "fault_injection"]);
    } else {
        cargo.arg("--workspace");
    }
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("there is a cargo where tests are built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    profile.join("examples/libshared_object.so")
}

struct Library(*mut c_void);

impl Library {
    fn load(path: &Path) -> Self {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the library may be loaded anywhere.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "it can be loaded");
        Self(handle)
    }

    fn find(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the handle is open.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!found.is_null(), "it has {name:?}");
        found
    }

    fn start(&self) -> bool {
        let start = self.find(c"example_start");
        // SAFETY: that is its type.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> bool>(start)() }
    }

    fn record(&self, number: u64) {
        let record = self.find(c"example_record");
        // SAFETY: that is its type.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(u64)>(record)(number) }
    }

    fn stop(&self) -> u64 {
        let stop = self.find(c"example_stop");
        // SAFETY: that is its type.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> u64>(stop)() }
    }

    fn unload(self) {
        // SAFETY: the handle is open, and not used again.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}

// SAFETY: what the loader does, it does under a lock.
unsafe impl Sync for Library {}

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
                // Threads of their own: what they leave to be destroyed does not keep the library.
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
            // The end of the thread is seen by a destructor, which is still there.
            lives.join().unwrap();
        }
        // So is the handler of fatal signals, and what the end of the process calls.
        // SAFETY: a signal that this thread deals with below.
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
