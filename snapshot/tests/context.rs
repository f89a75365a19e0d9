//! With each event that is lent comes what its thread is inside of.
#![cfg(feature = "read")]

mod build;
mod written;

use build::{file, service};
use lookback_snapshot::{Event, EventKind, Lent, Trace};
use written::{complete, incomplete, trace};

fn golden(version: &str) -> Trace {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
    Trace::open(format!("{path}{version}.lbk")).unwrap()
}

/// All that an event says of itself.
fn said(event: &Event) -> String {
    let (task, span, worker) = (event.task(), event.span(), event.worker());
    format!("{event:?} {:?} {task:?} {span:?} {worker:?} {:?}", event.name(), event.sequence())
}

/// What the thread is inside of when the event has happened.
fn inside(lent: &Lent<'_>) -> String {
    let state = &lent.state;
    let regions: Vec<_> = state.regions().map(|region| region.site.name).collect();
    let tasks: Vec<_> = state.tasks().map(|task| task.to_string()).collect();
    let spans: Vec<_> = state.spans().map(|span| span.to_string()).collect();
    let worker = state.worker().map_or_else(String::new, |worker| format!(" {worker}"));
    let parked = if state.is_parked() { " parked" } else { "" };
    assert_eq!(state.depth(), regions.len());
    format!(
        "{}: [{}] [{}] [{}]{worker}{parked}",
        lent.event.kind_name(),
        regions.join(" "),
        tasks.join(" "),
        spans.join(" "),
    )
}

fn contexts(trace: &Trace) -> Vec<String> {
    let (mut events, mut contexts) = (trace.events(), Vec::new());
    while let Some(lent) = events.lend() {
        contexts.push(inside(&lent.unwrap()));
    }
    contexts
}

#[test]
fn what_is_lent_is_what_is_given_to_keep() {
    let cut = |bytes: Vec<u8>| Trace::from_bytes(bytes[..bytes.len() * 3 / 4].to_vec()).unwrap();
    let damaged = cut(file(&service(3)));
    for trace in [golden("v1"), golden("v2"), golden("v3"), damaged] {
        let kept: Vec<_> = trace.events().collect();
        let mut events = trace.events();
        for kept in &kept {
            match (events.lend().unwrap(), kept) {
                (Ok(lent), Ok(kept)) => {
                    assert_eq!(said(lent.event), said(kept));
                    assert_eq!(said(&lent.event.clone()), said(kept));
                }
                (Err(lent), Err(kept)) => assert_eq!(&lent, kept),
                (lent, kept) => panic!("{:?} {kept:?}", lent.map(|lent| lent.event.clone())),
            }
        }
        assert!(events.lend().is_none());
        let of_generations = trace.generations().iter().flat_map(|info| {
            let mut lent = Vec::new();
            let mut events = trace.generation(info.number).unwrap().events();
            while let Some(next) = events.lend() {
                lent.push(next.map(|next| next.event.ticks()));
            }
            lent
        });
        let kept = kept.iter().filter(|kept| kept.is_ok());
        assert!(
            of_generations
                .filter(Result::is_ok)
                .eq(kept.map(|kept| Ok(kept.as_ref().unwrap().ticks())))
        );
    }
}

#[test]
fn a_threads_state_is_that_behind_the_event() {
    let contexts = contexts(&trace(&complete(
        1,
        r#"
        block slot=1 thread=1
        site id=1 name="outer" file="f" line=1
        site id=2 name="inner" file="f" line=2
        callsite id=3 name="request" file="f" line=3 target="t" level=3 fields=[]
        @1 thread_start thread=1 os_thread=4 name="main"
        @2 worker_start runtime=0 worker=1 tenure=1
        @3 task_create task=7 incarnation=1 sequence=2 site=1
        @4 task_poll task=7 sequence=3
        @5 region_begin site=1
        @6 span_create span=1 incarnation=1 site=3 fields={}
        @7 span_enter
        @8 region_begin site=2
        @9 region_end inside=1
        @10 region_end
        @11 span_exit
        @12 span_close
        @13 task_pending
        @14 worker_park
        @15 thread_exit"#,
    )));
    let expected = [
        "thread_start: [] [] []",
        "worker_start: [] [] [] r0/w1",
        "task_create: [] [] [] r0/w1",
        "task_poll: [] [7] [] r0/w1",
        "region_begin: [outer] [7] [] r0/w1",
        "span_create: [outer] [7] [] r0/w1",
        "span_enter: [outer] [7] [1] r0/w1",
        "region_begin: [outer inner] [7] [1] r0/w1",
        "region_end: [inner] [7] [1] r0/w1",
        "region_end: [] [7] [1] r0/w1",
        "span_exit: [] [7] [] r0/w1",
        "span_close: [] [7] [] r0/w1",
        "task_pending: [] [] [] r0/w1",
        "worker_park: [] [] [] r0/w1 parked",
        "thread_exit: [] [] []",
    ];
    assert_eq!(contexts, expected);
}

#[test]
fn statuses_and_the_generation_before_are_part_of_it() {
    let first = complete(
        1,
        r#"
        block slot=1 thread=1
        site id=1 name="outer" file="f" line=1
        thread_status thread=1 os_thread=4 name="main"
        region_status site=1 ago=5
        regions_deeper count=2
        @7 counter site=1 value=1"#,
    );
    let second = incomplete(
        2,
        r#"
        block slot=1 thread=1 first_event=1
        site id=2 name="depth" file="f" line=2
        @9 counter site=2 value=2
        @10 region_end"#,
    );
    let trace = trace(&(first + &second));
    let expected =
        ["counter: [outer] [] []", "counter: [outer] [] []", "region_end: [outer] [] []"];
    assert_eq!(contexts(&trace), expected);
    let (mut events, mut deeper) = (trace.events(), Vec::new());
    while let Some(Ok(lent)) = events.lend() {
        assert_eq!(lent.state.thread(), lent.event.thread());
        deeper.push(lent.state.deeper());
        assert!(!matches!(lent.event.kind(), EventKind::ThreadStart));
    }
    assert_eq!(deeper, [2, 2, 1]);
}
