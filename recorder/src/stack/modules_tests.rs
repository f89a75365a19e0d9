//! The map of modules, on this process and on libraries that come and go.

use super::*;
use crate::os::own_memory;
use crate::testing::alone;

fn prepared() -> Current {
    own_memory::open();
    loop {
        refresh(&|| false);
        // Another test may be at it.
        match ModuleMap::current() {
            Some(map) => return map,
            None => std::thread::yield_now(),
        }
    }
}

#[test]
fn this_program_is_a_module_with_a_table_and_its_own_path() {
    let map = prepared();
    let here = this_program_is_a_module_with_a_table_and_its_own_path as fn() as usize as u64;
    let (module, _) = map.find(here).unwrap();
    assert_eq!(*module.path, *std::env::current_exe().unwrap().to_string_lossy());
    assert_eq!(module.table.is_some(), cfg!(target_arch = "x86_64"));
    assert!(std::ptr::eq(super::module(module.number).unwrap(), module));
    assert!(unwind_tables().bytes > 0 || cfg!(not(target_arch = "x86_64")));
}

#[test]
fn nothing_is_made_again_while_nothing_is_loaded() {
    alone(&format!("{THIS}nothing_is_made_again_while_nothing_is_loaded"), || {
        let map = prepared();
        let tables = unwind_tables();
        assert!(is_current());
        let kept = KEPT.lock();
        assert_eq!(unwind_tables(), tables, "told while a thread makes tables, or never ends to");
        drop(kept);
        refresh(&|| false);
        assert!(std::ptr::eq(ModuleMap::current().unwrap().0, map.0));
        assert_eq!(unwind_tables().bytes, tables.bytes);
    });
}

const THIS: &str = "stack::modules::tests::";

/// A library that nobody has loaded: a copy of one of the system's.
struct Library {
    _directory: tempfile::TempDir,
    path: std::ffi::CString,
}

impl Library {
    fn new() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("libm-copy.so");
        let libm = std::path::Path::new(libc).with_file_name("libm.so.6");
        std::fs::copy(libm, &path).unwrap();
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        Self { _directory: directory, path }
    }

    /// Calls `each` with a function of the library, which is loaded for that long.
    fn with(&self, each: impl FnOnce(u64)) {
        // SAFETY: a library that may be loaded and unloaded any time.
        unsafe {
            let handle = libc::dlopen(self.path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!handle.is_null());
            each(libc::dlsym(handle, c"cbrt".as_ptr()) as u64);
            libc::dlclose(handle);
        }
    }
}

#[test]
fn however_often_a_library_is_loaded_the_map_is_of_now_and_no_old_one_is_kept() {
    let name = "however_often_a_library_is_loaded_the_map_is_of_now_and_no_old_one_is_kept";
    alone(&format!("{THIS}{name}"), || {
        let library = Library::new();
        for _ in 0..1500 {
            library.with(|function| {
                let map = prepared();
                let (module, _) = map.find(function).expect("it is loaded");
                assert!(module.path.ends_with("libm-copy.so"));
            });
            refresh(&|| false);
            assert!(KEPT.lock().retired.is_empty());
        }
        assert_eq!(unwind_tables().left_out, 0);
        assert!(unwind_tables().modules < 20, "one of the library");
    });
}

#[test]
fn while_a_reader_stays_few_maps_are_kept_and_then_there_is_none() {
    let name = "while_a_reader_stays_few_maps_are_kept_and_then_there_is_none";
    alone(&format!("{THIS}{name}"), || {
        let library = Library::new();
        let stays = prepared();
        for _ in 0..20 {
            library.with(|_| refresh(&|| false));
            refresh(&|| false);
            assert!(KEPT.lock().retired.len() <= MAX_RETIRED + 1);
        }
        assert!(ModuleMap::current().is_none(), "rather none than an old one");
        let here = prepared as fn() -> _ as usize as u64;
        assert!(stays.find(here).is_some(), "still there");
        drop(stays);
        assert!(prepared().find(here).is_some());
        refresh(&|| false);
    });
}

#[test]
fn nothing_is_made_of_what_is_given_up_and_it_can_be_made_later() {
    let name = "nothing_is_made_of_what_is_given_up_and_it_can_be_made_later";
    alone(&format!("{THIS}{name}"), || {
        own_memory::open();
        refresh(&|| true);
        assert!(ModuleMap::current().is_none());
        assert_eq!(unwind_tables().modules, 0);
        assert!(prepared().find(prepared as fn() -> _ as usize as u64).is_some());
    });
}
