//! CPU samples: where each thread uses its CPU time, whatever a service does with its threads and signals.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::seccomp::{EVERY_THREAD, forbid};
use common::{assert_sound, events, wait_for};
use lookback::read::{Event, EventKind, StackEnd, StackSource, Trace};
use lookback::{Builder, RecordExt, Recorder};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PER_SECOND: u32 = 100;

fn builder() -> Builder {
    // Generations end when a test says so.
    let hour = Duration::from_secs(3600);
    Recorder::builder()
        .max_bytes(4 << 20)
        .window(hour)
        .generation_period(hour)
        .cpu_samples(PER_SECOND)
}

/// A recorder that can unwind.
fn start() -> Recorder {
    let recorder = builder().start().expect("a recorder starts");
    wait_for_tables(&recorder);
    recorder
}

fn wait_for_tables(recorder: &Recorder) {
    assert!(wait_for(|| recorder.stats().unwind_tables.modules > 0));
}

/// Lets the collector look at the threads, now.
fn look(recorder: &Recorder) {
    lookback::event!("something");
    common::advance(recorder);
}

/// A sample of a trace.
struct Sample {
    event: Event,
    thread: u64,
    weight: u64,
    source: Option<StackSource>,
    ago: u64,
}

fn samples(trace: &Trace) -> Vec<Sample> {
    let found = events(trace).filter_map(|event| match event.kind() {
        EventKind::CpuSample { thread, weight, source, ago } => {
            let (thread, ago) = (thread.0, ago.0);
            Some(Sample { event, thread, weight, source, ago })
        }
        _ => None,
    });
    found.collect()
}

/// The samples of threads of this name.
fn of_thread(trace: &Trace, name: &str) -> Vec<Sample> {
    samples(trace).into_iter().filter(|sample| sample.event.name() == name).collect()
}

/// The CPU time of the calling thread.
fn used() -> Duration {
    // SAFETY: the place is valid.
    unsafe {
        let mut time = std::mem::zeroed::<libc::timespec>();
        assert_eq!(libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time), 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// Uses so much CPU time.
#[inline(never)]
fn spins(time: Duration) -> u64 {
    let (began, mut turns) = (used(), 0);
    while used() - began < time {
        for _ in 0..10_000 {
            turns = std::hint::black_box(turns + 1);
        }
    }
    turns
}

/// Runs `work` on a thread of this name that is sampled.
fn sampled<T: Send>(recorder: &Recorder, name: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        // Dropped also if something here fails.
        let (timed, is_timed) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn_scoped(scope, move || {
            // While it begins, the C library has blocked all signals.
            drop(begun);
            let _ = is_timed.recv();
            work()
        });
        let thread = thread.unwrap();
        let _ = has_begun.recv();
        look(recorder);
        drop(timed);
        let value = thread.join().unwrap();
        let stats = recorder.stats().cpu_samples;
        assert_eq!((stats.refused_threads, &stats.trouble), (0, &None), "{stats:?}");
        value
    })
}

/// Whether a sample leads through this function of this program.
fn leads_through(sample: &Sample, function: usize) -> bool {
    let program = std::env::current_exe().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let first = maps.lines().find(|line| line.ends_with(program.to_str().unwrap())).unwrap();
    let bias = usize::from_str_radix(first.split('-').next().unwrap(), 16).unwrap();
    let offset = (function - bias) as u64;
    sample.event.stack().is_some_and(|stack| {
        stack.frames().any(|frame| {
            frame.module.is_some_and(|module| module.path == program.to_string_lossy())
                && (offset..offset + 1500).contains(&frame.offset)
        })
    })
}

fn weight<'a>(of: impl IntoIterator<Item = &'a Sample>) -> u64 {
    of.into_iter().map(|sample| sample.weight).sum()
}

