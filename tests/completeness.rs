//! Invariant 2: a complete generation can be read without any other: every id in it is defined in it, every
//! live thread has a status in it, every open region is restated in it.
//!
//! Each complete generation is taken out of its snapshot and read from a file that holds nothing else.
//! Regions stay open across boundaries, on threads that write and on threads that are blocked for ten
//! generations; one thread has more of them than the recorder restates; others exit meanwhile.

mod common;

use lookback::read::file::FileWriter;
use lookback::read::wire::Generation;
use lookback::read::{DecodedGeneration, EventKind, Trace};
use lookback::{GenerationFrame, Metadata, Recorder, Sink};
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Files, by the number of the one generation in each.
type Files = Arc<Mutex<BTreeMap<u64, Vec<u8>>>>;

/// Makes a file for each generation.
struct Apart(Files);

impl Sink for Apart {
    fn generation(
        &mut self,
        metadata: &Metadata,
        generation: &mut GenerationFrame<'_>,
    ) -> io::Result<()> {
        let mut writer = FileWriter::new(Vec::new(), metadata)?;
        writer.generation(generation)?;
        let file = writer.finish()?;
        self.0.lock().expect("no test panics with it").insert(generation.number.0, file);
        Ok(())
    }
}

/// What a puppet does next, with the regions that it holds open.
type Step = Box<dyn FnOnce(&mut Vec<lookback::Region>) + Send>;

