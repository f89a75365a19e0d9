//! Triggers fire when they should and no more often, and what they save says why.

#![cfg(target_os = "linux")]

mod common;

use common::saved::{EVER, builder, saved, snapshots, start, told};
use common::{events, wait_for};
use lookback::read::Trace;
use lookback::read::wire::key;
use lookback::{Level, Recorder, SnapshotOnErr, Trigger};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_millis(20);

#[test]
fn messages_trigger_by_level_and_target_whoever_logs_them() {
    common::alone("messages_trigger_by_level_and_target_whoever_logs_them", || {
        let place = tempfile::tempdir().unwrap();
        let trigger = Trigger::log(Level::Warn).target("shop").cool_down(Duration::ZERO);
        let recorder = start(place.path(), trigger);
        let subscriber = lookback::tracing::subscriber();
        let _default = tracing::subscriber::set_default(subscriber);
        lookback::log!(ERROR, "cache", "another target");
        lookback::log!(INFO, "shop", "another level");
        tracing::error!("this target begins otherwise");
        tracing::info!(target: "shop::db", "another level");
        assert_eq!(recorder.stats().triggers.fired, 0);

        lookback::log!(WARN, "shop.cache", "{} keys are gone", 3);
        let (trigger, reason) = told(&saved(&recorder, place.path(), 1));
        assert_eq!(
            (trigger.as_str(), reason.as_str()),
            ("log", "warn of shop.cache: 3 keys are gone")
        );
        tracing::error!(target: "shop::db", host = "db1", tries = 4, "no connection");
        let trace = saved(&recorder, place.path(), 2);
        assert_eq!(told(&trace).1, "error of shop::db: no connection host=db1 tries=4");
        // The cause comes before the firing, on the same thread.
        let names: Vec<_> = events(&trace).map(|event| event.name().to_owned()).collect();
        assert_eq!(names.last().map(String::as_str), Some("trigger"), "{names:?}");
        recorder.stop().unwrap();

        let recorder = start(place.path(), Trigger::log(Level::Error));
        lookback::tracing::record_log().expect("there is no logger yet");
        log::warn!("another level");
        log::error!(target: "old::code", "a record of log");
        let trace = saved(&recorder, place.path(), 1);
        assert!(told(&trace).1.contains("old::code") && told(&trace).1.contains("a record of log"));
        assert_eq!(recorder.stats().triggers.fired, 1);
    });
}

