//! A snapshot is saved where its user says, and nothing else changes there: a file is replaced as a whole and
//! keeps its mode and owner, a link is followed, and anything but a file stays what it is.

mod common;

use lookback::read::Trace;
use lookback::{Error, Recorder, Snapshot};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

fn snapshot() -> Snapshot {
    let recorder = Recorder::builder().max_bytes(1 << 20).start().expect("a recorder starts");
    lookback::event!("only one", n = 1);
    recorder.stop().expect("nobody is stuck")
}

/// Whether a program ran and succeeded.
fn run(program: &str, arguments: &[&str]) -> bool {
    let ran = Command::new(program).args(arguments).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    // SAFETY: the call has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn holds_one_event(path: &Path) -> bool {
    let trace = Trace::open(path).expect("it can be read");
    common::events(&trace).filter(|event| event.name() == "only one").count() == 1
}

#[test]
fn what_is_no_file_is_written_to_and_stays_what_it_is() {
    common::alone("what_is_no_file_is_written_to_and_stays_what_it_is", || {
        let snapshot = snapshot();
        let place = tempfile::tempdir().unwrap();
        let mut whole = Vec::new();
        snapshot.write_to(&mut whole).unwrap();

        // Copies of `/dev/null` and `/dev/full`, if this process may create and use them.
        for (name, minor) in [("null", "3"), ("full", "7")] {
            let device = place.path().join(name);
            let made = is_root() && run("mknod", &[device.to_str().unwrap(), "c", "1", minor]);
            if !made || File::options().write(true).open(&device).is_err() {
                let _ = fs::remove_file(&device);
                eprintln!("{name}: no device can be made here");
                continue;
            }
            let before = fs::metadata(&device).unwrap();
            let saved = snapshot.save(&device);
            if name == "null" {
                saved.expect("it takes everything");
            } else {
                let error = saved.expect_err("it is full");
                assert!(error.to_string().contains("full: "), "{error}");
            }
            let after = fs::symlink_metadata(&device).unwrap();
            assert!(after.file_type().is_char_device(), "{name} is a device still");
            assert_eq!((before.ino(), before.rdev()), (after.ino(), after.rdev()));
        }

        let fifo = place.path().join("pipe");
        assert!(run("mkfifo", &[fifo.to_str().unwrap()]));
        let read = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo).unwrap()
        });
        snapshot.save(&fifo).expect("somebody reads it");
        assert_eq!(read.join().unwrap(), whole);
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());

        // The path of a descriptor leads to a file, whose content stays.
        let file = place.path().join("appended");
        fs::write(&file, "before").unwrap();
        let open = File::options().append(true).open(&file).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        snapshot.save(format!("/proc/self/fd/{number}")).expect("it is open for writing");
        let mut content = Vec::new();
        File::open(&file).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), open.metadata().unwrap().ino());
        assert!(names(place.path()).iter().all(|name| !name.ends_with(".tmp")));
        assert_eq!(content, [b"before", &whole[..]].concat());
    });
}

#[test]
fn a_file_that_is_replaced_keeps_its_mode_and_its_owner() {
    common::alone("a_file_that_is_replaced_keeps_its_mode_and_its_owner", || {
        let snapshot = snapshot();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.lbk");
        snapshot.save(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600, "a new one is its owner's");
        for mode in [0o644, 0o660, 0o200] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let before = fs::metadata(&path).unwrap();
            snapshot.save(&path).unwrap();
            let after = fs::metadata(&path).unwrap();
            assert_eq!(after.mode() & 0o7777, mode);
            assert_ne!(before.ino(), after.ino(), "it is another file");
        }
        if is_root() && chown(&path, Some(4711), Some(4712)).is_ok() {
            snapshot.save(&path).unwrap();
            let after = fs::metadata(&path).unwrap();
            assert_eq!((after.uid(), after.gid()), (4711, 4712));
        }
        assert_eq!(names(place.path()), ["a.lbk"]);
    });
}

#[test]
fn links_are_followed_also_to_what_is_not_there_yet() {
    common::alone("links_are_followed_also_to_what_is_not_there_yet", || {
        let snapshot = snapshot();
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("far")).unwrap();
        fs::write(at("far/there.lbk"), "old").unwrap();
        let links = [
            ("link", "far/there.lbk", "far/there.lbk"),
            ("dangling", "far/new.lbk", "far/new.lbk"),
            ("twice", "link", "far/there.lbk"),
        ];
        for (name, to, target) in links {
            symlink(to, at(name)).unwrap();
            snapshot.save(at(name)).unwrap();
            assert_eq!(fs::read_link(at(name)).unwrap(), Path::new(to), "{name} is still a link");
            assert!(holds_one_event(&at(target)), "{name}");
            fs::remove_file(at(target)).unwrap();
        }
        symlink("round", at("round")).unwrap();
        let error = snapshot.save(at("round")).unwrap_err().to_string();
        assert!(error.contains("links"), "{error}");
        assert_eq!(names(&at("far")), Vec::<String>::new());
    });
}

