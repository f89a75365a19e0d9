//! The builder's settings of what is measured and noticed: stacks, samples, locks, counters.

#![forbid(unsafe_code)]

use crate::generation::system_counters::Groups;
use crate::recorder::builder::Builder;
use crate::recorder::trigger::LEAST_STALL;
use lookback_snapshot::wire::CounterGroup;
use std::time::Duration;

impl Builder {
    /// Whether the stacks of stalled polls, of panics, of errors and of crashes are recorded, which `lookback stacks`
    /// shows. Default: yes. Linux on x86-64, and on 64-bit ARM without measurements; elsewhere the trace says that there
    /// are none.
    ///
    /// A thread of the recorder makes tables of all loaded code when recording starts, and then ends: some milliseconds
    /// for each megabyte of code, and up to 16 MiB ([`Stats::unwind_tables`](crate::Stats::unwind_tables)). A running thread
    /// whose poll has stalled is interrupted by a signal, unless [`stack_signals`](Self::stack_signals) is off.
    /// `docs/limits.md` lists the system calls.
    ///
    /// ```
    /// let recorder = lookback_recorder::Recorder::builder().stacks(false).start()?;
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    pub fn stacks(mut self, taken: bool) -> Self {
        self.stacks = taken;
        self
    }

    /// Whether it is recorded where each task waits: the stack inside its poll at which its waker was registered, from
    /// the leaf future to the task, which `lookback stacks --tasks` shows. Default: yes, unless [`stacks`](Self::stacks)
    /// is off. Only of tasks whose future is wrapped (`lookback::spawn`, [`recorded`](crate::RecordExt::recorded)). It
    /// takes 32 bytes a task, and 576 KiB for the chains themselves, most of it untouched while they are few.
    /// [`start`](Self::start) waits for the tables of the program's code, some milliseconds for each megabyte, but no more
    /// than 250: so that it is known, too, of tasks that wait from the beginning.
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder().async_stacks(false);
    /// ```
    pub fn async_stacks(mut self, taken: bool) -> Self {
        self.async_stacks = taken;
        self
    }

    /// How many of the errors that are logged in a second have the stack of their thread, which `lookback stacks` shows:
    /// messages of level ERROR from `tracing`, [`log!`](crate::log!) and the `log` crate. Default: 10, unless
    /// [`stacks`](Self::stacks) is off; 0: none. Further ones are counted ([`StackStats::limited`](crate::StackStats)).
    /// Messages of other levels cost no more than without.
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder().error_stacks(100);
    /// ```
    pub fn error_stacks(mut self, a_second: u32) -> Self {
        self.error_stacks = a_second;
        self
    }

    /// How many of the tasks that are spawned in a second keep the stack of the thread that spawned them, which
    /// `lookback stacks --tasks` shows beside where they wait, and `lookback summary` for tasks that are stuck. Default: 0,
    /// none: where a task is spawned is known anyway, and this says who called that. Further tasks have none and are
    /// counted ([`StackStats::spawns_limited`](crate::StackStats)). It takes a walk of the stack, 4 bytes of memory
    /// for each task, and about as many in each generation. Only with [`stacks`](Self::stacks).
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder().spawn_stacks(1000);
    /// ```
    pub fn spawn_stacks(mut self, a_second: u32) -> Self {
        self.spawn_stacks = a_second;
        self
    }

    /// From how long a poll on its stack is taken, up to four times while it lasts, also if no
    /// [`Trigger::stalled_poll`](crate::Trigger::stalled_poll) is armed: so each later snapshot says at which line it was. The
    /// recorder's thread then looks at all threads every half of that time, as long as anything is polled. Default: only
    /// what triggers ask for. At least 1 ms; `None` is the default.
    ///
    /// ```
    /// use std::time::Duration;
    /// let builder = lookback_recorder::Recorder::builder().stall_stacks(Duration::from_millis(100));
    /// ```
    pub fn stall_stacks(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.stall_stacks = limit.into().map(|limit| limit.max(LEAST_STALL));
        self
    }

