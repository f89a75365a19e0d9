//! Takes snapshots, and describes them and the recording.

#![forbid(unsafe_code)]

use super::{PATIENCE, Shared};
use crate::arena::Arena;
use crate::error::Error;
use crate::record::filter;
use crate::record::site_registry;
use crate::recorder::stats::{CpuSampleStats, HeapStats, StackStats, Stats, SystemCounterStats};
use crate::recorder::trigger::request::Reason;
use crate::recorder::trigger::saver::Saver;
use crate::redact;
use crate::snapshot::cut::Wanted;
use crate::snapshot::part::Reach;
use crate::snapshot::sink::SinkThread;
use crate::snapshot::stream::Stream;
use crate::snapshot::window::Window;
use crate::snapshot::{Passing, Snapshot};
use lookback_snapshot::wire::{Loss, Metadata, Nanos, encode_event_table, key};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

impl Shared {
    pub(crate) fn snapshot(&self, reason: &str, trigger: &str) -> Result<Snapshot, Error> {
        if self.control.is_foreign() {
            return Err(Error::Forked);
        }
        self.standstill.let_it_be_told();
        self.tell_lock_waits();
        let window = self.snapshots.get(|| {
            // Include a generation that has only begun as it is, and also one that cannot be ended
            // now: there must be a snapshot all the same.
            if let Some(mut advancer) = self.advancer.try_lock_for(PATIENCE)
                && advancer.running().1 * 4 > self.settings.generation_period
            {
                let _ = advancer.advance(PATIENCE);
            }
            self.notify_sink();
            self.copy_window().map(Arc::new)
        })?;
        let metadata = self.describe(window.reach(), reason, trigger);
        Ok(Snapshot::new(window, metadata))
    }

