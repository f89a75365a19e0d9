//! Settings: what the builder was told, checked.

#![forbid(unsafe_code)]

use crate::barrier::Barrier;
use crate::error::Error;
use crate::limits::{LEAST_TEXT, Limits};
use crate::filter::Filter;
use crate::recorder::Recorder;
use crate::redact;
use crate::sink::{FileSink, Sink};
use crate::trigger::directory::Bounds;
use crate::trigger::{Condition, Trigger};
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const LEAST_BYTES: usize = 256 << 10;
pub(crate) const MOST_BYTES: usize = 16 << 30;
pub(crate) const LEAST_PERIOD: Duration = Duration::from_millis(1);
pub(crate) const MOST_PERIOD: Duration = Duration::from_secs(3600);
pub(crate) const MOST_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
const USUAL_PERIOD: Duration = Duration::from_secs(1);
/// The arena's table has room for 1,024 generations, and some are made early: for a snapshot, or because the
/// arena fills up. So of a window's own there are 512 unless somebody sets the period, and never more than 1,000.
const USUAL_GENERATIONS: u32 = 512;
const MOST_GENERATIONS: u32 = 1000;
const _: () = assert!(MOST_GENERATIONS < lookback_snapshot::wire::GENERATION_SLOTS as u32);

/// What is to be recorded, and how much of it is kept. See [`Recorder::builder`].
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
    pub(crate) limits: Limits,
    pub(crate) redaction: redact::Rules,
    filter: Option<Filter>,
    /// What the environment says of the filter: the level, and the targets.
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
            .field("snapshot_dir", &self.snapshot_dir)
            .field("black_box", &self.black_box)
            .field("black_boxes_kept", &self.black_boxes_kept)
            .field("fatal_signals", &self.fatal_signals)
            .finish_non_exhaustive()
    }
}

