//! Invariants 3, 8 and 11 where the output does not cooperate: a snapshot is saved whole or not at all, with
//! an error of one line that names the file; a sink that is slow, fails or panics harms only itself, and that
//! is reported; a stream has every generation in order, and a cut one yields all of its whole generations.

mod common;

use lookback::read::Trace;
use lookback::{Error, GenerationFrame, Recorder, Snapshot};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn builder() -> lookback::Builder {
    Recorder::builder()
        .found_ranges(false)
        .window(Duration::from_secs(3600))
        .max_bytes(4 << 20)
        .generation_period(Duration::from_secs(3600))
}

/// Data that does not compress to nothing.
fn write_noise(events: u64) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..events {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        lookback::event!("noise", number = state);
    }
}

fn names_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Saving there fails with one line that names the file, and leaves nothing behind.
fn assert_refused(snapshot: &Snapshot, path: &Path, kinds: &[ErrorKind]) {
    let error = snapshot.save(path).expect_err("this cannot be written");
    let words = error.to_string();
    assert!(words.contains(&*path.to_string_lossy()), "{words} does not name {}", path.display());
    assert!(!words.contains('\n'), "more than a line: {words}");
    let Error::File { error, .. } = error else { panic!("{error:?} is about no file") };
    assert!(kinds.contains(&error.kind()), "{:?}: {words}", error.kind());
    println!("::{words}");
}

#[test]
fn what_cannot_be_saved_is_an_error_that_names_the_file() {
    common::alone("what_cannot_be_saved_is_an_error_that_names_the_file", || {
        let recorder = builder().start().expect("a recorder starts");
        write_noise(20_000);
        let snapshot = recorder.snapshot().expect("a snapshot is taken");
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();

        assert_refused(&snapshot, &root.join("missing/a.lbk"), &[ErrorKind::NotFound]);
        fs::write(root.join("file"), "what was there").expect("it can be written");
        assert_refused(&snapshot, &root.join("file/a.lbk"), &[ErrorKind::NotADirectory]);
        fs::create_dir(root.join("a directory")).expect("it can be made");
        let taken = [ErrorKind::IsADirectory, ErrorKind::AlreadyExists, ErrorKind::NotADirectory];
        assert_refused(&snapshot, &root.join("a directory"), &taken);
        assert_refused(&snapshot, Path::new("/"), &taken);
        let long = root.join("n".repeat(256));
        assert_refused(&snapshot, &long, &[ErrorKind::InvalidFilename]);
        assert_refused(
            &snapshot,
            Path::new("/proc/self/a.lbk"),
            &[ErrorKind::NotFound, ErrorKind::PermissionDenied],
        );
        let locked = root.join("locked");
        fs::create_dir(&locked).expect("it can be made");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("it can be locked");
        // Root may write there all the same.
        if File::create(locked.join("probe")).is_err() {
            assert_refused(&snapshot, &locked.join("a.lbk"), &[ErrorKind::PermissionDenied]);
            assert!(names_in(&locked).is_empty(), "something was left behind");
        }
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).expect("it can be undone");
        let mut left: Vec<_> = names_in(root);
        left.sort();
        let expected = ["a directory", "file", "locked"].map(|name| root.join(name));
        assert_eq!(left, expected, "something was left behind");
        assert_eq!(fs::read(root.join("file")).expect("it is there"), b"what was there");

        // A limit on file sizes is an error, too, and does not end the process.
        // SAFETY: the disposition is a valid one.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let limit = libc::rlimit { rlim_cur: 4096, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: `limit` is valid.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        assert_refused(&snapshot, &root.join("large.lbk"), &[ErrorKind::FileTooLarge]);
        assert!(!root.join("large.lbk").exists());
        assert_eq!(names_in(root).len(), 3, "something was left behind");
        drop(recorder);
    });
}

