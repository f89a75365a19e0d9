//! Chains that are recognised are those that a walk finds, and nothing is read where nothing is known to be.

use super::await_chain::{AwaitChains, Extent, FirstReturn, KnownStack};
use super::tests::prepared;
use super::trie::{Node, StackId, Trie};
use super::unwind::here;
use crate::protocol::frame;
use crate::testing::alone;
use lookback_snapshot::wire::StackEnd;
use std::cell::Cell;
use std::hint::black_box;

/// Each is alone in its process: others unload code, after which no chain is known any more.
const THIS: &str = "stack::await_chain_tests::";

/// What a thread has, and what its leaf finds.
struct Thread<'a> {
    table: &'a AwaitChains,
    known: KnownStack,
    first: &'static FirstReturn,
    /// Whether walks are allowed.
    walks: bool,
    found: Cell<Option<StackId>>,
}

impl<'a> Thread<'a> {
    fn new(table: &'a AwaitChains) -> Self {
        static FIRST: FirstReturn = FirstReturn::new();
        let known = KnownStack::none();
        Self { table, known, first: &FIRST, walks: true, found: Cell::new(None) }
    }

    /// As a waker is cloned.
    #[inline(never)]
    fn registers(&self, top: u64) {
        let extent = Extent { top, from: 0 };
        // SAFETY: this function is running on this thread, whose stack is what is known here.
        let found = unsafe {
            match self.table.find(frame::here(), top, &self.known, self.first) {
                Ok(found) => found,
                Err(_) if self.walks => self.table.walk(here(), extent, &self.known, self.first),
                Err(_) => None,
            }
        };
        self.found.set(found);
    }

    /// Polls by a way of its own for each of these numbers, all of them equally long, and alike at first.
    #[inline(never)]
    fn poll_way(&self, way: u32) -> Option<StackId> {
        self.found.set(None);
        self.zero(way, 7, frame::here());
        black_box(self).found.get()
    }

    #[inline(never)]
    fn zero(&self, way: u32, left: u32, top: u64) {
        self.on(way, left, top);
        black_box(self);
    }

    #[inline(never)]
    fn one(&self, way: u32, left: u32, top: u64) {
        self.on(way, left, top);
        black_box(self);
    }

    #[inline(never)]
    fn on(&self, way: u32, left: u32, top: u64) {
        match way >> left & 1 {
            _ if left == 0 => self.left(3, top),
            0 => self.zero(way, left - 1, top),
            _ => self.one(way, left - 1, top),
        }
        black_box(self);
    }

    /// Polls to this depth, by either of two ways.
    #[inline(never)]
    fn poll(&self, depth: u32, left: bool) -> Option<StackId> {
        self.found.set(None);
        let top = frame::here();
        if left {
            self.left(depth, top)
        } else {
            self.right(depth, top)
        }
        black_box(self).found.get()
    }

    #[inline(never)]
    fn left(&self, depth: u32, top: u64) {
        if depth == 0 {
            self.registers(top)
        } else {
            self.left(depth - 1, top)
        }
        black_box(self);
    }

    #[inline(never)]
    fn right(&self, depth: u32, top: u64) {
        if depth == 0 {
            self.registers(top)
        } else {
            self.right(depth - 1, top)
        }
        black_box(self);
    }

    /// The same, where only what is remembered is found.
    fn knows(&mut self, depth: u32, left: bool) -> Option<StackId> {
        self.walks = false;
        let found = self.poll(depth, left);
        self.walks = true;
        found
    }
}

/// How many frames a chain has, and why it ends.
fn functions(stack: StackId) -> (usize, u32) {
    let trie = Trie::get().unwrap();
    let (mut next, mut count) = (stack, 0);
    loop {
        match trie.node(next) {
            Node::Frame { caller, module, .. } => {
                assert_ne!(module, 0, "all code is known");
                (next, count) = (caller, count + 1);
            }
            Node::Root(end) => return (count, end),
        }
    }
}