#[test]
fn what_cannot_be_saved_to_is_an_error_that_names_it_and_leaves_it_alone() {
    common::alone("what_cannot_be_saved_to_is_an_error_that_names_it_and_leaves_it_alone", || {
        let snapshot = snapshot();
        let place = tempfile::tempdir().unwrap();
        let refused = |path: &Path, why: &str| {
            let error = snapshot.save(path).unwrap_err();
            let Error::File { .. } = &error else { panic!("{error} is about no file") };
            let error = error.to_string();
            assert!(error.contains(path.to_str().unwrap()) && error.contains(why), "{error}");
            assert!(!error.contains('\n'), "{error}");
        };
        refused(place.path(), "a directory; name a file in it");
        refused(&place.path().join("no/such.lbk"), "No such file");
        refused(&place.path().join(".."), "a directory");
        symlink(place.path(), place.path().join("link")).unwrap();
        refused(&place.path().join("link"), "a directory");
        let socket = place.path().join("socket");
        if let Ok(_listener) = std::os::unix::net::UnixListener::bind(&socket) {
            refused(&socket, "No such device");
            assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
        }
        let sealed = place.path().join("sealed.lbk");
        fs::write(&sealed, "sealed").unwrap();
        fs::set_permissions(&sealed, fs::Permissions::from_mode(0o444)).unwrap();
        // The superuser may write to anything.
        if !is_root() {
            refused(&sealed, "ermission denied");
            assert_eq!(fs::read(&sealed).unwrap(), b"sealed");
        }
        assert_eq!(names(place.path()).iter().filter(|n| n.ends_with(".tmp")).count(), 0);
    });
}

/// The files of a directory that existed at one instant, by inode, with their least lengths then.
fn at_one_time(directory: &Path) -> Vec<u64> {
    let look = || -> HashMap<u64, u64> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let metadata = entries.filter_map(|entry| fs::symlink_metadata(entry.path()).ok());
        metadata.map(|metadata| (metadata.ino(), metadata.len())).collect()
    };
    // A file that is in both listings existed in between, and files only grow.
    let (first, second) = (look(), look());
    let both = first.into_iter().filter(|(inode, _)| second.contains_key(inode));
    both.map(|(_, length)| length).collect()
}

#[test]
fn many_that_save_at_once_keep_the_limits_and_each_has_what_it_recorded_before() {
    const THREADS: u64 = 50;
    common::alone(
        "many_that_save_at_once_keep_the_limits_and_each_has_what_it_recorded_before",
        || {
            let place = tempfile::tempdir().unwrap();
            let directory = place.path().to_owned();
            let (files, bytes) = (4, 3 << 20);
            let recorder = Recorder::builder()
                .max_bytes(2 << 20)
                .window(Duration::from_secs(3600))
                .snapshot_dir(&directory)
                .snapshot_limits(files, bytes)
                .start()
                .expect("a recorder starts");
            // Incompressible data, so that a file is about as large as the arena.
            let mut random = 1_u64;
            for _ in 0..100_000 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                lookback::event!("noise", random = random);
            }
            let over = AtomicBool::new(false);
            let (most_files, most_bytes, paths) = std::thread::scope(|scope| {
                let watch = scope.spawn(|| {
                    let mut most = (0, 0);
                    while !over.load(Ordering::Relaxed) {
                        let there = at_one_time(&directory);
                        most.0 = most.0.max(there.len());
                        most.1 = most.1.max(there.iter().sum());
                    }
                    most
                });
                let save = |n: u64| {
                    lookback::event!("mine", n = n);
                    let path = recorder.save(&format!("thread {n}")).expect("there is room");
                    // The limits may delete the last ones at once.
                    let looked_at =
                        if n.is_multiple_of(10) { Trace::open(&path).ok() } else { None };
                    let has_it = looked_at.map(|trace| {
                        let mine = |event: &lookback::read::Event| {
                            event.name() == "mine" && common::number(event, "n") == Some(n)
                        };
                        common::events(&trace).any(|event| mine(&event))
                    });
                    assert_ne!(has_it, Some(false), "thread {n} recorded it before it asked");
                    path
                };
                let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || save(n))).collect();
                let paths: HashSet<_> =
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect();
                over.store(true, Ordering::Relaxed);
                let (files, bytes) = watch.join().unwrap();
                (files, bytes, paths)
            });
            println!("saving::{} files for {THREADS} threads", paths.len());
            assert!(most_files <= files, "{most_files} files at one time");
            assert!(most_bytes <= bytes, "{most_bytes} bytes at one time");
            let last = recorder.save("the last one").expect("there is room");
            assert!(last.exists());
            assert!(
                common::saved::snapshots(&directory).iter().all(|path| Trace::open(path).is_ok())
            );
            let stats = recorder.stats().triggers;
            assert_eq!((stats.fired, stats.saved), (0, 0), "nothing triggered: {stats:?}");
        },
    );
}

#[test]
fn a_snapshot_outlives_those_of_a_predecessor_whose_clock_was_ahead() {
    common::alone("a_snapshot_outlives_those_of_a_predecessor_whose_clock_was_ahead", || {
        let place = tempfile::tempdir().unwrap();
        let old = |n: u32| place.path().join(format!("shop-1-2099010{n}T000000.000Z-panic.lbk"));
        for n in 1..=3 {
            fs::write(old(n), "from the future").unwrap();
            let ahead = SystemTime::now() + Duration::from_secs(86_400 * 365);
            File::options().append(true).open(old(n)).unwrap().set_modified(ahead).unwrap();
        }
        let recorder = Recorder::builder()
            .max_bytes(1 << 20)
            .name("shop")
            .snapshot_dir(place.path())
            .snapshot_limits(3, 1 << 30)
            .start()
            .expect("a recorder starts");
        let mut saved = Vec::new();
        for round in 1..=4_u32 {
            saved.push(recorder.save("again").expect("there is room"));
            let there = common::saved::snapshots(place.path());
            assert_eq!(there.len(), 3, "{there:?}");
            assert_eq!(
                (1..=3).filter(|n| old(*n).exists()).count() as u32,
                3_u32.saturating_sub(round)
            );
            let newest = saved.iter().rev().take(3);
            assert!(newest.clone().all(|path| path.exists()), "{there:?}");
        }
    });
}
