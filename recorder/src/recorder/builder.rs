//! The builder's settings, and their validation.

#![forbid(unsafe_code)]

use crate::arena::MOST_BYTES;
use crate::error::Error;
use crate::generation::system_counters::Groups;
use crate::heap::sampling::{DEFAULT_INTERVAL, LEAST_INTERVAL};
use crate::os::barrier::Barrier;
use crate::record::filter::Filter;
use crate::record::limits::{LEAST_TEXT, Limits};
use crate::recorder::Recorder;
use crate::recorder::trigger::{Condition, Trigger};
use crate::redact;
use crate::snapshot::sink::{FileSink, Sink};
use crate::snapshot::snapshot_dir::Bounds;
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const LEAST_BYTES: usize = 256 << 10;
pub(crate) const LEAST_PERIOD: Duration = Duration::from_millis(1);
pub(crate) const MOST_PERIOD: Duration = Duration::from_secs(3600);
pub(crate) const MOST_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
const USUAL_PERIOD: Duration = Duration::from_secs(1);
/// The arena's table has room for 1,024 generations, some of which begin early: for a snapshot, or
/// because the arena fills up. So the default is 512 per window, and the limit is 1,000.
const USUAL_GENERATIONS: u32 = 512;
const MOST_GENERATIONS: u32 = 1000;
/// The kernel's own tick is no faster.
pub(crate) const MOST_CPU_SAMPLES: u32 = 1000;
const _: () = assert!(MOST_GENERATIONS < lookback_snapshot::wire::GENERATION_SLOTS as u32);

