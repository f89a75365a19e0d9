//! Keeps the shared object that contains the recorder mapped, because a program that loads it may
//! unload it.
//!
//! The system may call into that object later: the destructor that notices the end of threads,
//! signal handlers, exit handlers. None of these can be removed with certainty, because a thread
//! may be about to call one. So the object stays mapped from the first start on, as with C
//! libraries that register such callbacks (`-z nodelete`). It can still be closed and loaded again:
//! it is then the same object.
//!
//! This covers the object with the recorder in it. An object that only uses the recorder, as a
//! plugin that records through the program's recorder does, holds the statics (`Site`) of its own
//! macros, which threads and tables point to as long as the process lives. It must not be unloaded:
//! link it with `-z nodelete`, open it with `RTLD_NODELETE`, or never close it.

/// Keeps the object that contains this code mapped. Does nothing in a program's executable, which
/// always is.
pub(crate) fn pin() {
    #[cfg(target_os = "linux")]
    {
        let mut about = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: the address is of this function, the place is valid, and all zeroes are a valid
        // value. The name is the loader's own, by which it finds its object; that object is loaded,
        // so no code runs.
        unsafe {
            if libc::dladdr(pin as *const () as *const libc::c_void, about.as_mut_ptr()) == 0 {
                return;
            }
            let name = about.assume_init().dli_fname;
            if !name.is_null() {
                let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
                libc::dlopen(name, flags);
            }
        }
    }
}

/// Whether this code lies in the program's executable, or in another object.
#[cfg(target_os = "linux")]
pub(crate) fn is_in_program() -> bool {
    let base = |address: *const libc::c_void| {
        let mut about = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: the place is valid, and all zeroes are a valid value; the address is only looked up.
        unsafe {
            let found = libc::dladdr(address, about.as_mut_ptr()) != 0;
            found.then(|| about.assume_init().dli_fbase)
        }
    };
    // SAFETY: reads a value that the kernel gave to the program.
    let entry = unsafe { libc::getauxval(libc::AT_ENTRY) };
    let program = base(std::ptr::without_provenance(entry as usize));
    // A static program has no loader that would know; there is nothing else in it.
    program.is_none() || program == base(is_in_program as *const () as *const libc::c_void)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn a_program_that_contains_the_recorder_is_told_from_one_that_loads_it() {
        assert!(super::is_in_program());
    }
}