#[test]
fn slow_regions_and_spans_trigger_and_quick_ones_do_not() {
    common::alone("slow_regions_and_spans_trigger_and_quick_ones_do_not", || {
        let place = tempfile::tempdir().unwrap();
        let at_once = |trigger: Trigger| trigger.cool_down(Duration::ZERO);
        let recorder = builder(place.path())
            .trigger(at_once(Trigger::slow_region("parse", MOMENT)))
            .trigger(at_once(Trigger::slow_span("checkout", MOMENT)))
            .trigger(at_once(Trigger::slow_span("quick", EVER)))
            .trigger(at_once(Trigger::slow_region("quick", EVER)))
            .start()
            .expect("a recorder starts");
        let subscriber = lookback::tracing::subscriber();
        let _default = tracing::subscriber::set_default(subscriber);
        let parse = |sleep: Duration| {
            let _region = lookback::region!("parse");
            let _inner = lookback::region!("inner");
            std::thread::sleep(sleep);
        };
        // Each kind of name has its own limits.
        let other = |sleep: Duration| {
            let _region = lookback::region!("checkout");
            let _span = tracing::info_span!("parse").entered();
            let _quick = (lookback::region!("quick"), tracing::info_span!("quick").entered());
            std::thread::sleep(sleep);
        };
        for _ in 0..3 {
            other(MOMENT * 2);
            common::advance(&recorder);
        }
        assert_eq!(recorder.stats().triggers.fired, 0);
        parse(MOMENT * 2);
        let (trigger, reason) = told(&saved(&recorder, place.path(), 1));
        assert_eq!(trigger, "slow_region");
        assert!(reason.starts_with("region parse took ") && reason.ends_with("more than 20ms"));
        // Entered twice, open all the time, closed on another thread.
        let span = tracing::info_span!("checkout", cart = 17, user = tracing::field::Empty);
        drop(span.enter());
        span.record("user", "eve");
        common::advance(&recorder);
        std::thread::sleep(MOMENT * 2);
        std::thread::spawn(move || drop(span)).join().unwrap();
        let (trigger, reason) = told(&saved(&recorder, place.path(), 2));
        assert_eq!(trigger, "slow_span");
        assert!(reason.starts_with("span checkout took "), "{reason}");
        assert!(reason.ends_with("cart=17 user=eve"), "{reason}");
        recorder.stop().unwrap();

        // A span goes by its field's name, or by its callsite's.
        let recorder = start(place.path(), at_once(Trigger::slow_span("GET /cart", MOMENT)));
        let request = |route: &str, late: Option<&str>| {
            let span = tracing::info_span!("request", otel.name = route);
            late.map(|late| span.record("otel.name", late));
            std::thread::sleep(MOMENT * 2);
        };
        request("POST /pay", None);
        assert_eq!(recorder.stats().triggers.fired, 0);
        request("GET /cart", None);
        let (_, reason) = told(&saved(&recorder, place.path(), 1));
        assert!(reason.starts_with("span GET /cart took "), "{reason}");
        request("GET /?", Some("GET /cart"));
        saved(&recorder, place.path(), 2);
        // Its name is kept before everything else, however much there is.
        let n = u64::MAX / 3;
        let span = tracing::info_span!(
            "request",
            f0 = n,
            f1 = n,
            f2 = n,
            f3 = n,
            f4 = n,
            f5 = n,
            f6 = n,
            f7 = n,
            f8 = n,
            f9 = n,
            f10 = n,
            f11 = n,
            f12 = n,
            f13 = n,
            f14 = n,
            f15 = n,
            f16 = n,
            f17 = n,
            f18 = n,
            f19 = n,
            f20 = n,
            f21 = n,
            f22 = n,
            f23 = n,
            f24 = n,
            f25 = n,
            f26 = n,
            f27 = n,
            otel.name = "GET /cart"
        );
        std::thread::sleep(MOMENT * 2);
        drop(span);
        saved(&recorder, place.path(), 3);
        recorder.stop().unwrap();
        let recorder = start(place.path(), at_once(Trigger::slow_span("request", MOMENT)));
        request("POST /pay", None);
        let (_, reason) = told(&saved(&recorder, place.path(), 1));
        assert!(reason.starts_with("span POST /pay took "), "{reason}");
        recorder.stop().unwrap();

        // The next recorder has other limits.
        let recorder = start(place.path(), Trigger::slow_region("inner", MOMENT));
        parse(MOMENT * 2);
        let (_, reason) = told(&saved(&recorder, place.path(), 1));
        assert!(reason.starts_with("region inner took "), "{reason}");
        assert_eq!(recorder.stats().triggers.fired, 1, "parse has none any more");
        recorder.stop().unwrap();
        let recorder = builder(place.path()).start().unwrap();
        parse(MOMENT * 2);
        assert_eq!(recorder.stats().triggers.fired, 0);
    });
}

#[test]
fn regions_and_spans_that_are_nested_deep_are_survived() {
    common::alone("regions_and_spans_that_are_nested_deep_are_survived", || {
        let place = tempfile::tempdir().unwrap();
        let trigger = Trigger::slow_region("deep", Duration::ZERO).cool_down(EVER);
        let recorder = start(place.path(), trigger);
        fn nest(depth: u32) {
            let _region = lookback::region!("deep");
            if depth > 0 {
                nest(depth - 1);
            }
        }
        nest(200);
        let trace = saved(&recorder, place.path(), 1);
        assert!(told(&trace).1.starts_with("region deep took"));
        let stats = recorder.stats().triggers;
        assert_eq!(stats.fired + stats.suppressed, 201, "each is measured: {stats:?}");
    });
}