/// Configures what to record, and how much of it to keep. See [`Recorder::builder`].
#[must_use = "a recorder starts with `start`"]
pub struct Builder {
    window: Duration,
    max_bytes: usize,
    generation_period: Option<Duration>,
    snapshot_dir: Option<PathBuf>,
    pub(crate) snapshot_bounds: Bounds,
    pub(crate) triggers: Vec<Trigger>,
    no_triggers: bool,
    panic_patience: Duration,
    name: Option<String>,
    barrier: Option<Barrier>,
    pub(crate) black_box: Option<PathBuf>,
    pub(crate) black_boxes_kept: usize,
    pub(crate) fatal_signals: bool,
    pub(crate) stacks: bool,
    pub(crate) async_stacks: bool,
    pub(crate) error_stacks: u32,
    pub(crate) spawn_stacks: u32,
    pub(crate) stack_signals: bool,
    pub(crate) cpu_samples: u32,
    pub(crate) heap_samples: u64,
    pub(crate) lock_waits: Duration,
    pub(crate) system_counters: Groups,
    pub(crate) found_ranges: bool,
    pub(crate) stall_stacks: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) redaction: redact::Rules,
    filter: Option<Filter>,
    /// The filter from the environment: the level, and the targets.
    pub(crate) env_filters: [Option<Filter>; 2],
    pub(crate) enabled: bool,
    sink: Option<Box<dyn Sink>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("window", &self.window)
            .field("max_bytes", &self.max_bytes)
            .field("generation_period", &self.generation_period)
            .field("name", &self.name)
            .field("snapshot_dir", &self.snapshot_dir)
            .field("snapshot_limits", &self.snapshot_bounds)
            .field("triggers", &self.triggers)
            .field("no_triggers", &self.no_triggers)
            .field("black_box", &self.black_box)
            .field("black_boxes_kept", &self.black_boxes_kept)
            .field("fatal_signals", &self.fatal_signals)
            .field("stacks", &self.stacks)
            .field("async_stacks", &self.async_stacks)
            .field("error_stacks", &self.error_stacks)
            .field("spawn_stacks", &self.spawn_stacks)
            .field("stack_signals", &self.stack_signals)
            .field("cpu_samples", &self.cpu_samples)
            .field("heap_samples", &self.heap_samples)
            .field("lock_waits", &self.lock_waits)
            .field("system_counters", &self.system_counters.iter().collect::<Vec<_>>())
            .field("found_ranges", &self.found_ranges)
            .field("stall_stacks", &self.stall_stacks)
            .field("limits", &self.limits)
            .field("redaction", &self.redaction)
            .field("filter", &self.filter)
            .field("env_filters", &self.env_filters)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// Valid settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) redaction: redact::Rules,
    pub(crate) window: Duration,
    pub(crate) max_bytes: usize,
    pub(crate) generation_period: Duration,
    pub(crate) snapshot_dir: PathBuf,
    /// Whether snapshots are expected there: a directory or a trigger was asked for.
    pub(crate) saves: bool,
    pub(crate) snapshot_bounds: Bounds,
    /// The requested triggers, and the default ones unless they were declined.
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) panic_patience: Duration,
    /// Whether a panic is recorded even if it triggers no snapshot.
    pub(crate) notes_panics: bool,
    pub(crate) name: Option<String>,
    pub(crate) barrier: Option<Barrier>,
    pub(crate) black_box: Option<PathBuf>,
    pub(crate) black_boxes_kept: usize,
    pub(crate) fatal_signals: bool,
    pub(crate) stacks: bool,
    pub(crate) async_stacks: bool,
    pub(crate) error_stacks: u32,
    pub(crate) spawn_stacks: u32,
    pub(crate) stack_signals: bool,
    /// For each second of CPU time; 0 for none.
    pub(crate) cpu_samples: u32,
    pub(crate) heap_samples: u64,
    pub(crate) lock_waits: Duration,
    pub(crate) system_counters: Groups,
    pub(crate) found_ranges: bool,
    pub(crate) stall_stacks: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) filter: Option<Filter>,
    pub(crate) enabled: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            max_bytes: 32 << 20,
            generation_period: None,
            snapshot_dir: None,
            snapshot_bounds: Bounds { files: 32, bytes: 1 << 30 },
            triggers: Vec::new(),
            no_triggers: false,
            panic_patience: Duration::from_secs(2),
            name: None,
            barrier: None,
            black_box: None,
            black_boxes_kept: 3,
            fatal_signals: true,
            stacks: true,
            async_stacks: true,
            error_stacks: 10,
            spawn_stacks: 0,
            stack_signals: true,
            cpu_samples: 0,
            system_counters: Groups::ALL,
            found_ranges: true,
            stall_stacks: None,
            heap_samples: DEFAULT_INTERVAL,
            lock_waits: Duration::from_millis(1),
            limits: Limits::USUAL,
            redaction: redact::Rules::default(),
            filter: None,
            env_filters: [None, None],
            enabled: true,
            sink: None,
        }
    }
}

impl Builder {
    /// How far back to look, as far as the bytes allow. Default: 10 s.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// A hard bound on the bytes of trace data. Default: 32 MiB; at least 256 KiB. The start fails
    /// if a memory group (`cgroup`) of the process, or the machine, does not have that much left.
    /// It allocates the first 32 MiB itself; a background thread allocates the rest and then ends.
    /// If the memory is gone by then, recording ends, and
    /// [`Stats::broken`](crate::Stats::broken) says so.
    ///
    /// A save takes at most a quarter of this and 4 MiB more while it lasts, or half of it and a
    /// little more where so much is alive that a generation takes a quarter; a
    /// [`Snapshot`](crate::Snapshot) takes up to as much again for as long as it is kept.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The approximate length of a generation. Default: 1 s, or a quarter of the window if that is
    /// less, or a 512th of the window if that is more (7 s for an hour). At most 1,000 generations
    /// are kept, so recording does not start with less than a thousandth of the window. Records
    /// older than the window are given up in whole generations. Zero makes generations as short as
    /// possible, which is useful only in tests.
    pub fn generation_period(mut self, period: Duration) -> Self {
        self.generation_period = Some(period);
        self
    }

