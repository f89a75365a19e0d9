//! Storms of threads: what they do with memory, with their stacks and with panics.

use crate::common::alone;
use crate::judge::Judge;
use crate::{busy_leaf, storm};
use std::collections::HashMap;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};

#[test]
fn threads_that_take_and_give_memory_all_the_time() {
    alone("threads::threads_that_take_and_give_memory_all_the_time", || {
        storm(3, Judge::new(), |round| {
            let mut kept = HashMap::new();
            for number in 0..2000_u64 {
                let size = (number.wrapping_mul(0x9E37_79B9) >> 7) as usize % 8192;
                kept.insert(number % 100, black_box(vec![round as u8; size]));
                if number.is_multiple_of(50) {
                    // So large that the C library maps it.
                    black_box(vec![1_u8; 300 << 10]);
                }
            }
        });
    });
}

#[test]
fn threads_that_begin_and_end_all_the_time() {
    alone("threads::threads_that_begin_and_end_all_the_time", || {
        storm(2, Judge::new(), |round| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let thread = std::thread::Builder::new().name("brief".to_owned());
                    thread.spawn(move || {
                        lookback::event!("brief", round = round);
                        (0..round % 200).map(busy_leaf).sum::<u64>()
                    })
                })
                .collect();
            for thread in threads {
                thread.expect("it starts").join().expect("it does not panic");
            }
        });
    });
}

/// Runs on a thread of the C library's with the least stack that there is, and no alternate one.
fn on_a_small_stack() {
    extern "C" fn run(_: *mut libc::c_void) -> *mut libc::c_void {
        for round in 0..500 {
            black_box(busy_leaf(round));
        }
        std::ptr::null_mut()
    }
    // SAFETY: the places are valid, and the thread is joined.
    unsafe {
        let (mut attributes, mut thread) = (std::mem::zeroed(), std::mem::zeroed());
        libc::pthread_attr_init(&mut attributes);
        assert_eq!(libc::pthread_attr_setstacksize(&mut attributes, 16 << 10), 0);
        assert_eq!(libc::pthread_create(&mut thread, &attributes, run, std::ptr::null_mut()), 0);
        libc::pthread_join(thread, std::ptr::null_mut());
        libc::pthread_attr_destroy(&mut attributes);
    }
}

#[test]
fn threads_with_a_stack_of_16_kib() {
    alone("threads::threads_with_a_stack_of_16_kib", || {
        storm(2, Judge::new(), |_| on_a_small_stack());
    });
}

const INSIDE: &str = "a panic inside of a panic";
const BOTTOM: &str = "at the bottom";

/// Panics again when it is dropped by a panic, and catches that.
struct PanicsInside;

impl Drop for PanicsInside {
    fn drop(&mut self) {
        let inner = catch_unwind(|| panic_any(INSIDE));
        assert!(inner.is_err());
    }
}

#[inline(never)]
fn deep(depth: u64) -> u64 {
    let _inside = (depth == 10).then_some(PanicsInside);
    if depth == 0 {
        panic_any(BOTTOM);
    }
    deep(black_box(depth - 1)) + 1
}

#[test]
fn panics_that_are_caught_nested_and_passed_on() {
    alone("threads::panics_that_are_caught_nested_and_passed_on", || {
        std::panic::set_hook(Box::new(|info| {
            let what = info.payload().downcast_ref::<&str>();
            if !what.is_some_and(|what| [INSIDE, BOTTOM].contains(what)) {
                eprintln!("{info}");
            }
        }));
        storm(2, Judge::new(), |_| {
            let caught = catch_unwind(|| {
                let _inside = PanicsInside;
                deep(30)
            });
            let passed_on = catch_unwind(AssertUnwindSafe(|| match caught {
                Ok(_) => (),
                Err(payload) => resume_unwind(payload),
            }));
            assert_eq!(passed_on.unwrap_err().downcast_ref::<&str>(), Some(&BOTTOM));
        });
    });
}