#[test]
fn a_slow_region_is_told_by_its_own_length_whatever_is_inside_of_it() {
    common::alone("a_slow_region_is_told_by_its_own_length_whatever_is_inside_of_it", || {
        let place = tempfile::tempdir().unwrap();
        let at_once = |trigger: Trigger| trigger.cool_down(Duration::ZERO);
        let recorder = builder(place.path())
            .trigger(at_once(Trigger::slow_region("outer", MOMENT)))
            .trigger(at_once(Trigger::slow_region("inner", EVER)))
            .start()
            .expect("a recorder starts");
        let outer = lookback::region!("outer");
        std::thread::sleep(MOMENT * 2);
        let inner = lookback::region!("inner");
        drop(outer);
        let (_, reason) = told(&saved(&recorder, place.path(), 1));
        assert!(reason.starts_with("region outer took "), "{reason}");
        drop(inner);
        assert_eq!(recorder.stats().triggers.fired, 1);
    });
}

#[test]
fn a_result_is_given_back_as_it_is_and_an_error_triggers() {
    common::alone("a_result_is_given_back_as_it_is_and_an_error_triggers", || {
        struct Worst;
        impl std::fmt::Display for Worst {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                panic!("not even this")
            }
        }
        let place = tempfile::tempdir().unwrap();
        let recorder = builder(place.path())
            .no_triggers()
            .trigger(Trigger::error().cool_down(Duration::ZERO))
            .start()
            .expect("a recorder starts");
        assert_eq!(Ok::<_, String>(5).snapshot_on_err(&recorder), Ok(5));
        assert_eq!(recorder.stats().triggers.fired, 0);
        let error = "12x".parse::<u32>().snapshot_on_err(&recorder).unwrap_err();
        let trace = saved(&recorder, place.path(), 1);
        assert_eq!(told(&trace), ("error".to_owned(), error.to_string()));
        let thread = trace.metadata().text(key::TRIGGER_THREAD).expect("it is named");
        // SAFETY: no preconditions.
        assert!(thread.ends_with(&format!("({})", unsafe { libc::gettid() })), "{thread}");
        assert!(Err::<(), _>(Worst).snapshot_on_err(&recorder).is_err());
        assert!(told(&saved(&recorder, place.path(), 2)).1.contains("panicked"));
    });
}