/// A thread that acts on command, a step at a time, and is blocked in between.
struct Puppet {
    steps: Sender<Step>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Puppet {
    fn start(name: &str) -> Self {
        let (steps, received) = channel::<Step>();
        let (finished, done) = channel();
        let work = move || {
            let mut open = Vec::new();
            for step in received {
                step(&mut open);
                finished.send(()).expect("the test waits for it");
            }
            // The innermost first, as guards would.
            while open.pop().is_some() {}
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        Self { steps, done, thread: thread.expect("a thread") }
    }

    fn step(&self, step: impl FnOnce(&mut Vec<lookback::Region>) + Send + 'static) {
        self.steps.send(Box::new(step)).expect("it waits for steps");
        self.done.recv().expect("it does not panic");
    }

    fn end(self) {
        drop(self.steps);
        self.thread.join().expect("it does not panic");
    }
}

/// A thread's status: its name, its open regions with their start times, and how many more there are.
type Status = (String, Vec<(String, u64)>, u64);

fn statuses(generation: &DecodedGeneration) -> BTreeMap<String, Status> {
    let mut found = BTreeMap::new();
    for state in generation.statuses() {
        let name = state.thread().expect("a status is of a thread").name.to_string();
        let regions = state.regions().map(|r| (r.site.name.to_owned(), r.began.0)).collect();
        let before = found.insert(name.clone(), (name.clone(), regions, state.deeper()));
        assert!(before.is_none(), "{name} is stated twice");
    }
    found
}

/// The events of a generation, as text: what happened, on which thread, when.
fn listing(generation: &DecodedGeneration) -> Vec<String> {
    let line = |event: Result<lookback::read::Event, _>| {
        let event = event.expect("no event is damaged");
        let thread = event.thread().map(|thread| thread.name.to_string());
        let fields: Vec<_> = event.fields().map(|(n, v)| format!("{n}={v}")).collect();
        let (kind, name, ticks) = (event.kind_name(), event.name(), event.ticks().0);
        format!("{ticks} {thread:?} {kind} {name} {fields:?}")
    };
    generation.events().map(line).collect()
}

/// The file without all frames but that of one generation (and the metadata).
fn only(file: &[u8], trace: &Trace, number: Generation) -> Vec<u8> {
    let generations = trace.generations();
    let front = generations[0].offset as usize;
    let wanted = generations.iter().find(|g| g.number == number).expect("it is there");
    let frame = wanted.offset as usize..(wanted.offset + wanted.compressed) as usize;
    [&file[..front], &file[frame]].concat()
}

#[test]
fn every_complete_generation_decodes_with_all_others_removed() {
    common::alone("every_complete_generation_decodes_with_all_others_removed", || {
        let files = Files::default();
        let recorder = Recorder::builder()
            .window(Duration::from_secs(3600))
            .max_bytes(8 << 20)
            .generation_period(Duration::from_secs(3600))
            .sink(Apart(Arc::clone(&files)))
            .start()
            .expect("a recorder starts");
        let (sleeper, deep) = (Puppet::start("sleeper"), Puppet::start("deep"));
        let (worker, idle) = (Puppet::start("worker"), Puppet::start("idle"));
        sleeper.step(|open| {
            open.push(lookback::region!("asleep"));
            open.push(lookback::region!("waiting for a lock"));
        });
        deep.step(|open| {
            for number in 0..70_u64 {
                open.push(lookback::region!("nested"));
                lookback::counter!("depth", number);
            }
        });
        idle.step(|_| lookback::event!("has been here"));
        worker.step(|open| open.push(lookback::region!("at work")));
        const BOUNDARIES: u64 = 12;
        for round in 0..BOUNDARIES {
            // The same text and the same site each time, but another schema; and threads come and go.
            worker.step(move |open| {
                open.push(lookback::region!("for two generations"));
                if round > 0 {
                    drop(open.remove(1));
                }
                for _ in 0..3 {
                    lookback::event!("item", round = round, text = "a text that recurs");
                    lookback::log!("work", "round {} of {BOUNDARIES}", round);
                }
            });
            let guest = Puppet::start("guest");
            guest.step(move |open| {
                open.push(lookback::region!("visiting"));
                lookback::event!("item", round = round, text = "a text that recurs");
            });
            common::advance(&recorder);
            // It exits, with a region open, in the generation after the one in which it wrote.
            guest.end();
        }
        // The blocked threads continue, after more than ten generations.
        sleeper.step(|open| {
            lookback::event!("awake");
            while open.pop().is_some() {}
        });
        deep.step(|open| while open.pop().is_some() {});
        common::advance(&recorder);
        [sleeper, deep, worker, idle].into_iter().for_each(Puppet::end);
        common::advance(&recorder);

        let snapshot = recorder.snapshot().expect("a snapshot is taken");
        let mut file = Vec::new();
        snapshot.write_to(&mut file).expect("memory takes it");
        let last = recorder.stop().expect("it stops");
        let trace = Trace::from_bytes(file.clone()).expect("it can be read");
        common::assert_sound(&trace);
        common::assert_sound(&common::read(&last));
        let files = files.lock().expect("no test panics with it");
        let mut began = BTreeMap::new();
        let complete: Vec<_> = trace.generations().iter().filter(|g| g.complete).collect();
        assert!(complete.len() as u64 >= BOUNDARIES + 2, "{} are complete", complete.len());
        for info in complete {
            let number = info.number;
            let among_others = trace.generation(number).expect("it can be read");
            // Alone in a file, the generation says the same; and the sink got the same, too.
            let alone = Trace::from_bytes(only(&file, &trace, number)).expect("it can be read");
            let handed = Trace::from_bytes(files[&number.0].clone()).expect("it can be read");
            common::assert_sound(&handed);
            for other in [&alone, &handed] {
                assert_eq!(other.generations().len(), 1);
                let generation = other.generation(number).expect("it can be read alone");
                common::assert_complete_in_itself(&generation);
                assert_eq!(listing(&generation), listing(&among_others), "generation {number}");
                assert_eq!(statuses(&generation), statuses(&among_others), "generation {number}");
                assert_eq!(common::events(other).count() as u64, info.events);
            }
            check_statuses(number.0, &statuses(&among_others), &mut began);
        }
        check_ends(&trace);
    });
}

/// The threads that existed when generation `number` began, and what each had open.
fn check_statuses(
    number: u64,
    stated: &BTreeMap<String, Status>,
    began: &mut BTreeMap<String, Vec<u64>>,
) {
    // In the first generation they all start; after the last boundary they end.
    if !(2..=13).contains(&number) {
        return;
    }
    let names = |thread: &str| -> Vec<&str> {
        let status = stated.get(thread).unwrap_or_else(|| panic!("{number}: where is {thread}?"));
        status.1.iter().map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(names("sleeper"), ["asleep", "waiting for a lock"], "generation {number}");
    assert_eq!(names("deep"), ["nested"; 64], "generation {number}");
    assert_eq!(stated["deep"].2, 6, "generation {number}: deeper than is restated");
    assert_eq!(names("idle"), [""; 0], "generation {number}");
    assert_eq!(names("worker"), ["at work", "for two generations"], "generation {number}");
    assert_eq!(names("guest"), ["visiting"], "generation {number}");
    // The start times are the same in each generation, to the precision with which a generation of a few
    // milliseconds converts a time long before it.
    for thread in ["sleeper", "deep"] {
        let times: Vec<_> = stated[thread].1.iter().map(|(_, began)| *began).collect();
        assert!(times.is_sorted(), "{thread}: an inner region begins later: {times:?}");
        let first = began.entry(thread.to_owned()).or_insert_with(|| times.clone());
        for (time, first) in times.iter().zip(first) {
            let apart = Duration::from_nanos(time.abs_diff(*first));
            assert!(apart < Duration::from_secs(5), "{thread}: began {apart:?} apart");
        }
    }
}

/// Every end has its region.
fn check_ends(trace: &Trace) {
    let (mut ends, mut unknown) = (BTreeMap::new(), 0);
    for event in common::events(trace) {
        if let EventKind::RegionEnd { site, duration, .. } = event.kind() {
            match site {
                Some(site) => {
                    assert!(duration.is_some(), "{}: how long it took is known", site.name);
                    *ends.entry(site.name.to_owned()).or_insert(0) += 1;
                }
                None => unknown += 1,
            }
        }
    }
    // Six of seventy were deeper than the recorder restates.
    assert_eq!((ends["nested"], unknown), (64, 6));
    assert_eq!((ends["asleep"], ends["waiting for a lock"]), (1, 1));
    assert_eq!((ends["for two generations"], ends["visiting"]), (12, 12));
}