#[test]
fn a_snapshot_directory_is_made_and_one_that_cannot_be_is_named() {
    common::alone("a_snapshot_directory_is_made_and_one_that_cannot_be_is_named", || {
        let directory = tempfile::tempdir().expect("a directory");
        let wanted = directory.path().join("made/when/needed");
        let recorder = builder().snapshot_dir(&wanted).start().expect("a recorder starts");
        lookback::event!("here");
        let paths = [recorder.save("first"), recorder.save("second"), lookback::save("third")];
        let paths = paths.map(|path| path.expect("it can be saved"));
        let mut there = names_in(&wanted);
        there.sort();
        let mut expected = paths.to_vec();
        expected.sort();
        assert_eq!(there, expected, "three files, of three names, and nothing else");
        for (path, reason) in paths.iter().zip(["first", "second", "third"]) {
            let trace = Trace::open(path).expect("it can be read");
            common::assert_sound(&trace);
            let key = lookback::read::wire::key::REASON;
            assert_eq!(trace.metadata().text(key), Some(reason));
        }
        drop(recorder);
        let file = directory.path().join("file");
        fs::write(&file, "").expect("it can be written");
        let refused = builder().snapshot_dir(file.join("x")).start();
        let words = refused.expect_err("it is a file").to_string();
        assert!(words.contains(&*file.to_string_lossy()) && !words.contains('\n'), "{words}");
    });
}

/// Mounts a tmpfs of this many bytes. `false` if this process may not.
fn mount(at: &Path, bytes: usize) -> bool {
    let place = CString::new(at.as_os_str().as_bytes()).expect("a path has no zero");
    let options = CString::new(format!("size={bytes}")).expect("there is no zero");
    // SAFETY: all strings end with a zero.
    let mounted = unsafe {
        libc::mount(c"none".as_ptr(), place.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast())
    };
    mounted == 0
}

fn unmount(at: &Path) {
    let place = CString::new(at.as_os_str().as_bytes()).expect("a path has no zero");
    // SAFETY: the string ends with a zero.
    unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
}

/// Takes this many bytes and no more, like a full disk.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        if taken == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_left_behind() {
    common::alone("a_full_disk_is_an_error_and_nothing_is_left_behind", || {
        let recorder = builder().start().expect("a recorder starts");
        write_noise(50_000);
        let snapshot = recorder.snapshot().expect("a snapshot is taken");
        let mut whole = Vec::new();
        snapshot.write_to(&mut whole).expect("memory takes it");

        let directory = tempfile::tempdir().expect("a directory");
        if mount(directory.path(), whole.len() / 2) {
            let path = directory.path().join("a.lbk");
            fs::write(&path, "the one before").expect("there is room for this");
            let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert_refused(&snapshot, &path, &[ErrorKind::StorageFull]);
                assert_eq!(names_in(directory.path()), [path.as_path()], "left behind");
                assert_eq!(fs::read(&path).expect("it is there"), b"the one before");
            }));
            unmount(directory.path());
            refused.expect("a full tmpfs is an error");
        } else {
            println!("::no tmpfs may be mounted here");
        }

        let device = File::options().write(true).open("/dev/full").expect("Linux has one");
        let words = snapshot.write_to(device).expect_err("it is full").to_string();
        assert!(words.starts_with("writing the snapshot: ") && !words.contains('\n'), "{words}");
        for room in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
            let error = snapshot.write_to(Full(room)).expect_err("it is full");
            let Error::Write(error) = error else { panic!("{error:?}") };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "room for {room}");
        }
        snapshot.write_to(Full(whole.len())).expect("there is room");
        // None of this has harmed the recorder or the snapshot.
        assert!(recorder.stop().is_ok());
        let mut again = Vec::new();
        snapshot.write_to(&mut again).expect("memory takes it");
        assert_eq!(again, whole);
    });
}

#[test]
fn a_slow_sink_loses_whole_generations_and_holds_nobody_up() {
    common::alone("a_slow_sink_loses_whole_generations_and_holds_nobody_up", || {
        const GENERATIONS: u64 = 300;
        let (release, released) = channel::<()>();
        let got = Arc::new(Mutex::new(Vec::new()));
        let sink = {
            let got = Arc::clone(&got);
            move |frame: &mut GenerationFrame<'_>| -> io::Result<()> {
                got.lock().expect("no panic").push(frame.number.0);
                // A sink that is stuck until the test releases it.
                let _ = released.recv();
                Ok(())
            }
        };
        let recorder =
            builder().max_bytes(512 << 10).sink(sink).start().expect("a recorder starts");
        for _ in 0..GENERATIONS {
            write_noise(500);
            common::advance(&recorder);
        }
        let stats = recorder.stats();
        // While the sink is stuck, writes are recorded and snapshots are taken.
        assert_eq!(stats.recorded, GENERATIONS * 500 + 1, "{stats:?}");
        assert_eq!(stats.lost_in_all(), 0, "{stats:?}");
        common::assert_sound(&common::read(&recorder.snapshot().expect("a snapshot is taken")));
        assert!(got.lock().expect("no panic").len() <= 1, "the sink is stuck");
        drop(release);
        let complete = recorder.stats().generation - 1;
        let all_there = || {
            let got = got.lock().expect("no panic").len() as u64;
            got + recorder.stats().sink_lost == complete
        };
        let settled = common::wait_for(all_there);
        let (got, stats) = (got.lock().expect("no panic").clone(), recorder.stats());
        let handed = got.len();
        assert!(settled, "{handed} handed over, {} lost, of {complete}", stats.sink_lost);
        assert!(got.is_sorted_by(|a, b| a < b), "in order, and none twice: {got:?}");
        assert_eq!(got.last(), Some(&complete), "the newest one is there");
        assert!(stats.sink_lost > 0, "an arena of this size does not hold {GENERATIONS}");
        println!("::{handed} handed over, {} lost", stats.sink_lost);
        recorder.stop().expect("it stops");
    });
}

