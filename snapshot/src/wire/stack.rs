//! Stacks of threads: why one was taken, how it was obtained, and why it ends.

use std::fmt;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $code:literal $variant:ident $words:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum $name { $($(#[$each])* $variant = $code,)* }

        impl $name {
            /// The meaning of this code, if this version knows it.
            #[must_use]
            pub const fn from_code(code: u64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// In words, as tools print it.
            #[must_use]
            pub const fn in_words(self) -> &'static str {
                match self { $(Self::$variant => $words,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.in_words())
            }
        }
    };
}

codes! {
    /// Why the stack of a thread was taken.
    StackReason {
        /// It has been in a poll for too long.
        1 Stall "stall",
        /// It panicked.
        2 Panic "panic",
        /// It logged an error.
        3 Error "error",
        /// It got a fatal signal.
        4 Crash "crash",
        /// The program asked for it, where it recorded an event.
        5 Asked "asked for",
        /// Another thread has been in a poll for too long, and this one was blocked just then.
        6 Beside "beside a stall",
    }
}

codes! {
    /// How the stack of a thread was obtained, or why there is none.
    StackSource {
        /// The thread walked its own stack.
        1 Own "by the thread itself",
        /// The stack was read while the thread was blocked.
        2 Blocked "while it was blocked",
        /// A signal interrupted the thread.
        3 Interrupted "while it was running",
        /// None: the recorder had no unwind tables yet.
        16 NoTables "the recorder had no unwind tables yet",
        /// None: the recorder keeps no more different stacks.
        17 NoRoom "the recorder keeps no more different stacks",
        /// None: the kernel does not allow it, or the thread is gone.
        18 NotReadable "the kernel does not let the process look at it",
        /// None: the thread did not stay in one place, or did not answer in time.
        19 NoAnswer "the thread did not stay in one place",
        /// None: the thread has blocked the signal that would interrupt it, or no signal is free.
        20 NoSignal "no signal reaches it",
        /// None: the recorder does not support this system.
        21 Unsupported "not supported on this system",
        /// None: the thread was running, and the recorder does not interrupt running threads.
        22 Running "the thread was running, and is not to be interrupted",
        /// None: the recorder takes no more stacks of this kind in one second.
        23 Limited "there were too many in that second",
        /// None: nothing was recorded at that time, or no stacks.
        24 NotRecording "nothing was recorded at that time",
    }
}

codes! {
    /// Why a stack has no more frames.
    StackEnd {
        /// The thread began there.
        0 Begin "the thread's start",
        /// There was no room for more frames.
        1 Full "deeper frames are not recorded",
        /// Nothing says how to unwind this code, which may have been generated at run time.
        2 UnknownCode "unknown code",
        /// The compiler's unwind information is of a kind that the recorder does not know.
        3 Unsaid "code that cannot be unwound",
        /// The next frame lies outside the stack, or outside the part that was read.
        4 OffStack "the end of the readable part of the stack",
        /// The poll of a task: the executor is below it.
        5 Poll "the task's poll",
    }
}