#[test]
fn without_any_trigger_one_fired_by_hand_works_all_the_same() {
    common::alone("without_any_trigger_one_fired_by_hand_works_all_the_same", || {
        let place = tempfile::tempdir().unwrap();
        std::env::set_current_dir(place.path()).unwrap();
        let trigger = Trigger::named("mine").cool_down(Duration::ZERO).arm();
        assert!(trigger.fire(|| unreachable!("nothing is recorded")).is_none());
        let recorder = Recorder::builder().max_bytes(1 << 20).start().unwrap();
        let fired = trigger.fire(|| "why not".to_owned()).expect("it fires");
        let path = fired.wait(EVER).expect("in time").expect("it is saved");
        assert_eq!(path.file_name().unwrap().to_str(), Some(fired.file_name()));
        assert_eq!(told(&Trace::open(&path).unwrap()), ("mine".into(), "why not".into()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(recorder);
        assert!(trigger.fire(|| unreachable!("nothing is recorded any more")).is_none());
    });
}

#[test]
fn what_is_held_back_is_counted_and_its_reason_is_not_asked() {
    common::alone("what_is_held_back_is_counted_and_its_reason_is_not_asked", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = builder(place.path()).start().unwrap();
        let cools = Trigger::named("cools").cool_down(EVER * 100).arm();
        let rare = Trigger::named("rare").cool_down(Duration::ZERO).per_hour(3).arm();
        assert!(cools.fire(String::new).is_some());
        assert!((0..10).all(|_| cools.fire(|| unreachable!("it cools down")).is_none()));
        assert_eq!((0..10).filter(|_| rare.clone().fire(String::new).is_some()).count(), 3);
        let stats = recorder.stats().triggers;
        assert_eq!((stats.fired, stats.suppressed), (4, 17), "{stats:?}");
        let soon = Trigger::named("soon").cool_down(MOMENT).arm();
        assert!(soon.fire(String::new).is_some());
        assert!(
            wait_for(|| soon.fire(String::new).is_some()),
            "after its cool-down it fires again"
        );
    });
}

#[test]
fn a_delay_shows_what_came_of_it_and_whoever_fires_meanwhile_shares_the_snapshot() {
    common::alone(
        "a_delay_shows_what_came_of_it_and_whoever_fires_meanwhile_shares_the_snapshot",
        || {
            let place = tempfile::tempdir().unwrap();
            let recorder = builder(place.path()).start().unwrap();
            let named = |name: &str| Trigger::named(name).cool_down(Duration::ZERO).per_hour(1000);
            let (late, other) = (named("late").delay(MOMENT * 10).arm(), named("other").arm());
            let began = Instant::now();
            let first = late.fire(|| "first".to_owned()).unwrap();
            lookback::event!("what came of it");
            let second = other.fire(|| "second".to_owned()).unwrap();
            assert_eq!(first.file_name(), second.file_name());
            for number in 0..30 {
                assert!(other.fire(|| format!("more {number}")).is_some());
            }
            let path = first.wait(EVER).unwrap().unwrap();
            assert!(began.elapsed() >= MOMENT * 10, "not before its time");
            assert_eq!(second.wait(Duration::ZERO).unwrap().unwrap(), path);
            let trace = Trace::open(&path).unwrap();
            let metadata = trace.metadata();
            let reasons: Vec<_> = metadata.texts(key::REASON).collect();
            assert_eq!(reasons[..3], ["first", "second", "more 0"]);
            let more = metadata.number(key::MORE_REASONS).unwrap();
            assert_eq!(reasons.len() as u64 + more, 32);
            let triggers: Vec<_> = metadata.texts(key::TRIGGER).collect();
            assert_eq!((triggers[0], triggers[1]), ("late", "other"));
            assert!(events(&trace).any(|event| event.name() == "what came of it"));
            assert_eq!(events(&trace).filter(|event| event.name() == "trigger").count(), 32);
            // The next one is another snapshot.
            let next = other.fire(|| "next".to_owned()).unwrap();
            assert_ne!(next.file_name(), first.file_name());
            assert!(next.wait(EVER).unwrap().is_ok());
            let stats = recorder.stats().triggers;
            assert_eq!((stats.fired, stats.saved), (33, 2), "{stats:?}");
        },
    );
}

#[test]
fn what_is_pending_when_the_recorder_stops_is_saved_at_once() {
    common::alone("what_is_pending_when_the_recorder_stops_is_saved_at_once", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = builder(place.path()).start().unwrap();
        let fired = Trigger::named("late").delay(EVER).arm().fire(|| "x".to_owned()).unwrap();
        lookback::event!("the last one");
        recorder.stop().unwrap();
        let path = fired.wait(Duration::ZERO).expect("it is known by now").expect("it is saved");
        let trace = Trace::open(path).unwrap();
        common::assert_sound(&trace);
        assert!(events(&trace).any(|event| event.name() == "the last one"));
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = threads.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        assert_eq!(
            names.filter(|name| name.starts_with("lookback")).count(),
            0,
            "no thread is left"
        );
    });
}

#[test]
fn the_directory_stays_within_its_bounds() {
    common::alone("the_directory_stays_within_its_bounds", || {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("mine.lbk"), "left alone").unwrap();
        let recorder = builder(place.path()).snapshot_limits(3, 1 << 30).start().unwrap();
        let trigger = Trigger::named("t").cool_down(Duration::ZERO).per_hour(100).arm();
        let mut last = PathBuf::new();
        for _ in 0..8 {
            last = trigger.fire(String::new).unwrap().wait(EVER).unwrap().unwrap();
            assert!(snapshots(place.path()).len() <= 4 && last.exists());
        }
        for _ in 0..5 {
            last = recorder.save("by hand").unwrap();
            assert!(snapshots(place.path()).len() <= 4 && last.exists());
        }
        drop(recorder);
        let recorder = builder(place.path()).snapshot_limits(3, 1).start().unwrap();
        let newest = trigger.fire(String::new).unwrap().wait(EVER).unwrap().unwrap();
        assert!(!last.exists() && newest.exists(), "the newest is never deleted");
        assert_eq!(snapshots(place.path()).len(), 2, "{:?}", snapshots(place.path()));
        assert!(place.path().join("mine.lbk").exists());
        drop(recorder);
    });
}