#[test]
fn a_sink_that_never_returns_does_not_keep_the_recording_from_its_end() {
    common::alone("a_sink_that_never_returns_does_not_keep_the_recording_from_its_end", || {
        let sink = |_: &mut GenerationFrame<'_>| -> io::Result<()> {
            loop {
                std::thread::park();
            }
        };
        let recorder = builder().sink(sink).start().expect("a recorder starts");
        write_noise(10);
        common::advance(&recorder);
        write_noise(10);
        let last = recorder.stop().expect("it stops");
        assert_eq!(last.events(), 21, "everything is there");
        // Another recording may begin.
        let recorder = builder().start().expect("a recorder starts");
        write_noise(10);
        assert_eq!(recorder.stop().expect("it stops").events(), 10);
    });
}

#[test]
fn a_sink_that_fails_is_given_up_and_it_is_said() {
    common::alone("a_sink_that_fails_is_given_up_and_it_is_said", || {
        let calls = Arc::new(AtomicU64::new(0));
        let sink = {
            let calls = Arc::clone(&calls);
            move |_: &mut GenerationFrame<'_>| -> io::Result<()> {
                match calls.fetch_add(1, Ordering::SeqCst) {
                    0 | 1 => Ok(()),
                    _ => Err(io::Error::other("the line is dead")),
                }
            }
        };
        let recorder = builder().sink(sink).start().expect("a recorder starts");
        for _ in 0..2 {
            assert_eq!(recorder.stats().sink_error, None);
            write_noise(10);
            common::advance(&recorder);
        }
        assert!(common::wait_for(|| calls.load(Ordering::SeqCst) == 2), "two are handed over");
        for _ in 0..3 {
            write_noise(10);
            common::advance(&recorder);
        }
        assert!(common::wait_for(|| recorder.stats().sink_error.is_some()), "the error is told");
        let words = recorder.stats().sink_error.expect("it is told");
        assert!(words.contains("the line is dead") && !words.contains('\n'), "{words}");
        assert_eq!(calls.load(Ordering::SeqCst), 3, "it is not asked again");
        assert_eq!(recorder.stop().expect("it stops").events(), 51);
    });
}

#[test]
fn a_sink_that_panics_is_given_up_and_it_is_said() {
    common::alone("a_sink_that_panics_is_given_up_and_it_is_said", || {
        let sink = |_: &mut GenerationFrame<'_>| -> io::Result<()> { panic!("on purpose") };
        let recorder = builder().sink(sink).start().expect("a recorder starts");
        write_noise(10);
        common::advance(&recorder);
        write_noise(10);
        common::advance(&recorder);
        assert!(common::wait_for(|| recorder.stats().sink_error.is_some()), "nobody is told");
        let words = recorder.stats().sink_error.expect("it is told");
        assert!(words.contains("panic"), "{words}");
        let trace = common::read(&recorder.stop().expect("it stops"));
        let of_sink = |event: &lookback::read::Event| {
            event.thread().is_some_and(|thread| &*thread.name == "lookback-sink")
        };
        let (sinks, others): (Vec<_>, Vec<_>) = common::events(&trace).partition(of_sink);
        assert_eq!(others.len(), 21);
        assert!(sinks.iter().any(|event| event.name() == "panic"), "its panic is in the trace");
    });
}