    /// Whether a thread is interrupted for its stack if it is running when its poll has stalled. Default: yes. A signal
    /// does it, the first real-time one that the service does not use. A call of the system that the thread begins just
    /// then, and that waits for a limited time (`epoll_wait`, `poll`, `nanosleep`), fails with `EINTR`, which the
    /// standard library and Tokio handle. For a service with code that does not: `false`, and such a stall has no stack.
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder().stack_signals(false);
    /// ```
    pub fn stack_signals(mut self, sent: bool) -> Self {
        self.stack_signals = sent;
        self
    }

    /// How often each thread records where it is, for each second of CPU time that it uses: `lookback stacks --cpu` shows
    /// where the process's CPU time goes. Default: 0, never; 100 is usual; at most 1,000. Linux, and only with
    /// [`stacks`](Self::stacks).
    ///
    /// Each thread of the service has a timer on its CPU time, so one that does not run costs nothing. The timer sends a
    /// signal, the first real-time one that the service does not use. A profiler that uses `SIGPROF` is not disturbed. A thread
    /// is sampled from the generation on that follows its start. [`Stats::cpu_samples`](crate::Stats::cpu_samples) says whether
    /// that works.
    ///
    /// ```
    /// let recorder = lookback_recorder::Recorder::builder().cpu_samples(100).start()?;
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    pub fn cpu_samples(mut self, per_second: u32) -> Self {
        self.cpu_samples = per_second;
        self
    }

    /// How many bytes a thread allocates, on average, from one sample of the heap to the next, if the program declares
    /// [`Alloc`](crate::Alloc): `lookback stacks --heap` shows which stacks have allocated what is alive. Default: 512 KiB; at least
    /// 1 KiB. 0: no samples, only totals.
    ///
    /// For a sample the thread walks its stack, at most 2,000 times a second in the whole process; samples beyond that have
    /// none. Half as many bytes cost twice as much, and give an answer that is more exact by a factor of 1.4.
    ///
    /// ```
    /// let recorder = lookback_recorder::Recorder::builder().heap_samples(64 << 10).start()?;
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    pub fn heap_samples(mut self, bytes: u64) -> Self {
        self.heap_samples = bytes;
        self
    }

    /// How long a wait for a lock of `lookback::sync` or `lookback::tokio::sync` must be to be recorded. Default: 1 ms. Shorter
    /// waits cost little and leave nothing; [`Duration::MAX`] records none. `docs/locks.md` has what is recorded.
    ///
    /// ```
    /// use std::time::Duration;
    /// let builder = lookback_recorder::Recorder::builder().lock_waits(Duration::from_micros(100));
    /// ```
    pub fn lock_waits(mut self, limit: Duration) -> Self {
        self.lock_waits = limit;
        self
    }

    /// Which counters of the process, its control group and the machine are read once a generation: resident memory, faults,
    /// open descriptors, pressure, throttling, and more. Default: all, which takes about 0.02 % of a core. Linux.
    /// [`Stats::system_counters`](crate::Stats::system_counters) says what cannot be read.
    ///
    /// ```
    /// use lookback_recorder::CounterGroup;
    /// let some = lookback_recorder::Recorder::builder().system_counters([CounterGroup::Memory, CounterGroup::Cgroup]);
    /// let none = lookback_recorder::Recorder::builder().system_counters([]);
    /// ```
    pub fn system_counters(mut self, groups: impl IntoIterator<Item = CounterGroup>) -> Self {
        self.system_counters = groups.into_iter().fold(Groups::NONE, Groups::with);
        self
    }

    /// Whether the recorder records what it notices by itself: that the whole process stood still, that nothing gave it a
    /// processor, storms of page faults, and memory that its control group reclaims. Default: yes. They are events of the
    /// recorder's own thread, and rare; without them, a program that counts finds exactly its own.
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder().found_ranges(false);
    /// ```
    pub fn found_ranges(mut self, recorded: bool) -> Self {
        self.found_ranges = recorded;
        self
    }
}