#[test]
fn samples_lead_through_what_uses_the_time_and_their_sum_is_the_time() {
    common::alone("samples_lead_through_what_uses_the_time_and_their_sum_is_the_time", || {
        let recorder = start();
        let time = Duration::from_secs(1);
        sampled(&recorder, "busy", || std::hint::black_box(spins(time)));
        let trace = common::stop(recorder);
        assert_eq!(trace.metadata().number("cpu_samples_hz"), Some(100));
        let found = of_thread(&trace, "busy");
        let through: Vec<_> = found
            .iter()
            .filter(|sample| leads_through(sample, spins as fn(_) -> _ as usize))
            .collect();
        // A second at 100 a second. How precise the kernel's clock is, is its own affair. Where the whole machine stood still
        // meanwhile, much time has passed at no place.
        let without: Vec<_> =
            found.iter().filter(|sample| sample.event.stack().is_none()).collect();
        let why = |sample: &&Sample| (sample.source, sample.weight);
        let whys: Vec<_> = without.iter().map(why).collect();
        assert!(whys.iter().all(|(why, _)| *why == Some(StackSource::NoSignal)), "{whys:?}");
        let (all, here) = (weight(&found), weight(through.iter().copied()));
        let placed = all - weight(without.iter().copied());
        assert!((60..=140).contains(&all), "{all}");
        assert!(
            here * 10 >= placed * 9 && placed * 2 > all,
            "{here} of {placed} of {all}, {whys:?}"
        );
        for sample in &through {
            assert_eq!(sample.source, Some(StackSource::Interrupted));
            let stack = sample.event.stack().unwrap();
            assert_eq!(stack.end(), Some(StackEnd::Begin), "{stack:#x?}");
            let thread = sample.event.thread().unwrap();
            assert_eq!((thread.number.0, &*thread.name, sample.ago), (sample.thread, "busy", 0));
        }
    });
}

#[test]
fn a_sample_belongs_to_the_task_and_the_span_that_its_thread_is_at() {
    common::alone("a_sample_belongs_to_the_task_and_the_span_that_its_thread_is_at", || {
        use tracing_subscriber::layer::SubscriberExt;
        let subscriber = tracing_subscriber::registry().with(lookback::tracing::layer());
        tracing::subscriber::set_global_default(subscriber).unwrap();
        let recorder = start();
        sampled(&recorder, "polls", || {
            let task = async { std::hint::black_box(spins(Duration::from_millis(500))) };
            futures::executor::block_on(async {
                let _span = tracing::info_span!("works").entered();
                task.recorded("task").await;
            });
        });
        let trace = common::stop(recorder);
        let created = events(&trace).find_map(|event| match event.kind() {
            EventKind::TaskCreate { task, .. } => Some(task),
            _ => None,
        });
        let span = events(&trace).find_map(|event| match event.kind() {
            EventKind::SpanCreate { span, .. } => Some(span),
            _ => None,
        });
        assert!(created.is_some() && span.is_some());
        let found = of_thread(&trace, "polls");
        let there = found.iter().filter(|of| of.event.task() == created && of.event.span() == span);
        assert!(weight(there) * 10 >= weight(&found) * 8 && weight(&found) > 20);
    });
}

#[test]
fn a_thread_that_does_nothing_but_record_is_sampled_too() {
    common::alone("a_thread_that_does_nothing_but_record_is_sampled_too", || {
        // Holds more than the few milliseconds of one sample to the next, and looks often for those that wait.
        let builder = builder().max_bytes(64 << 20).window(Duration::from_secs(10));
        let recorder = builder.generation_period(Duration::from_millis(20)).start().unwrap();
        wait_for_tables(&recorder);
        sampled(&recorder, "records", || {
            let began = used();
            while used() - began < Duration::from_secs(1) {
                for i in 0..10_000_u64 {
                    lookback::event!("one of many", number = i);
                }
            }
        });
        let stats = recorder.stats();
        let trace = common::stop(recorder);
        // The oldest generations may have been given up since.
        let found = of_thread(&trace, "records");
        // A collector that gets no core for long comes too late for some.
        let (taken, dropped) = (stats.cpu_samples.taken, stats.cpu_samples.dropped);
        assert!(dropped * 4 <= taken && taken >= 20, "{stats:?}");
        assert!(!found.is_empty());
        let late = found.iter().filter(|of| of.ago > 0);
        for sample in late {
            // The collector has recorded it.
            assert_ne!(sample.event.thread().map(|thread| thread.number.0), Some(sample.thread));
        }
    });
}

#[test]
fn nothing_is_sampled_unless_it_was_asked_for() {
    common::alone("nothing_is_sampled_unless_it_was_asked_for", || {
        for builder in [builder().cpu_samples(0), builder().stacks(false)] {
            let recorder = builder.start().unwrap();
            look(&recorder);
            spins(Duration::from_millis(200));
            let stats = recorder.stats().cpu_samples;
            assert_eq!((stats.per_second, stats.threads, stats.taken), (0, 0, 0));
            let trace = common::stop(recorder);
            assert!(samples(&trace).is_empty());
            assert_eq!(trace.metadata().number("cpu_samples_hz"), None);
        }
        for signal in libc::SIGRTMIN()..=libc::SIGRTMAX() {
            assert_eq!(action(signal).sa_sigaction, libc::SIG_DFL, "{signal}");
        }
    });
}

