//! The example `shared_object`: a plugin with a recorder of its own.

use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the example like this test, and returns its path.
pub fn built() -> PathBuf {
    // …/target/debug/deps/shared_object-0123456789abcdef
    let executable = std::env::current_exe().unwrap();
    let profile = executable.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--offline", "--example", "shared_object"]);
    // With the features that the tests are usually built with: then there is nothing to build.
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

pub struct Library(*mut c_void);

impl Library {
    pub fn load(path: &Path) -> Self {
        Self::try_load(path).expect("it can be loaded")
    }

    pub fn try_load(path: &Path) -> Option<Self> {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the library may be loaded anywhere.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        (!handle.is_null()).then_some(Self(handle))
    }

    pub fn find(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the handle is open.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!found.is_null(), "it has {name:?}");
        found
    }

    pub fn start(&self) -> bool {
        let start = self.find(c"example_start");
        // SAFETY: that is its type.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> bool>(start)() }
    }

    pub fn record(&self, number: u64) {
        let record = self.find(c"example_record");
        // SAFETY: that is its type.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(u64)>(record)(number) }
    }

    pub fn stop(&self) -> u64 {
        let stop = self.find(c"example_stop");
        // SAFETY: that is its type.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> u64>(stop)() }
    }

    pub fn unload(self) {
        // SAFETY: the handle is open, and not used again.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}

// SAFETY: what the loader does, it does under a lock.
unsafe impl Sync for Library {}