    /// Takes a snapshot for triggers or a request. Must not wait for a thread that may be waiting
    /// for it, so it does without any lock that it cannot get. `more`: the number of reasons that
    /// were not kept. Writes directly to the file.
    pub(crate) fn snapshot_for(
        &self,
        whys: &[&Reason],
        more: u64,
        advance: bool,
    ) -> Result<Passing<'_, Arena>, Error> {
        if advance {
            self.standstill.let_it_be_told();
            self.tell_lock_waits();
        }
        if advance
            && let Some(mut advancer) = self.advancer.try_lock_for(PATIENCE)
            && advancer.running().1 * 4 > self.settings.generation_period
        {
            let _ = advancer.advance(PATIENCE);
        }
        if let Some(sink) = self.sink.try_lock()
            && let Some(sink) = &*sink
        {
            sink.notify();
        }
        let stream = Stream::begin(&*self.arena, self.mode, self.wanted())
            .map_err(|error| self.unreadable(error))?
            .ok_or(Error::Overtaken)?;
        let first = whys.first().map_or(("", ""), |why| (&why.reason, &why.trigger));
        let mut metadata = self.describe(stream.reach(), first.0, first.1);
        for why in whys.iter().skip(1) {
            metadata.add(key::REASON, why.reason.as_str());
            metadata.add(key::TRIGGER, why.trigger.as_str());
        }
        if more > 0 {
            metadata.add(key::MORE_REASONS, more);
        }
        for (name, value) in whys.iter().flat_map(|why| &why.details) {
            metadata.add(name, value.clone());
        }
        Ok(Passing { stream, metadata, stacks: None })
    }

    /// Writes the snapshot to the snapshot directory under this name.
    pub(crate) fn pass_on(
        &self,
        name: &str,
        snapshot: Passing<'_, Arena>,
    ) -> Result<PathBuf, Error> {
        self.saver.directory.save(name, |out| {
            let (_, reading) = snapshot.write_to(out, |error| self.unreadable(error))?;
            self.note_reading(reading);
            Ok(())
        })
    }

    pub(super) fn copy(&self, reason: &str, trigger: &str) -> Result<Snapshot, Error> {
        let window = self.copy_window()?;
        let metadata = self.describe(window.reach(), reason, trigger);
        Ok(Snapshot::new(Arc::new(window), metadata))
    }

    fn copy_window(&self) -> Result<Window, Error> {
        let began = Instant::now();
        let window = Window::copy(&*self.arena, self.mode, self.wanted())
            .map_err(|error| self.unreadable(error))?
            .ok_or(Error::Overtaken)?;
        self.note_reading(began.elapsed());
        Ok(window)
    }

    fn wanted(&self) -> Wanted {
        Wanted::Last(Nanos(self.settings.window.as_nanos() as u64))
    }

    fn unreadable(&self, error: io::Error) -> Error {
        Error::Read { path: self.settings.black_box.clone(), error }
    }

    fn note_reading(&self, time: Duration) {
        if let Some(mut timings) = self.timings.try_lock_for(PATIENCE) {
            timings.snapshots.record(time);
        }
    }

    fn describe(&self, reach: Option<Reach>, reason: &str, trigger: &str) -> Metadata {
        let mut metadata = self.metadata.clone();
        if let Some(reach) = &reach {
            reach.note(&mut metadata);
        }
        for (cause, count) in self.lost() {
            metadata.add(&format!("{}{cause}", key::LOST), count);
        }
        self.add_settings(&mut metadata, reason, trigger);
        if let Some(reach) = &reach {
            reach.note_shortness(&mut metadata);
        }
        metadata
    }

    pub(super) fn add_settings(&self, metadata: &mut Metadata, reason: &str, trigger: &str) {
        metadata.add(key::REASON, redact::scrubbed_string(reason.to_owned()).as_str());
        metadata.add(key::TRIGGER, trigger);
        metadata.add(key::TAKEN, crate::os::process::local_time());
        metadata.add(key::WINDOW, self.settings.window.as_nanos() as u64);
        metadata.add(key::MAX_BYTES, self.settings.max_bytes as u64);
        metadata.add(key::CLOCK, self.clock.name());
        for filter in filter::in_words() {
            metadata.add(key::FILTER, filter);
        }
        if site_registry::without() > 0 {
            metadata.add(key::NAMELESS, site_registry::without());
        }
        let unshared = self.control.strings().unshared();
        if unshared > 0 {
            metadata.add(key::UNSHARED_TEXTS, unshared);
        }
        let refused = self.control.refused_barriers.load(Ordering::Relaxed);
        if refused > 0 {
            metadata.add(key::REFUSED_BARRIERS, refused);
        }
        let stops = self.control.stops.load(Ordering::Relaxed);
        if stops > 0 {
            metadata.add(key::STOPS, stops);
        }
        let samples = CpuSampleStats::now(self.settings.cpu_samples);
        if let Some(trouble) = samples.trouble.filter(|_| samples.per_second > 0) {
            metadata.add(key::CPU_SAMPLES_TROUBLE, trouble);
        }
        let counters = SystemCounterStats::now(self.settings.system_counters);
        for trouble in &counters.troubles {
            metadata.add(key::SYSTEM_COUNTERS_TROUBLE, trouble.as_str());
        }
        if let Some(advancer) = self.advancer.try_lock_for(PATIENCE) {
            metadata.add(key::CLOCK_FREQUENCY, advancer.frequency());
            metadata.add(key::RECORDED, advancer.recorded());
        }
        metadata.add(key::EVENT_TABLE, encode_event_table());
    }

    pub(super) fn save(self: &Arc<Self>, reason: &str) -> Result<PathBuf, Error> {
        if self.control.is_foreign() {
            return Err(Error::Forked);
        }
        Saver::request(self, reason)
    }

    fn lost(&self) -> Vec<(Loss, u64)> {
        let since = |(cause, before): &(Loss, u64)| {
            let lost = self.control.lost(*cause) - before;
            (lost > 0).then_some((*cause, lost))
        };
        self.lost_before.iter().filter_map(since).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let mut advancer = self.advancer.lock();
        let ring = self.arena.ring();
        let (head, tail) = (ring.head.load(Ordering::Acquire), ring.tail.load(Ordering::Acquire));
        let (generation, kept) = (advancer.running().0.0, advancer.kept());
        let recorded = advancer.recorded();
        let timings = self.timings.lock();
        let sink = self.sink.lock();
        Stats {
            enabled: true,
            filters: filter::in_words(),
            nameless: site_registry::without(),
            unshared_texts: self.control.strings().unshared(),
            unlisted_lock_waits: crate::lock::tables::unlisted(),
            refused_barriers: self.control.refused_barriers.load(Ordering::Relaxed),
            stops: self.control.stops.load(Ordering::Relaxed),
            recorded,
            reclaimed: recorded.saturating_sub(kept),
            lost: self.lost(),
            omitted_fields: crate::record::fields::omitted(),
            generation,
            generations: generation + 1 - ring.oldest.load(Ordering::Acquire).min(generation),
            bytes: head.saturating_sub(tail),
            max_bytes: self.settings.max_bytes as u64,
            window: self.settings.window,
            snapshot_dir: self.settings.snapshot_dir.clone(),
            black_box: self.settings.black_box.clone(),
            threads: self.control.threads.load(Ordering::Relaxed),
            advances: timings.advances.summary(),
            waits: timings.waits.summary(),
            snapshots: timings.snapshots.summary(),
            sink_lost: sink.as_ref().map_or(0, SinkThread::lost),
            sink_error: sink.as_ref().and_then(SinkThread::error),
            clock: self.clock,
            clock_frequency: advancer.frequency(),
            barrier: self.barrier,
            unwind_tables: crate::stack::modules::unwind_tables(),
            stacks: StackStats::now(),
            cpu_samples: CpuSampleStats::now(self.settings.cpu_samples),
            system_counters: SystemCounterStats::now(self.settings.system_counters),
            heap: HeapStats::now(),
            armed: self.settings.triggers.iter().map(|t| t.name().to_owned()).collect(),
            triggers: self.saver.stats(),
            broken: advancer.broken().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::record::emit::counter;
    use crate::record::site::Site;
    use crate::recorder::{Recorder, current};
    use crate::testing::alone;

    static SITE: Site = Site::new("counted", &[], file!(), line!());

    #[test]
    fn who_still_asks_a_recorder_that_is_over_is_told_of_that_one_and_of_no_later_one() {
        let name = "recorder::snapshotting::tests::\
            who_still_asks_a_recorder_that_is_over_is_told_of_that_one_and_of_no_later_one";
        alone(name, || {
            let start = || Recorder::builder().max_bytes(256 << 10).start().unwrap();
            let first = start();
            let asked = current().unwrap();
            counter(&SITE, &1_u64);
            drop(first);
            let before = asked.stats();
            // The second arena reuses the first one's addresses unless the first is still held;
            // then it is unmapped.
            let second = start();
            (0..100_u64).for_each(|number| counter(&SITE, &number));
            let meanwhile = asked.stats();
            drop(second);
            for stats in [before, meanwhile, asked.stats()] {
                assert_eq!((stats.recorded, stats.reclaimed), (2, 0), "{stats:?}");
                assert_eq!(stats.generation, 1);
            }
        });
    }
}