fn action(signal: libc::c_int) -> libc::sigaction {
    // SAFETY: asks only.
    unsafe {
        let mut now = std::mem::zeroed::<libc::sigaction>();
        assert_eq!(libc::sigaction(signal, std::ptr::null(), &mut now), 0);
        now
    }
}

/// Blocks every signal on this thread, or none.
fn block_signals(how: bool) {
    // SAFETY: a set of this thread's, filled before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        if how {
            libc::sigfillset(&mut set)
        } else {
            libc::sigemptyset(&mut set)
        };
        libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

#[test]
fn time_that_a_thread_uses_while_it_blocks_the_signal_is_at_no_place() {
    common::alone("time_that_a_thread_uses_while_it_blocks_the_signal_is_at_no_place", || {
        let recorder = start();
        sampled(&recorder, "deaf", || {
            block_signals(true);
            spins(Duration::from_secs(1));
            block_signals(false);
        });
        let trace = common::stop(recorder);
        let found = of_thread(&trace, "deaf");
        let nowhere = found.iter().filter(|of| of.event.stack().is_none());
        let nowhere: Vec<_> = nowhere.collect();
        assert!(nowhere.iter().all(|of| of.source == Some(StackSource::NoSignal)));
        let there = found.iter().filter(|of| of.event.stack().is_some());
        assert!(weight(nowhere) >= 50 && weight(there) <= 20);
    });
}

#[test]
fn a_thread_that_blocks_all_signals_and_waits_for_them_gets_none_of_ours() {
    common::alone("a_thread_that_blocks_all_signals_and_waits_for_them_gets_none_of_ours", || {
        let recorder = start();
        let (blocked, is_blocked) = std::sync::mpsc::channel();
        let (looked, has_looked) = std::sync::mpsc::channel::<()>();
        let waits = std::thread::spawn(move || {
            block_signals(true);
            blocked.send(()).unwrap();
            let _ = has_looked.recv();
            spins(Duration::from_millis(500));
            // SAFETY: the sets are valid, and so is the time, which is none.
            unsafe {
                let mut all = std::mem::zeroed();
                libc::sigfillset(&mut all);
                let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                libc::sigtimedwait(&all, std::ptr::null_mut(), &none)
            }
        });
        is_blocked.recv().unwrap();
        look(&recorder);
        look(&recorder);
        let stats = recorder.stats().cpu_samples;
        drop(looked);
        assert_eq!(waits.join().unwrap(), -1, "there is none");
        assert!(stats.refused_threads >= 1, "{stats:?}");
        common::stop(recorder);
    });
}

static TAKEN_OVER: AtomicU64 = AtomicU64::new(0);