#[test]
fn a_directory_that_cannot_be_written_is_told_and_tried_again() {
    common::alone("a_directory_that_cannot_be_written_is_told_and_tried_again", || {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("snapshots");
        let recorder = builder(&directory).start().unwrap();
        let trigger = Trigger::named("t").cool_down(Duration::ZERO).arm();
        let fire = || trigger.fire(|| "again".to_owned()).unwrap().wait(EVER).unwrap();
        // The start has made it.
        fs::remove_dir(&directory).unwrap();
        fs::write(&directory, "a file stands there").unwrap();
        assert!(fire().unwrap_err().to_string().contains("snapshots"));
        fs::remove_file(&directory).unwrap();
        assert!(fire().is_ok());
        fs::remove_dir_all(&directory).unwrap();
        assert!(fire().is_ok(), "one that vanished is made again");
        // A full disk: no file may be longer than this.
        let limit = libc::rlimit { rlim_cur: 16, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the limit is valid.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        assert!(fire().is_err());
        let stats = recorder.stats().triggers;
        assert_eq!((stats.saved, stats.failed), (2, 2), "{stats:?}");
        let error = stats.last_error.expect("it is told");
        assert!(error.contains("RLIMIT_FSIZE"), "{error}");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left behind");
    });
}

#[test]
fn what_cannot_be_saved_is_said_on_stderr() {
    common::alone("what_cannot_be_saved_is_said_on_stderr", || {
        let place = tempfile::tempdir().unwrap();
        let (directory, said) = (place.path().join("snapshots"), place.path().join("said"));
        let recorder = builder(&directory).start().unwrap();
        // The start has made it.
        fs::remove_dir(&directory).unwrap();
        fs::write(&directory, "a file stands there").unwrap();
        let trigger = Trigger::named("t").cool_down(Duration::ZERO).arm();
        let file = fs::File::create(&said).unwrap();
        // SAFETY: both are open.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), 2) }, 2);
        assert!(trigger.fire(|| "once".to_owned()).unwrap().wait(EVER).unwrap().is_err());
        let text = || fs::read_to_string(&said).unwrap();
        assert!(common::wait_for(|| text().ends_with('\n')));
        assert!(text().starts_with("lookback: a trigger fired, and no snapshot could be saved: "));
        assert!(text().contains("snapshots") && text().lines().count() == 1, "{}", text());
        // The caller of `save` gets the error; it is not printed.
        assert!(recorder.save("asked for").is_err());
        assert_eq!(text().lines().count(), 1);
    });
}

#[test]
fn a_signal_takes_a_snapshot_and_what_handled_it_before_still_does() {
    common::alone("a_signal_takes_a_snapshot_and_what_handled_it_before_still_does", || {
        static BEFORE: AtomicU32 = AtomicU32::new(0);
        extern "C" fn before(_: libc::c_int) {
            BEFORE.fetch_add(1, Ordering::SeqCst);
            // SAFETY: each thread has its own.
            unsafe { *libc::__errno_location() = 77 };
        }
        let handler = before as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler does what is safe in one.
        unsafe { libc::signal(libc::SIGUSR1, handler) };
        let place = tempfile::tempdir().unwrap();
        let recorder = builder(place.path())
            .generation_period(Duration::from_secs(600))
            .trigger(Trigger::signal().cool_down(Duration::ZERO))
            .trigger(Trigger::signal_number(libc::SIGUSR1).cool_down(Duration::ZERO))
            .start()
            .expect("a recorder starts");
        // SAFETY: no preconditions.
        let send = |signal| unsafe { libc::kill(libc::getpid(), signal) };
        send(libc::SIGUSR2);
        let (trigger, reason) = told(&saved(&recorder, place.path(), 1));
        assert_eq!(trigger, "signal");
        assert!(reason.starts_with("SIGUSR2 (12), sent by process "), "{reason}");
        // SAFETY: each thread has its own.
        unsafe { *libc::__errno_location() = 5 };
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGUSR1) };
        // SAFETY: as above.
        assert_eq!(unsafe { *libc::__errno_location() }, 5, "errno is as it was");
        assert_eq!(BEFORE.load(Ordering::SeqCst), 1);
        assert!(told(&saved(&recorder, place.path(), 2)).1.starts_with("signal (10)"));
        // In a forked child the signal has its previous effect.
        // SAFETY: the child sends itself a signal, and exits if it survives that.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no preconditions.
            unsafe { libc::raise(libc::SIGUSR2) };
            // SAFETY: no preconditions.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGUSR2);
        recorder.stop().unwrap();
        // The previous action is restored.
        send(libc::SIGUSR1);
        assert!(wait_for(|| BEFORE.load(Ordering::SeqCst) == 2));
        // SAFETY: zeroes are a valid action, and the place is valid.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        unsafe { libc::sigaction(libc::SIGUSR2, std::ptr::null(), &mut action) };
        assert_eq!(action.sa_sigaction, libc::SIG_DFL);
    });
}

