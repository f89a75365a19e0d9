//! Hooks of a Tokio runtime: record which thread is which worker, and when it sleeps.

use super::metrics;
use ::tokio::runtime::{Builder, Handle, worker_index};
use lookback_recorder::integration::{Runtime, introduce_thread};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

type Hook = Arc<dyn Fn() + Send + Sync>;

/// Your own hooks, for a recorded runtime. Tokio's builder keeps one hook of each kind, so pass yours here to
/// have them called beside the recorder's.
///
/// ```
/// use lookback::tokio::{Hooks, instrument_with};
/// let mut builder = tokio::runtime::Builder::new_multi_thread();
/// let hooks = Hooks::new().on_thread_start(|| println!("a thread starts"));
/// assert!(instrument_with(&mut builder, hooks).is_whole());
/// ```
#[derive(Clone, Default)]
pub struct Hooks {
    thread_start: Option<Hook>,
    thread_stop: Option<Hook>,
    thread_park: Option<Hook>,
    thread_unpark: Option<Hook>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("thread_start", &self.thread_start.is_some())
            .field("thread_stop", &self.thread_stop.is_some())
            .field("thread_park", &self.thread_park.is_some())
            .field("thread_unpark", &self.thread_unpark.is_some())
            .finish()
    }
}

macro_rules! hook {
    ($($(#[$doc:meta])* $method:ident $field:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $method(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
            self.$field = Some(Arc::new(hook));
            self
        }
    )*};
}

impl Hooks {
    /// No hooks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    hook! {
        /// Called when a thread of the runtime starts.
        on_thread_start thread_start;
        /// Called when a thread of the runtime ends.
        on_thread_stop thread_stop;
        /// Called when a worker is about to sleep.
        on_thread_park thread_park;
        /// Called when a worker wakes up.
        on_thread_unpark thread_unpark;
    }
}

/// The outcome of [`instrument`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "hooks that were set already are left as they are, and then not everything is recorded"]
pub struct Instrumented {
    runtime: u32,
    left: Vec<&'static str>,
}

impl Instrumented {
    /// The number of the runtime in the trace, from 0.
    #[must_use]
    pub fn runtime(&self) -> u32 {
        self.runtime
    }

    /// Whether all of the runtime's workers are recorded.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.left.is_empty()
    }

    /// The hooks that the builder already had. They stay, so the recorder misses those calls. Pass your hooks
    /// to [`instrument_with`] instead.
    #[must_use]
    pub fn left_alone(&self) -> &[&'static str] {
        &self.left
    }
}

/// Records the workers of the runtime that this builder builds: which thread is which, and when it sleeps.
/// Call it once for each builder.
///
/// Hooks that are already set stay, because the service matters more than its trace; the result names them.
/// Pass yours to [`instrument_with`], and both are called. With `--cfg tokio_unstable` the hooks for tasks
/// are set, too, and replace existing ones: a builder does not show whether it has any.
pub fn instrument(builder: &mut Builder) -> Instrumented {
    instrument_with(builder, Hooks::new())
}

/// Like [`instrument`], and calls these hooks as well.
pub fn instrument_with(builder: &mut Builder, hooks: Hooks) -> Instrumented {
    let Hooks { thread_start, thread_stop, thread_park, thread_unpark } = hooks;
    let runtime = Runtime::new(worker_index, present_runtime);
    let both = |ours: fn(Runtime), theirs: Option<Hook>, theirs_first: bool| {
        move || match &theirs {
            None => ours(runtime),
            Some(theirs) if theirs_first => {
                theirs();
                ours(runtime);
            }
            Some(theirs) => {
                ours(runtime);
                theirs();
            }
        }
    };
    // Only the debug output of the builder shows its hooks.
    let has = format!("{builder:?}");
    let is_set = |field: &str| has.contains(&format!("{field}: Some("));
    // Events of the user's hook belong to the time while the thread is awake.
    let starts = |runtime: Runtime| {
        introduce_thread();
        runtime.thread_starts();
    };
    let start = both(starts, thread_start, false);
    let start = move || {
        metrics::thread_starts(runtime.number());
        start();
    };
    let stop = both(Runtime::thread_stops, thread_stop, true);
    let stop = move || {
        stop();
        metrics::thread_stops();
    };
    let park = both(Runtime::parks, thread_park, true);
    let unpark = both(Runtime::unparks, thread_unpark, false);
    let mut left = Vec::new();
    let mut set = |name, field, hook: &mut dyn FnMut()| {
        if is_set(field) { left.push(name) } else { hook() }
    };
    // Each closure is used at most once.
    let (mut start, mut stop, mut park, mut unpark) =
        (Some(start), Some(stop), Some(park), Some(unpark));
    set("on_thread_start", "after_start", &mut || {
        start.take().map(|hook| builder.on_thread_start(hook));
    });
    set("on_thread_stop", "before_stop", &mut || {
        stop.take().map(|hook| builder.on_thread_stop(hook));
    });
    set("on_thread_park", "before_park", &mut || {
        park.take().map(|hook| builder.on_thread_park(hook));
    });
    set("on_thread_unpark", "after_unpark", &mut || {
        unpark.take().map(|hook| builder.on_thread_unpark(hook));
    });
    #[cfg(tokio_unstable)]
    super::task_hooks::watch(builder);
    Instrumented { runtime: runtime.number(), left }
}

/// Tokio's id of the runtime that this thread is in; 0 if it is in none.
fn present_runtime() -> u64 {
    Handle::try_current().map_or(0, |handle| number_of(&handle))
}

/// Tokio's id of this runtime.
pub(super) fn number_of(handle: &Handle) -> u64 {
    /// Tokio only shows the id as a text, or hashes it.
    struct Number(u64);
    impl Hasher for Number {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
        }
        fn write_u64(&mut self, number: u64) {
            self.0 = number;
        }
    }
    let mut number = Number(0);
    handle.id().hash(&mut number);
    number.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_that_are_there_stay_and_are_named() {
        let mut builder = Builder::new_multi_thread();
        builder.on_thread_park(|| ());
        let instrumented = instrument(&mut builder);
        assert_eq!(instrumented.left_alone(), ["on_thread_park"]);
        assert!(!instrumented.is_whole());
        let mut builder = Builder::new_current_thread();
        let second = instrument(&mut builder);
        assert!(second.is_whole());
        assert_ne!(second.runtime(), instrumented.runtime());
        assert_eq!(instrument(&mut builder).left_alone().len(), 4, "once a builder");
    }
}