#[test]
fn a_chain_that_was_walked_is_found_again_without_a_walk() {
    alone(&format!("{THIS}a_chain_that_was_walked_is_found_again_without_a_walk"), || {
        let _map = prepared();
        let table = AwaitChains::with(1 << 10, 1 << 12).unwrap();
        let mut thread = Thread::new(&table);
        assert_eq!(thread.knows(3, true), None, "nothing is known yet");
        let walked: Vec<_> = (0..20)
            .flat_map(|depth| [true, false].map(|left| (depth, left)))
            .map(|(depth, left)| (depth, left, thread.poll(depth, left).expect("a chain")))
            .collect();
        for (depth, left, stack) in &walked {
            assert_eq!(thread.knows(*depth, *left), Some(*stack), "{depth} {left}");
            // The function itself, as often as it calls itself, and the one that polls.
            let (count, end) = functions(*stack);
            assert_eq!(
                (count, end),
                (*depth as usize + 2, StackEnd::Poll as u32),
                "{depth} {left}"
            );
        }
        let different: std::collections::HashSet<_> =
            walked.iter().map(|(_, _, stack)| stack.number()).collect();
        assert_eq!(different.len(), walked.len(), "each is another one");
    });
}

#[test]
fn of_many_chains_that_begin_alike_each_is_found_again() {
    alone(&format!("{THIS}of_many_chains_that_begin_alike_each_is_found_again"), || {
        let _map = prepared();
        let table = AwaitChains::with(1 << 10, 1 << 13).unwrap();
        let mut thread = Thread::new(&table);
        // The lowest bit says nothing.
        let ways: Vec<_> = (0..256).step_by(2).collect();
        let walked: Vec<_> = ways.iter().map(|way| thread.poll_way(*way)).collect();
        let different: std::collections::HashSet<_> = walked.iter().flatten().collect();
        assert_eq!((different.len(), table.refused()), (ways.len(), 0));
        thread.walks = false;
        for (way, stack) in ways.into_iter().zip(walked) {
            assert_eq!(thread.poll_way(way), stack, "{way}");
        }
    });
}

#[test]
fn of_a_chain_with_too_many_frames_the_innermost_are_remembered() {
    alone(&format!("{THIS}of_a_chain_with_too_many_frames_the_innermost_are_remembered"), || {
        let _map = prepared();
        let table = AwaitChains::with(1 << 10, 1 << 12).unwrap();
        let mut thread = Thread::new(&table);
        let stack = thread.poll(300, true).expect("a chain");
        let (count, end) = functions(stack);
        assert_eq!((count, end), (super::unwind::MAX_FRAMES - 1, StackEnd::Full as u32));
        assert_eq!(thread.knows(300, true), Some(stack));
    });
}

#[test]
fn another_thread_walks_once_to_know_its_stack_and_finds_the_same() {
    alone(&format!("{THIS}another_thread_walks_once_to_know_its_stack_and_finds_the_same"), || {
        let _map = prepared();
        let table = AwaitChains::with(1 << 10, 1 << 12).unwrap();
        let stack = Thread::new(&table).poll(5, true);
        assert!(stack.is_some());
        let words = table.used();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut thread = Thread::new(&table);
                assert_eq!(
                    thread.knows(5, true),
                    None,
                    "nothing is read of a stack that is not known"
                );
                assert_eq!(thread.poll(5, true), stack);
                assert_eq!(thread.knows(5, true), stack);
            });
        });
        assert_eq!(table.used(), words, "it was remembered already");
    });
}

#[test]
fn on_another_stack_nothing_is_read_that_is_not_known() {
    alone(&format!("{THIS}on_another_stack_nothing_is_read_that_is_not_known"), || {
        let _map = prepared();
        let table = AwaitChains::with(1 << 10, 1 << 12).unwrap();
        let thread = Thread::new(&table);
        assert!(thread.poll(2, true).is_some());
        // A poll whose function lies on a stack that is gone: far above, and just above what is known.
        for above in [1 << 12, 1 << 20, 1 << 30, 1 << 46] {
            thread.found.set(None);
            thread.left(2, frame::here() + above);
            assert_eq!(thread.found.get(), None, "{above:#x}");
        }
        // And one that lies below.
        thread.left(2, frame::here() - (1 << 16));
        assert_eq!(thread.found.get(), None);
        assert!(thread.poll(2, true).is_some(), "all is as it was");
    });
}