    /// Where [`Recorder::save`] and triggers put snapshots. Default: the working directory. It is
    /// created if it does not exist. Setting it also arms the [panic](Trigger::panic) trigger,
    /// without a call to [`trigger`](Self::trigger).
    pub fn snapshot_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.snapshot_dir = Some(directory.into());
        self
    }

    /// How many snapshots with this process's name the directory may hold, and how many bytes they
    /// may take. Default: 32 and 1 GiB. A snapshot that is being written counts. Beyond these
    /// limits, the oldest are deleted, by their names, but never the one being saved. Files that
    /// the recorder has not named are left alone.
    pub fn snapshot_limits(mut self, files: usize, bytes: u64) -> Self {
        self.snapshot_bounds = Bounds { files, bytes };
        self
    }

    /// Takes a snapshot automatically when this happens. Each call adds a trigger; of
    /// [`Trigger::panic`] and [`Trigger::error`], the last one counts.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.triggers.push(trigger);
        self
    }

    /// Takes no snapshot automatically except for triggers passed to [`trigger`](Self::trigger):
    /// not for a panic either, and installs no panic hook for it.
    pub fn no_triggers(mut self) -> Self {
        self.no_triggers = true;
        self
    }

    /// How long the end of the process waits, at most, for a requested snapshot, say of a panic.
    /// Default: 2 s. The end may be a panic that cannot be caught (`panic = "abort"`, in an `extern
    /// "C"` function, in a drop during another panic), the return from `main`, `exit`, or `abort`
    /// unless [`fatal_signals`](Self::fatal_signals) is off. A panic that may be caught does not
    /// wait.
    pub fn panic_patience(mut self, patience: Duration) -> Self {
        self.panic_patience = patience;
        self
    }

    /// The process's name in its snapshots. Default: the executable's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Records into this file, which outlives the process however it ends: `lookback recover` makes
    /// a snapshot of it. The file takes [`max_bytes`](Self::max_bytes), allocated at once, and
    /// belongs to one process. A path on a tmpfs, such as `/dev/shm/my-service.lookback`, costs
    /// nothing beyond memory; on a disk, the system constantly writes the file back, which can
    /// delay a thread by milliseconds.
    ///
    /// At start, the box of a predecessor that died is moved aside, to the same name followed by
    /// its time: see [`black_boxes_kept`](Self::black_boxes_kept) and
    /// [`Recorder::predecessor`](crate::Recorder::predecessor). A box whose recording ended
    /// normally is replaced. Linux only.
    pub fn black_box(mut self, path: impl Into<PathBuf>) -> Self {
        self.black_box = Some(path.into());
        self
    }

    /// How many black boxes of dead predecessors to keep beside the current one. Default: 3. The
    /// oldest are deleted first.
    pub fn black_boxes_kept(mut self, boxes: usize) -> Self {
        self.black_boxes_kept = boxes;
        self
    }

    /// How many bytes of one text, a message or a value, are recorded. Default and maximum: 1024;
    /// minimum: 16. Longer texts are cut at a character boundary, and marked. If a record has many
    /// texts, each gets less room; a value of a `tracing` field has at most 768 bytes.
    pub fn max_text_bytes(mut self, bytes: usize) -> Self {
        self.limits.text = bytes;
        self
    }

    /// How many bytes of a span's fields are kept, so that each generation can restate them.
    /// Default and maximum: 240; minimum: 16. If the last values of all fields do not fit, long
    /// texts are cut, then fields are omitted; both are marked. The events that set the fields are
    /// recorded in full.
    pub fn max_kept_field_bytes(mut self, bytes: usize) -> Self {
        self.limits.kept = bytes;
        self
    }

    /// How many fields of a `tracing` span or event are recorded. Default and maximum: 64; minimum:
    /// 1. Further fields are marked as omitted, and counted in
    ///    [`Stats::omitted_fields`](crate::Stats::omitted_fields). (An [`event!`](crate::event)
    ///    with more than twelve does not compile.)
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder();
    /// let builder = builder.max_text_bytes(200).max_kept_field_bytes(100).max_fields(8);
    /// # let _ = builder;
    /// ```
    pub fn max_fields(mut self, fields: usize) -> Self {
        self.limits.fields = fields;
        self
    }

    /// Whether fatal signals (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT) are noted in the arena
    /// before the process dies as it would have. Default: yes. Only applies where the arena
    /// outlives the process: in a black box, or under `lookback run`. The recorder's handlers call
    /// the previously installed ones, with their flags, and on the stack that they asked for.
    pub fn fatal_signals(mut self, noted: bool) -> Self {
        self.fatal_signals = noted;
        self
    }

    /// Hides the values of fields with these names, in addition to the built-in secret names
    /// (`docs/redaction.md` lists them); also in texts, where such a name precedes `=` or `:`.
    /// Names match by whole words: `customer_id` matches `customerId` and `new.customer-id`. Each
    /// call adds names; at most 256, including those of [`reveal_names`](Self::reveal_names).
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder().redact_names(["email", "customer_id"]);
    /// ```
    pub fn redact_names<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.redaction.redact.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Records the values of fields with exactly these names, although they resemble secret names.
    /// [`redact_names`](Self::redact_names) takes precedence.
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder().reveal_names(["auth", "pin"]);
    /// ```
    pub fn reveal_names<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.redaction.reveal.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Hides whatever this function finds in texts, in addition to the built-in secrets. It
    /// receives a text and returns the byte range of the first secret in it; then it receives the
    /// rest, until it finds nothing. If it finds anything in a text value of
    /// [`event!`](crate::event), the whole value is hidden.
    ///
    /// The function runs on the recording thread, for each recorded text, before the record begins:
    /// also in signal handlers and in the panic hook, if the program records there. It must not
    /// panic, and should neither block nor take long. If it records something itself, all texts in
    /// that are hidden.
    ///
    /// ```
    /// /// Customers are `c-` and eight digits.
    /// fn customer(text: &str) -> Option<std::ops::Range<usize>> {
    ///     let start = text.find("c-")?;
    ///     Some(start..start + 10)
    /// }
    /// let builder = lookback_recorder::Recorder::builder().redact_texts(customer);
    /// ```
    pub fn redact_texts(mut self, find: fn(&str) -> Option<Range<usize>>) -> Self {
        self.redaction.texts = Some(find);
        self
    }

    /// Records everything as it is: no name counts as secret, and texts are not scanned.
    pub fn reveal_secrets(mut self) -> Self {
        self.redaction.reveal_all = true;
        self
    }

    /// Records what this filter accepts from `tracing` and the `log` crate, whatever level and
    /// targets subscribers and layers were given. Without it, those decide; their default is INFO
    /// and above. [`Recorder::set_filter`] changes it while the recorder runs.
    ///
    /// ```
    /// let filter = "info,hyper=warn,my_crate=trace".parse()?;
    /// let recorder = lookback_recorder::Recorder::builder().filter(filter).start()?;
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Whether anything is recorded at all. If not, [`start`](Self::start) returns a recorder that
    /// does nothing and uses no memory and no thread. Its snapshots are empty.
    ///
    /// ```
    /// let recorder = lookback_recorder::Recorder::builder().enabled(false).start()?;
    /// assert!(!lookback_recorder::is_recording());
    /// assert!(!recorder.stats().enabled);
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Which side pays for the order between writers and advances. By default the kernel's
    /// `membarrier` is used if it exists; this setting is for tests and comparisons.
    pub fn barrier(mut self, barrier: Barrier) -> Self {
        self.barrier = Some(barrier);
        self
    }

    /// Passes each completed generation to `sink`, in order, on a separate thread. A sink that is
    /// too slow loses whole generations, which [`Stats::sink_lost`](crate::Stats::sink_lost)
    /// counts; it never holds up recording threads.
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Writes each completed generation to `out`, as a growing snapshot file.
    pub fn stream_to(self, out: impl Write + Send + 'static) -> Self {
        self.sink(FileSink::new(out))
    }

    /// Starts recording.
    ///
    /// # Errors
    /// A setting is invalid; the snapshot directory is something else than a directory; this process
    /// is being recorded already; the operating system refuses memory or a thread.
    pub fn start(mut self) -> Result<Recorder, Error> {
        let sink = self.sink.take();
        Recorder::start(self.check()?, sink)
    }

    fn check(self) -> Result<Settings, Error> {
        let refuse = |name, value: String, reason| Err(Error::Setting { name, value, reason });
        let bytes = self.max_bytes;
        if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes) {
            return refuse("max_bytes", bytes.to_string(), "must be between 256 KiB and 16 GiB");
        }
        if self.window < LEAST_PERIOD || self.window > MOST_WINDOW {
            let reason = "must be between a millisecond and a week";
            return refuse("window", format!("{:?}", self.window), reason);
        }
        if let Some(period) = self.generation_period {
            let value = format!("{period:?}");
            if !period.is_zero() && !(LEAST_PERIOD..=MOST_PERIOD).contains(&period) {
                let reason = "must be between a millisecond and an hour";
                return refuse("generation_period", value, reason);
            }
            if period > self.window {
                let reason = "must not be longer than the window";
                return refuse("generation_period", value, reason);
            }
            if !period.is_zero() && period * MOST_GENERATIONS < self.window {
                let value = format!("{value} with window = {:?}", self.window);
                let reason = "no more than 1000 generations are kept: leave it out, set it to at least a \
                              thousandth of the window, or take a shorter window";
                return refuse("generation_period", value, reason);
            }
        }
        if self.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 200) {
            let reason = "must have 1 to 200 bytes";
            let name = self.name.unwrap_or_default();
            return refuse("name", format!("{:?}", crate::text::cut(&name, 200)), reason);
        }
        if self.snapshot_bounds.files == 0 || self.snapshot_bounds.bytes == 0 {
            let value = format!("{:?}", self.snapshot_bounds);
            return refuse("snapshot_limits", value, "both must be at least 1");
        }
        if self.cpu_samples > MOST_CPU_SAMPLES {
            return refuse("cpu_samples", self.cpu_samples.to_string(), "must be at most 1000");
        }
        if self.heap_samples != 0 && self.heap_samples < LEAST_INTERVAL {
            let value = self.heap_samples.to_string();
            return refuse("heap_samples", value, "must be at least 1024, or 0");
        }
        let Limits { text, kept, fields } = self.limits;
        if !(LEAST_TEXT..=Limits::USUAL.text).contains(&text) {
            return refuse("max_text_bytes", text.to_string(), "must be between 16 and 1024");
        }
        if !(LEAST_TEXT..=Limits::USUAL.kept).contains(&kept) {
            return refuse("max_kept_field_bytes", kept.to_string(), "must be between 16 and 240");
        }
        if !(1..=Limits::USUAL.fields).contains(&fields) {
            return refuse("max_fields", fields.to_string(), "must be between 1 and 64");
        }
        if let Err((value, reason)) = self.redaction.check() {
            return refuse("redact_names, reveal_names", value, reason);
        }
        let mut triggers = self.triggers;
        triggers.iter().try_for_each(|trigger| trigger.check(self.window))?;
        let asked = triggers.iter().any(|trigger| trigger.condition == Condition::Panic);
        if self.snapshot_dir.is_some() && !self.no_triggers && !asked {
            triggers.push(Trigger::panic());
        }
        let groups: Vec<_> = triggers.iter().flat_map(Trigger::counters).copied().collect();
        let needed = groups.into_iter();
        let filter = match self.env_filters {
            [Some(level), Some(targets)] => Some(level.with(&targets)),
            [level, targets] => level.or(targets).or(self.filter),
        };
        let usual = USUAL_PERIOD.min(self.window / 4).max(self.window / USUAL_GENERATIONS);
        let usual = usual.max(LEAST_PERIOD);
        Ok(Settings {
            redaction: self.redaction,
            window: self.window,
            max_bytes: bytes,
            generation_period: self.generation_period.unwrap_or(usual),
            saves: self.snapshot_dir.is_some() || !triggers.is_empty(),
            snapshot_dir: self.snapshot_dir.unwrap_or_else(|| PathBuf::from(".")),
            snapshot_bounds: self.snapshot_bounds,
            triggers,
            panic_patience: self.panic_patience,
            notes_panics: asked || !self.no_triggers,
            name: self.name,
            barrier: self.barrier,
            black_box: self.black_box,
            black_boxes_kept: self.black_boxes_kept,
            fatal_signals: self.fatal_signals,
            stacks: self.stacks,
            async_stacks: self.stacks && self.async_stacks,
            error_stacks: if self.stacks { self.error_stacks } else { 0 },
            spawn_stacks: if self.stacks { self.spawn_stacks } else { 0 },
            stack_signals: self.stack_signals,
            cpu_samples: if self.stacks { self.cpu_samples } else { 0 },
            system_counters: needed.fold(self.system_counters, Groups::with),
            found_ranges: self.found_ranges,
            stall_stacks: self.stall_stacks.filter(|_| self.stacks),
            heap_samples: self.heap_samples,
            lock_waits: self.lock_waits,
            limits: self.limits,
            filter,
            enabled: self.enabled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_settings_are_refused_in_words() {
        let second = Duration::from_secs(1);
        let refused = |builder: Builder| builder.check().unwrap_err().to_string();
        let builder = Builder::default;
        assert!(
            refused(builder().max_bytes(0))
                .starts_with("max_bytes = 0: must be between 256 KiB and")
        );
        assert!(refused(builder().max_bytes(usize::MAX)).contains("16 GiB"));
        assert!(refused(builder().window(Duration::ZERO)).contains("a millisecond and a week"));
        assert!(refused(builder().window(Duration::MAX)).starts_with("window = "));
        let tiny = Duration::from_nanos(1);
        assert!(refused(builder().generation_period(tiny)).starts_with("generation_period = 1ns"));
        assert!(
            refused(builder().generation_period(second * 11)).contains("longer than the window")
        );
        assert!(refused(builder().name("")).starts_with("name = "));
        assert!(refused(builder().max_text_bytes(1025)).ends_with("must be between 16 and 1024"));
        assert!(
            refused(builder().max_kept_field_bytes(15)).ends_with("must be between 16 and 240")
        );
        assert!(refused(builder().cpu_samples(1001)).ends_with("must be at most 1000"));
        assert!(refused(builder().max_fields(0)).ends_with("must be between 1 and 64"));
        assert!(builder().generation_period(Duration::ZERO).check().is_ok());
        let short = builder().window(second).check().unwrap();
        assert_eq!(short.generation_period, second / 4);
    }

    #[test]
    fn a_window_is_of_no_more_generations_than_are_kept() {
        let second = Duration::from_secs(1);
        let period = |window| Builder::default().window(window).check().unwrap().generation_period;
        assert_eq!(period(second * 10), second);
        assert_eq!(period(second * 512), second);
        assert_eq!(period(second * 3600), second * 3600 / 512);
        for window in [LEAST_PERIOD, second, second * 60, second * 3600, MOST_WINDOW] {
            let period = period(window);
            assert!((LEAST_PERIOD..=MOST_PERIOD).contains(&period), "{window:?}: {period:?}");
            assert!(period * MOST_GENERATIONS >= window, "{window:?}: {period:?}");
        }
        let hour = || Builder::default().window(second * 3600);
        let refused = hour().generation_period(second).check().unwrap_err().to_string();
        assert_eq!(
            refused,
            "generation_period = 1s with window = 3600s: no more than 1000 generations are kept: leave it out, \
             set it to at least a thousandth of the window, or take a shorter window"
        );
        assert!(hour().generation_period(second * 36 / 10).check().is_ok());
        assert!(hour().generation_period(Duration::ZERO).check().is_ok());
    }
}