#[test]
fn who_takes_a_signal_over_and_calls_us_is_not_called_by_us() {
    common::alone("who_takes_a_signal_over_and_calls_us_is_not_called_by_us", || {
        static OURS: AtomicUsize = AtomicUsize::new(0);
        static CALLS: AtomicU32 = AtomicU32::new(0);
        extern "C" fn on_top(
            number: libc::c_int,
            info: *mut libc::siginfo_t,
            context: *mut libc::c_void,
        ) {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            if CALLS.fetch_add(1, Ordering::SeqCst) > 10 {
                // SAFETY: no preconditions.
                unsafe { libc::_exit(77) };
            }
            // SAFETY: the recorder's handler was installed with three arguments.
            let below =
                unsafe { std::mem::transmute::<usize, Handler>(OURS.load(Ordering::SeqCst)) };
            below(number, info, context);
        }
        let place = tempfile::tempdir().unwrap();
        let trigger = || Trigger::signal().cool_down(Duration::ZERO);
        let recorder = start(place.path(), trigger());
        // SAFETY: both are valid actions.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut below: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_top as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &action, &mut below), 0);
            OURS.store(below.sa_sigaction, Ordering::SeqCst);
        }
        recorder.stop().unwrap();
        // It stays installed, and the next recorder is called through it.
        let recorder = start(place.path(), trigger());
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGUSR2) };
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
        saved(&recorder, place.path(), 1);
    });
}

#[test]
fn a_signal_that_interrupted_calls_before_still_does() {
    common::alone("a_signal_that_interrupted_calls_before_still_does", || {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: a valid action, without `SA_RESTART`.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
        let place = tempfile::tempdir().unwrap();
        let _recorder = start(place.path(), Trigger::signal_number(libc::SIGUSR1));
        let (mut waiting, _never) = std::io::pipe().unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let interrupted = std::io::Read::read(&mut waiting, &mut [0]);
            told.send(interrupted.map_err(|error| error.kind())).unwrap();
        });
        let target = std::os::unix::thread::JoinHandleExt::as_pthread_t(&thread);
        let mut result = None;
        assert!(wait_for(|| {
            result = heard.try_recv().ok();
            // SAFETY: the thread was not joined.
            unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
            result.is_some()
        }));
        assert_eq!(result, Some(Err(std::io::ErrorKind::Interrupted)));
    });
}

#[test]
fn a_signal_is_heard_after_all_descriptors_were_closed() {
    common::alone("a_signal_is_heard_after_all_descriptors_were_closed", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path(), Trigger::signal());
        lookback::event!("before");
        (3..1024).for_each(|descriptor| {
            // SAFETY: nothing of the test's own is used afterwards.
            unsafe { libc::close(descriptor) };
        });
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGUSR2) };
        let trace = saved(&recorder, place.path(), 1);
        assert!(events(&trace).any(|event| event.name() == "before"));
        // Its descriptors may be anything by now.
        std::mem::forget((recorder, place));
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_in_words() {
    let refused = |trigger: Trigger| {
        let started = Recorder::builder().trigger(trigger).start();
        started.map(drop).unwrap_err().to_string()
    };
    assert!(refused(Trigger::signal_number(libc::SIGKILL)).starts_with("signal = 9: "));
    assert!(refused(Trigger::signal_number(libc::SIGSEGV)).starts_with("signal = 11: "));
    assert!(refused(Trigger::signal_number(0)).starts_with("signal = 0: "));
    assert!(refused(Trigger::stalled_poll(Duration::ZERO)).starts_with("stalled_poll = 0ns"));
    assert!(refused(Trigger::panic().delay(EVER)).starts_with("delay = 120s"));
    assert!(refused(Trigger::named("x")).starts_with("trigger = x: "));
    let limits = Recorder::builder().snapshot_limits(0, 5).start();
    assert!(limits.map(drop).unwrap_err().to_string().starts_with("snapshot_limits"));
}