extern "C" fn of_the_service(_: libc::c_int) {
    TAKEN_OVER.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn where_the_service_takes_the_signal_over_another_one_is_used() {
    common::alone("where_the_service_takes_the_signal_over_another_one_is_used", || {
        // SAFETY: the handler does what a handler may.
        let take = |signal| unsafe {
            libc::signal(signal, of_the_service as *const () as usize);
        };
        take(libc::SIGRTMIN());
        let recorder = start();
        look(&recorder);
        let used_one = libc::SIGRTMIN() + 1;
        assert!(
            ![libc::SIG_DFL, of_the_service as *const () as usize]
                .contains(&action(used_one).sa_sigaction)
        );
        take(used_one);
        sampled(&recorder, "busy", || std::hint::black_box(spins(Duration::from_millis(500))));
        let trace = common::stop(recorder);
        assert!(weight(&of_thread(&trace, "busy")) > 10);
        assert_eq!(TAKEN_OVER.load(Ordering::Relaxed), 0);
        assert_eq!(action(used_one).sa_sigaction, of_the_service as *const () as usize);
    });
}

#[test]
fn where_all_signals_are_taken_there_are_no_samples_and_the_statistics_say_why() {
    common::alone(
        "where_all_signals_are_taken_there_are_no_samples_and_the_statistics_say_why",
        || {
            for signal in libc::SIGRTMIN()..=libc::SIGRTMAX() {
                // SAFETY: the handler does what a handler may.
                unsafe { libc::signal(signal, of_the_service as *const () as usize) };
            }
            let recorder = start();
            look(&recorder);
            let stats = recorder.stats().cpu_samples;
            assert_eq!(stats.trouble.as_deref(), Some("the service uses all real-time signals"));
            assert_eq!(stats.threads, 0);
            spins(Duration::from_millis(100));
            assert!(samples(&common::stop(recorder)).is_empty());
        },
    );
}

#[test]
fn where_the_kernel_refuses_timers_the_statistics_say_so_and_the_rest_is_recorded() {
    common::alone(
        "where_the_kernel_refuses_timers_the_statistics_say_so_and_the_rest_is_recorded",
        || {
            if !forbid(&[libc::SYS_timer_create], false, EVERY_THREAD) {
                println!("::no seccomp here");
                return;
            }
            let recorder = start();
            look(&recorder);
            let stats = recorder.stats().cpu_samples;
            let trouble = stats.trouble.unwrap();
            assert!(trouble.starts_with("the kernel refuses timers: "), "{trouble}");
            let trace = common::read(&recorder.snapshot().unwrap());
            assert_eq!(trace.metadata().text("cpu_samples.trouble"), Some(&*trouble));
            let trace = common::stop(recorder);
            assert!(samples(&trace).is_empty());
            assert!(events(&trace).any(|event| event.name() == "something"));
        },
    );
}

#[test]
fn threads_beyond_what_the_user_may_have_of_timers_are_counted() {
    common::alone("threads_beyond_what_the_user_may_have_of_timers_are_counted", || {
        // SAFETY: the limits are valid.
        unsafe {
            let mut limit = std::mem::zeroed::<libc::rlimit>();
            libc::getrlimit(libc::RLIMIT_SIGPENDING, &mut limit);
            limit.rlim_cur = 0;
            assert_eq!(libc::setrlimit(libc::RLIMIT_SIGPENDING, &limit), 0);
        }
        let recorder = start();
        look(&recorder);
        let stats = recorder.stats().cpu_samples;
        assert!(stats.threads == 0 && stats.refused_threads > 0, "{stats:?}");
        assert_eq!(stats.trouble, None);
        common::stop(recorder);
    });
}

#[test]
fn half_of_the_signals_that_the_user_may_have_queued_are_left_to_others() {
    common::alone("half_of_the_signals_that_the_user_may_have_queued_are_left_to_others", || {
        const MOST: u64 = 64;
        // SAFETY: the limits are valid.
        unsafe {
            let mut limit = std::mem::zeroed::<libc::rlimit>();
            libc::getrlimit(libc::RLIMIT_SIGPENDING, &mut limit);
            limit.rlim_cur = MOST;
            assert_eq!(libc::setrlimit(libc::RLIMIT_SIGPENDING, &limit), 0);
        }
        let recorder = start();
        let together = std::sync::Barrier::new(MOST as usize + 1);
        std::thread::scope(|scope| {
            for _ in 0..MOST {
                scope.spawn(|| (together.wait(), together.wait()));
            }
            together.wait();
            look(&recorder);
            let stats = recorder.stats().cpu_samples;
            together.wait();
            assert!(u64::from(stats.threads) <= MOST / 2, "{stats:?}");
            assert!(u64::from(stats.refused_threads) >= MOST / 2, "{stats:?}");
        });
        common::stop(recorder);
    });
}

#[test]
fn a_recorder_that_is_started_again_samples_again_and_none_does_after_a_stop() {
    common::alone(
        "a_recorder_that_is_started_again_samples_again_and_none_does_after_a_stop",
        || {
            for _ in 0..3 {
                let recorder = start();
                sampled(&recorder, "busy", || spins(Duration::from_millis(300)));
                let taken = recorder.stats().cpu_samples.taken;
                let trace = common::stop(recorder);
                let found = of_thread(&trace, "busy");
                assert!(weight(&found) > 5, "{taken}");
                spins(Duration::from_millis(100));
            }
            let recorder = builder().cpu_samples(0).start().unwrap();
            let before = recorder.stats().cpu_samples.taken;
            spins(Duration::from_millis(200));
            assert_eq!(recorder.stats().cpu_samples.taken, before, "all timers are gone");
            common::stop(recorder);
        },
    );
}

#[test]
fn a_forked_child_and_a_program_that_is_executed_run_on_undisturbed() {
    common::alone("a_forked_child_and_a_program_that_is_executed_run_on_undisturbed", || {
        let recorder = builder().cpu_samples(1000).start().unwrap();
        wait_for_tables(&recorder);
        sampled(&recorder, "forks", || {
            spins(Duration::from_millis(50));
            for _ in 0..5 {
                // SAFETY: the child calls what a child of several threads may.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    spins(Duration::from_millis(100));
                    // SAFETY: ends the child at once.
                    unsafe { libc::_exit(7) };
                }
                let mut status = 0;
                // SAFETY: the place is valid.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
                let ended = std::process::Command::new("sh").args(["-c", "exit 3"]).status();
                assert_eq!(ended.unwrap().code(), Some(3));
            }
        });
        common::stop(recorder);
    });
}