/// A writer whose bytes the test can read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stream_has_every_generation_in_order_and_is_good_up_to_any_cut() {
    common::alone("a_stream_has_every_generation_in_order_and_is_good_up_to_any_cut", || {
        let out = Shared::default();
        let recorder = builder().stream_to(out.clone()).start().expect("a recorder starts");
        let go_on = Arc::new(AtomicBool::new(true));
        let other = std::thread::spawn({
            let go_on = Arc::clone(&go_on);
            move || {
                let _region = lookback::region!("over all of it");
                while go_on.load(Ordering::Relaxed) {
                    lookback::log!("beside", "a text that recurs");
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        });
        const GENERATIONS: u64 = 12;
        for number in 0..GENERATIONS {
            write_noise(50);
            lookback::event!("numbered", number = number);
            common::advance(&recorder);
        }
        go_on.store(false, Ordering::Relaxed);
        other.join().expect("no panic");
        let last = recorder.stop().expect("it stops");
        let file = out.0.lock().expect("no panic").clone();

        let trace = Trace::from_bytes(file.clone()).expect("it can be read");
        common::assert_sound(&trace);
        let generations = trace.generations();
        assert!(generations.len() as u64 >= GENERATIONS, "{} generations", generations.len());
        for (info, number) in generations.iter().zip(1..) {
            assert_eq!((info.number.0, info.complete), (number, true), "in order, all of them");
        }
        let recorded = common::recorded(&common::read(&last));
        assert_eq!(common::events(&trace).count() as u64, recorded, "every event is in the stream");
        let numbers: Vec<_> = common::events(&trace)
            .filter(|event| event.name() == "numbered")
            .filter_map(|event| common::number(&event, "number"))
            .collect();
        assert_eq!(numbers, (0..GENERATIONS).collect::<Vec<_>>());

        // Cut anywhere after the metadata, the file has the whole generations before the cut.
        let ends: Vec<_> = generations.iter().map(|info| info.offset + info.compressed).collect();
        let counts: Vec<_> = generations.iter().map(|info| info.events).collect();
        let front = generations[0].offset as usize;
        let step = if common::long() { 1 } else { (file.len() - front) / 300 + 1 };
        let about_ends = ends.iter().flat_map(|end| (end - 2..=end + 2).map(|at| at as usize));
        for length in (front..file.len()).step_by(step).chain(about_ends) {
            let whole = ends.iter().filter(|end| **end <= length as u64).count();
            let cut = Trace::from_bytes(file[..length].to_vec())
                .unwrap_or_else(|error| panic!("cut at {length}: {error}"));
            let found: Vec<_> = cut
                .generations()
                .iter()
                .filter(|info| info.damage.is_none())
                .map(|info| info.events)
                .collect();
            assert_eq!(found, counts[..whole], "cut at {length}");
            let events = cut.events().filter(Result::is_ok).count() as u64;
            assert_eq!(events, counts[..whole].iter().sum::<u64>(), "cut at {length}");
        }
    });
}

#[test]
fn a_stream_to_a_full_disk_is_given_up_and_good_up_to_there() {
    common::alone("a_stream_to_a_full_disk_is_given_up_and_good_up_to_there", || {
        /// Keeps what fits.
        struct Small(Shared, usize);
        impl Write for Small {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let taken = bytes.len().min(self.1);
                if taken == 0 {
                    return Err(ErrorKind::StorageFull.into());
                }
                self.1 -= taken;
                self.0.write(&bytes[..taken])
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let out = Shared::default();
        let small = Small(out.clone(), 20_000);
        let recorder = builder().stream_to(small).start().expect("a recorder starts");
        for _ in 0..20 {
            write_noise(200);
            common::advance(&recorder);
        }
        assert!(common::wait_for(|| recorder.stats().sink_error.is_some()), "the error is told");
        let recorded = recorder.stats().recorded;
        assert_eq!(recorded, 20 * 200 + 1, "nothing is lost because of it");
        let trace = Trace::from_bytes(out.0.lock().expect("no panic").clone()).expect("a file");
        let whole: Vec<_> = trace.generations().iter().filter(|g| g.damage.is_none()).collect();
        assert!(!whole.is_empty() && whole.len() < 20, "{} generations", whole.len());
        assert!(whole.iter().zip(1..).all(|(info, number)| info.number.0 == number));
        recorder.stop().expect("it stops");
    });
}