#[test]
fn a_full_table_remembers_no_more_and_walks_as_often_as_it_may() {
    alone(&format!("{THIS}a_full_table_remembers_no_more_and_walks_as_often_as_it_may"), || {
        let _map = prepared();
        let table = AwaitChains::with(1 << 4, 1 << 6).unwrap();
        let mut thread = Thread::new(&table);
        let found = (0..20).map(|depth| thread.poll(depth, true)).collect::<Vec<_>>();
        assert!(found.iter().all(Option::is_some), "walked");
        assert!(table.used() <= 1 << 6 && table.refused() > 0);
        let known = (0..20).filter(|depth| thread.knows(*depth, true).is_some()).count();
        assert!((1..20).contains(&known), "{known}");
        let limit = 3 * u64::from(super::await_chain::WALKS_A_SECOND);
        let walked = (0..limit).filter(|_| thread.poll(19, true).is_some()).count() as u64;
        assert!(walked < limit, "there is a limit on walks, of each second");
    });
}

#[test]
fn what_a_handler_finds_on_its_own_stack_is_no_chain_of_the_task_that_it_interrupts() {
    alone(
        &format!(
            "{THIS}what_a_handler_finds_on_its_own_stack_is_no_chain_of_the_task_that_it_interrupts"
        ),
        || {
            use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
            static THREAD: AtomicPtr<Thread<'static>> = AtomicPtr::new(std::ptr::null_mut());
            static TOP: AtomicU64 = AtomicU64::new(0);
            static HANDLED: AtomicU32 = AtomicU32::new(0);
            extern "C" fn handler(_: libc::c_int) {
                // SAFETY: the test has set it, and waits.
                let thread = unsafe { &*THREAD.load(Ordering::Relaxed) };
                thread.registers(TOP.load(Ordering::Relaxed));
                HANDLED.fetch_add(1, Ordering::Relaxed);
            }
            let _map = prepared();
            let table: &'static _ =
                Box::leak(Box::new(AwaitChains::with(1 << 10, 1 << 12).unwrap()));
            let mut thread = Thread::new(table);
            assert!(thread.poll(2, true).is_some());
            THREAD.store(&raw mut thread, Ordering::Relaxed);
            TOP.store(frame::here(), Ordering::Relaxed);
            // SAFETY: a handler for a signal that nothing else uses, which only this thread raises.
            unsafe {
                let signal = libc::SIGURG;
                assert_ne!(
                    libc::signal(signal, handler as *const () as libc::sighandler_t),
                    libc::SIG_ERR
                );
                thread.found.set(None);
                libc::raise(signal);
                libc::signal(signal, libc::SIG_DFL);
            }
            assert_eq!(HANDLED.load(Ordering::Relaxed), 1);
            assert_eq!(thread.found.get(), None);
            assert!(thread.knows(2, true).is_some(), "all is as it was");
        },
    );
}

#[test]
fn before_there_are_tables_no_walk_is_spent() {
    alone(&format!("{THIS}before_there_are_tables_no_walk_is_spent"), || {
        let table = AwaitChains::with(1 << 10, 1 << 12).unwrap();
        let thread = Thread::new(&table);
        let limit = 3 * u64::from(super::await_chain::WALKS_A_SECOND);
        assert!((0..limit).all(|_| thread.poll(2, true).is_none()));
        let _map = prepared();
        assert!(thread.poll(2, true).is_some());
    });
}

/// Code that was made at run time, of which no table says how to leave it: calls its third argument with the first two.
fn made_at_run_time() -> extern "C" fn(&Thread<'_>, u64, extern "C" fn(&Thread<'_>, u64)) {
    // push rbp; mov rbp, rsp; call rdx; pop rbp; ret
    const CODE: [u8; 8] = [0x55, 0x48, 0x89, 0xe5, 0xff, 0xd2, 0x5d, 0xc3];
    let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a mapping of its own, which is never unmapped, with code that keeps to the convention of calls.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, rights, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        page.cast::<[u8; 8]>().write(CODE);
        std::mem::transmute(page)
    }
}

#[test]
fn a_chain_through_code_that_no_table_describes_is_not_guessed() {
    alone(&format!("{THIS}a_chain_through_code_that_no_table_describes_is_not_guessed"), || {
        extern "C" fn register(thread: &Thread<'_>, top: u64) {
            thread.registers(top);
        }
        let _map = prepared();
        let table = AwaitChains::with(1 << 10, 1 << 12).unwrap();
        let thread = Thread::new(&table);
        let through = made_at_run_time();
        for _ in 0..3 {
            through(&thread, frame::here(), register);
            assert_eq!(thread.found.get(), None);
        }
    });
}