/// Settings that make sense.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) redaction: redact::Rules,
    pub(crate) window: Duration,
    pub(crate) max_bytes: usize,
    pub(crate) generation_period: Duration,
    pub(crate) snapshot_dir: PathBuf,
    pub(crate) snapshot_bounds: Bounds,
    /// Those that were asked for, and those that are there unless nobody wants them.
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) panic_patience: Duration,
    /// Whether a panic is recorded, even if it does not trigger.
    pub(crate) notes_panics: bool,
    pub(crate) name: Option<String>,
    pub(crate) barrier: Option<Barrier>,
    pub(crate) black_box: Option<PathBuf>,
    pub(crate) black_boxes_kept: usize,
    pub(crate) fatal_signals: bool,
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
    /// How far back to look, as far as the bytes allow. 10 s unless set.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// A hard bound on the bytes of trace data: 32 MiB unless set, 256 KiB at least. All of it is
    /// allocated at the start, which fails where a memory group (`cgroup`) of the process, or the machine, has
    /// not as much left. The start takes the time of 32 MiB; what is more is had in the background, by a thread
    /// that ends with it. If it is gone by then, recording ends, and [`Stats::broken`](crate::Stats::broken)
    /// says so.
    ///
    /// A save takes a quarter of it and 4 MiB more at most for as long as it lasts, a
    /// [`Snapshot`](crate::Snapshot) that is kept up to as much again.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// About how long a generation is: 1 s unless set, a quarter of the window if that is less, and a
    /// 512th of it if that is more (7 s of an hour). No more than 1,000 generations are kept, so less than a
    /// thousandth of the window is an error when recording starts. What lies further back than the window is
    /// given up by whole generations. Zero makes generations as short as they can be, which is of use in tests
    /// alone.
    pub fn generation_period(mut self, period: Duration) -> Self {
        self.generation_period = Some(period);
        self
    }

    /// Where [`Recorder::save`] and triggers put snapshots: the working directory unless set. It is
    /// made if it is not there. When it is set, a [panic](Trigger::panic) triggers a snapshot without
    /// being asked for.
    pub fn snapshot_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.snapshot_dir = Some(directory.into());
        self
    }

    /// How many snapshots of this process's name the directory may hold, and how many bytes they may
    /// have: 32 and 1 GiB unless set. What is being written counts. When there are more, the oldest are
    /// deleted, by their names; the one that is being saved never is. Files that the recorder has not
    /// named are left alone.
    pub fn snapshot_limits(mut self, files: usize, bytes: u64) -> Self {
        self.snapshot_bounds = Bounds { files, bytes };
        self
    }

    /// Takes a snapshot by itself when this happens. Each call adds one; of [`Trigger::panic`] and
    /// [`Trigger::error`], the last one counts.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.triggers.push(trigger);
        self
    }

    /// Takes no snapshot that was not asked for by [`trigger`](Self::trigger): also none of a panic, for
    /// which no hook is installed then.
    pub fn no_triggers(mut self) -> Self {
        self.no_triggers = true;
        self
    }

    /// How long the end of the process waits for a snapshot that was asked for, of a panic say: 2 s at
    /// most unless set. That is a panic that cannot be caught (`panic = "abort"`, in a function of C, in
    /// a drop while another one unwinds), the return from `main`, `exit`, and `abort` unless
    /// [`fatal_signals`](Self::fatal_signals) is off. A panic that may be caught waits for nothing.
    pub fn panic_patience(mut self, patience: Duration) -> Self {
        self.panic_patience = patience;
        self
    }

    /// What the process is called in its snapshots: the executable's name unless set.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Records into this file, which outlives the process however it ends: `lookback recover` makes a
    /// snapshot of it. It takes [`max_bytes`](Self::max_bytes), allocated at once, and belongs to one
    /// process. A path on a tmpfs, `/dev/shm/my-service.lookback` say, costs nothing beyond memory; on
    /// a disk, the system writes it back all the time, which can hold a thread up for milliseconds.
    ///
    /// The box of a predecessor that died is moved aside at start, to the same name with its time
    /// behind it: see [`black_boxes_kept`](Self::black_boxes_kept) and
    /// [`Recorder::predecessor`](crate::Recorder::predecessor). One whose recording was ended in order
    /// is replaced. Linux only.
    pub fn black_box(mut self, path: impl Into<PathBuf>) -> Self {
        self.black_box = Some(path.into());
        self
    }

    /// How many black boxes of predecessors that died are kept beside the own one: 3 unless set. The
    /// oldest are deleted.
    pub fn black_boxes_kept(mut self, boxes: usize) -> Self {
        self.black_boxes_kept = boxes;
        self
    }

    /// How many bytes of one text are recorded, be it a message or a value: 1024 unless set, and at most;
    /// 16 at least. What is longer is cut on a character's boundary, and marked. Where many texts are in
    /// one record, it has less room for each: a value of a `tracing` field has 768 bytes at most.
    pub fn max_text_bytes(mut self, bytes: usize) -> Self {
        self.limits.text = bytes;
        self
    }

    /// How many bytes of a span's fields are kept, so that each generation can restate the span with
    /// them: 240 unless set, and at most; 16 at least. Where the last values of all fields do not fit,
    /// long texts are cut, then fields are omitted, both marked. The events that gave them are recorded
    /// in full.
    pub fn max_kept_field_bytes(mut self, bytes: usize) -> Self {
        self.limits.kept = bytes;
        self
    }

    /// How many fields of a span or an event of `tracing` are recorded: 64 unless set, and at most; 1 at
    /// least. Further ones are said to be omitted, and counted in
    /// [`Stats::omitted_fields`](crate::Stats::omitted_fields). (An [`event!`](crate::event) with more
    /// than twelve does not compile.)
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

    /// Whether fatal signals (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT) are noted in the arena before the
    /// process dies as it would have. They are, unless this is turned off, where the arena outlives the
    /// process: in a black box, or under `lookback run`. The handlers call those that were there
    /// before, with their flags, and on the stack that those asked for.
    pub fn fatal_signals(mut self, noted: bool) -> Self {
        self.fatal_signals = noted;
        self
    }

    /// Leaves out the values of fields of these names, beside those that are known to be secrets
    /// (`docs/redaction.md` lists them); also in texts, where such a name stands before `=` or `:`. A
    /// name is of whole words: `customer_id` is found in `customerId` and in `new.customer-id`. Each call
    /// adds some; 256 at most, those of [`reveal_names`](Self::reveal_names) included.
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder().redact_names(["email", "customer_id"]);
    /// ```
    pub fn redact_names<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.redaction.redact.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Records the values of fields of exactly these names, although they are like those of secrets.
    /// What [`redact_names`](Self::redact_names) says goes before.
    ///
    /// ```
    /// let builder = lookback_recorder::Recorder::builder().reveal_names(["auth", "pin"]);
    /// ```
    pub fn reveal_names<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.redaction.reveal.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Leaves out of texts what this function finds, beside what is known to be a secret. It gets a text
    /// and says where the first secret is in it, in bytes, and then gets the rest, until it finds none.
    /// Of a text that is a value of [`event!`](crate::event), all is left out if it finds something.
    ///
    /// It is called on the thread that records, with each text that is recorded, before anything of the
    /// record is begun: also in signal handlers and in the panic hook, if the program records there. It must
    /// not panic, and should neither block nor take long. Of what it records itself all texts are left out.
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

    /// Records everything as it is: no name is a secret's, and texts are not looked at.
    pub fn reveal_secrets(mut self) -> Self {
        self.redaction.reveal_all = true;
        self
    }

    /// Records of `tracing` and of the `log` crate what this filter lets through, whatever level and
    /// targets subscribers and layers have been given. Unless it is set, those decide: INFO and above,
    /// if they were told nothing. [`Recorder::set_filter`] changes it while the recorder runs.
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

    /// Whether anything is recorded at all. If not, [`start`](Self::start) gives a recorder that does
    /// nothing and takes nothing: no memory, no thread. Its snapshots are empty.
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

    /// Which side pays for the order between writers and advances. The kernel's `membarrier` is
    /// used where there is one; this is for tests and for comparison.
    pub fn barrier(mut self, barrier: Barrier) -> Self {
        self.barrier = Some(barrier);
        self
    }

    /// Hands each completed generation to `sink`, in order, on a thread of its own. A sink that is
    /// too slow loses whole generations, which [`Stats::sink_lost`](crate::Stats::sink_lost)
    /// counts; it never holds up who records.
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Writes each completed generation to `out`, as a snapshot file that grows.
    pub fn stream_to(self, out: impl Write + Send + 'static) -> Self {
        self.sink(FileSink::new(out))
    }

    /// Starts recording.
    ///
    /// # Errors
    /// A setting makes no sense; this process is being recorded already; the operating system
    /// refuses memory or a thread.
    pub fn start(mut self) -> Result<Recorder, Error> {
        let sink = self.sink.take();
        Recorder::start(self.check()?, sink)
    }

    fn check(self) -> Result<Settings, Error> {
        let refuse = |name, value: String, reason| Err(Error::Setting { name, value, reason });
        let bytes = self.max_bytes;
        if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes) {
            return refuse("max_bytes", bytes.to_string(), "256 KiB to 16 GiB make sense");
        }
        if self.window < LEAST_PERIOD || self.window > MOST_WINDOW {
            let reason = "a millisecond to a week make sense";
            return refuse("window", format!("{:?}", self.window), reason);
        }
        if let Some(period) = self.generation_period {
            let value = format!("{period:?}");
            if !period.is_zero() && !(LEAST_PERIOD..=MOST_PERIOD).contains(&period) {
                let reason = "a millisecond to an hour make sense";
                return refuse("generation_period", value, reason);
            }
            if period > self.window {
                let reason = "it must not be longer than the window";
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
            let reason = "1 to 200 bytes make sense";
            return refuse("name", self.name.unwrap_or_default(), reason);
        }
        if self.snapshot_bounds.files == 0 || self.snapshot_bounds.bytes == 0 {
            let value = format!("{:?}", self.snapshot_bounds);
            return refuse("snapshot_limits", value, "at least one of both makes sense");
        }
        let Limits { text, kept, fields } = self.limits;
        if !(LEAST_TEXT..=Limits::USUAL.text).contains(&text) {
            return refuse("max_text_bytes", text.to_string(), "16 to 1024 are possible");
        }
        if !(LEAST_TEXT..=Limits::USUAL.kept).contains(&kept) {
            return refuse("max_kept_field_bytes", kept.to_string(), "16 to 240 are possible");
        }
        if !(1..=Limits::USUAL.fields).contains(&fields) {
            return refuse("max_fields", fields.to_string(), "1 to 64 are possible");
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
        assert!(refused(builder().max_bytes(0)).starts_with("max_bytes = 0: 256 KiB to"));
        assert!(refused(builder().max_bytes(usize::MAX)).contains("16 GiB"));
        assert!(refused(builder().window(Duration::ZERO)).contains("a millisecond to a week"));
        assert!(refused(builder().window(Duration::MAX)).starts_with("window = "));
        let tiny = Duration::from_nanos(1);
        assert!(refused(builder().generation_period(tiny)).starts_with("generation_period = 1ns"));
        assert!(
            refused(builder().generation_period(second * 11)).contains("longer than the window")
        );
        assert!(refused(builder().name("")).starts_with("name = "));
        assert!(refused(builder().max_text_bytes(1025)).ends_with("16 to 1024 are possible"));
        assert!(refused(builder().max_kept_field_bytes(15)).ends_with("16 to 240 are possible"));
        assert!(refused(builder().max_fields(0)).ends_with("1 to 64 are possible"));
        assert!(builder().generation_period(Duration::ZERO).check().is_ok());
        let short = builder().window(second).check().unwrap();
        assert_eq!(short.generation_period, second / 4);
    }

    #[test]
    fn a_window_is_of_no_more_generations_than_are_kept() {
        let second = Duration::from_secs(1);
        let period = |window| {
            Builder::default().window(window).check().unwrap().generation_period
        };
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
