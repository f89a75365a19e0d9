//! What one operation takes in instructions on the thread that does it: exact, also on a busy machine.
//! `cargo bench --bench instructions` builds it; its output names the executable, which a tool then runs twice:
//!
//! ```text
//! for count in 20000 60000; do
//!     valgrind --tool=callgrind --toggle-collect=work EXECUTABLE --kind event --count $count
//! done
//! ```
//!
//! The difference of what is "collected", by 40,000, is one operation. Kinds: those of [`work`].

use lookback::{RecordExt, Recorder};
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

const KINDS: [&str; 11] =
    ["event", "two", "text", "region", "counter", "log", "poll", "spawn", "span", "info", "error"];

/// Is ready after so many polls, and wakes its task in each of the others.
struct Yields(u64);

impl Future for Yields {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(less) = self.0.checked_sub(1) else { return Poll::Ready(()) };
        self.0 = less;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Does it so many times. Has the name by which a tool finds it.
#[unsafe(no_mangle)]
#[inline(never)]
fn work(kind: &str, count: u64) {
    let mut context = Context::from_waker(Waker::noop());
    match kind {
        "event" => (0..count).for_each(|_| lookback::event!("event")),
        "two" => (0..count).for_each(|number| {
            lookback::event!("event", a = black_box(number), b = black_box(7_u32));
        }),
        "text" => (0..count).for_each(|number| {
            lookback::event!("event", a = black_box("some text"), b = black_box(number));
        }),
        "region" => (0..count).for_each(|_| drop(lookback::region!("region"))),
        "counter" => (0..count).for_each(|number| lookback::counter!("counter", black_box(number))),
        "log" => (0..count).for_each(|_| lookback::log!("category", "constant")),
        "poll" => {
            let mut task = pin!(Yields(count).recorded("task"));
            while task.as_mut().poll(&mut context).is_pending() {}
        }
        "spawn" => (0..count).for_each(|_| {
            let task = pin!(Yields(0).recorded("task"));
            assert!(task.poll(&mut context).is_ready());
        }),
        "span" => (0..count).for_each(|number| {
            let span = tracing::info_span!("span", number = black_box(number));
            drop(span.enter());
        }),
        "info" => {
            (0..count).for_each(|number| tracing::info!(number = black_box(number), "message"));
        }
        "error" => {
            (0..count).for_each(|number| tracing::error!(number = black_box(number), "message"));
        }
        other => panic!("no kind {other}; there are {}", KINDS.join(", ")),
    }
}

fn main() {
    let mut arguments = std::env::args();
    let mut after = |name: &str| arguments.by_ref().find(|one| one == name).and(arguments.next());
    let (Some(kind), Some(count)) = (after("--kind"), after("--count")) else {
        let executable = std::env::args().next().unwrap_or_default();
        return println!("{executable} --kind {} --count N", KINDS.join("|"));
    };
    // No generation ends meanwhile.
    let hour = Duration::from_secs(3600);
    let builder = Recorder::builder().window(hour).generation_period(hour);
    let _recorder = builder.start().expect("it starts");
    let subscriber = tracing_subscriber::registry().with(lookback::tracing::layer());
    tracing::subscriber::set_global_default(subscriber).expect("there is none yet");
    work(&kind, count.parse().expect("--count is a number"));
}