/// Uses CPU time on a thread of the C library's, with so little stack and no alternate one.
fn on_a_small_stack(bytes: usize, time: Duration) {
    extern "C" fn run(time: *mut libc::c_void) -> *mut libc::c_void {
        // As the collector looks at its threads once a generation.
        std::thread::sleep(Duration::from_millis(20));
        spins(Duration::from_millis(time.addr() as u64));
        std::ptr::null_mut()
    }
    // SAFETY: the places are valid, and the thread is joined.
    unsafe {
        let (mut attributes, mut thread) = (std::mem::zeroed(), std::mem::zeroed());
        libc::pthread_attr_init(&mut attributes);
        assert_eq!(libc::pthread_attr_setstacksize(&mut attributes, bytes), 0);
        let time = std::ptr::without_provenance_mut(time.as_millis() as usize);
        assert_eq!(libc::pthread_create(&mut thread, &attributes, run, time), 0);
        libc::pthread_join(thread, std::ptr::null_mut());
        libc::pthread_attr_destroy(&mut attributes);
    }
}

#[test]
fn threads_with_little_stack_and_threads_that_come_and_go_are_sampled_without_harm() {
    common::alone(
        "threads_with_little_stack_and_threads_that_come_and_go_are_sampled_without_harm",
        || {
            let period = Duration::from_millis(10);
            let window = Duration::from_secs(8);
            let builder = builder().window(window).generation_period(period);
            let recorder = builder.cpu_samples(1000).start().unwrap();
            wait_for_tables(&recorder);
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let short = || std::hint::black_box(spins(Duration::from_millis(2)));
                        std::thread::spawn(short).join().unwrap();
                    }
                });
                for _ in 0..10 {
                    // The least that the C library allows.
                    on_a_small_stack(16 << 10, Duration::from_millis(60));
                    lookback::event!("so that generations end");
                }
                is_over.store(true, Ordering::Relaxed);
            });
            let taken = recorder.stats().cpu_samples.taken;
            assert_sound(&common::stop(recorder));
            assert!(taken > 0);
        },
    );
}

#[test]
fn a_profiler_that_uses_sigprof_gets_its_signals() {
    static PROFILED: AtomicU64 = AtomicU64::new(0);
    extern "C" fn profiled(_: libc::c_int) {
        PROFILED.fetch_add(1, Ordering::Relaxed);
    }
    common::alone("a_profiler_that_uses_sigprof_gets_its_signals", || {
        let recorder = start();
        // SAFETY: the handler does what a handler may, and the setting is valid.
        unsafe {
            libc::signal(libc::SIGPROF, profiled as *const () as usize);
            let time = libc::timeval { tv_sec: 0, tv_usec: 10_000 };
            let setting = libc::itimerval { it_interval: time, it_value: time };
            let nowhere = std::ptr::null_mut::<libc::itimerval>();
            assert_eq!(libc::syscall(libc::SYS_setitimer, 2, &raw const setting, nowhere), 0);
        }
        sampled(&recorder, "busy", || spins(Duration::from_millis(500)));
        let trace = common::stop(recorder);
        assert!(weight(&of_thread(&trace, "busy")) > 10);
        assert!(PROFILED.load(Ordering::Relaxed) > 0);
    });
}

#[test]
fn a_generation_says_how_long_each_of_its_threads_has_run() {
    common::alone("a_generation_says_how_long_each_of_its_threads_has_run", || {
        let recorder = builder().cpu_samples(0).start().unwrap();
        let generation = || {
            spins(Duration::from_millis(150));
            look(&recorder);
        };
        generation();
        generation();
        let trace = common::stop(recorder);
        let own = events(&trace).find(|event| event.name() == "something").unwrap();
        let own = own.thread().unwrap().number;
        let generations =
            trace.generations().iter().filter_map(|of| trace.generation(of.number).ok());
        let times: Vec<_> = generations
            .flat_map(|of| of.thread_times().to_vec())
            .filter(|of| of.thread == own)
            .collect();
        // The first reading has none before it.
        let [times] = &times[..] else { panic!("{times:?}") };
        assert!(times.ran.0 >= 100_000_000 && times.slices > 0, "{times:?}");
        assert!(times.ran.0 + times.waited.0 <= times.time.0 + 50_000_000, "{times:?}");
    });
}
