//! Spans and regions, which Go nests more strictly.

use crate::{accepted, runtime, told};
use lookback_snapshot::{Trace, validate};

#[test]
fn spans_are_user_tasks_and_their_stays_are_regions() {
    let mut story = runtime();
    let task = story.create(3, "task");
    story.poll(1, task);
    let outer = story.span(1, "request");
    story.enter(1, outer);
    let inner = story.span(1, "query");
    story.enter(1, inner);
    story.log(1, "inside");
    story.exit(1, inner);
    story.exit(1, outer);
    story.pending(1);
    // On another thread, and closed after its child, on a third one.
    story.poll(2, task);
    story.enter(2, outer);
    story.exit(2, outer);
    story.ready(2);
    story.close(3, outer);
    story.close(1, inner);
    let (outer, inner) = (story.span_id(outer).number(), story.span_id(inner).number());
    let (report, parsed) = told(story);
    assert_eq!((report.tasks_begun.recorded(), report.tasks_ended.recorded()), (2, 2));
    assert_eq!((report.regions_begun.all, report.regions_ended.all), (3, 3));
    assert_eq!(report.regions_begun.synthetic, 0);
    let Some(parsed) = parsed else { return };
    let child = format!("ID={inner} Parent={outer} Type=\"query\"");
    assert_eq!(parsed.with(&["TaskBegin", &child]).len(), 1, "{}", parsed.text);
    assert_eq!(parsed.with(&["Log ", &format!("Task={inner} "), "\"order\"", "4711"]).len(), 1);
    assert_eq!(parsed.with(&["Log ", &format!("Task={inner} "), "inside"]).len(), 1);
}

#[test]
fn stays_that_overlap_are_ended_and_begun_again() {
    let mut story = runtime();
    let [a, b, c] = ["a", "b", "c"].map(|name| story.span(3, name));
    for span in [a, b, c] {
        story.enter(3, span);
    }
    story.region(3, "region");
    story.exit(3, a);
    story.exit(3, c);
    story.end_region(3);
    story.exit(3, b);
    // The same one twice.
    story.enter(3, a);
    story.enter(3, a);
    story.exit(3, a);
    story.exit(3, a);
    let (report, _) = told(story);
    assert_eq!(report.regions_begun.recorded(), 6);
    assert_eq!(report.regions_begun.all, report.regions_ended.all);
    // Three inside `a`, one inside `c`.
    assert_eq!(report.regions_begun.synthetic, 3 + 1);
}

#[test]
fn a_region_that_ends_elsewhere_ends_when_its_task_runs_again() {
    let mut story = runtime();
    let task = story.create(3, "task");
    story.poll(1, task);
    story.region(1, "held");
    story.region(1, "held too");
    story.pending(1);
    story.end_region(1);
    story.end_region(1);
    story.poll(2, task);
    story.log(2, "free");
    story.pending(2);
    let (report, _) = told(story);
    assert_eq!((report.regions_begun.all, report.regions_ended.all), (2, 2));
    assert_eq!(report.regions_ended.synthetic, 2);
}

#[test]
fn a_deep_stack_of_regions_is_cut() {
    let mut story = runtime();
    for _ in 0..1500 {
        story.region(3, "again");
    }
    story.log(3, "deep");
    for _ in 0..1500 {
        story.end_region(3);
    }
    let (report, _) = accepted(story.file());
    assert_eq!(report.regions_begun.all, 1024);
    assert_eq!(report.regions_ended.all, 1024);
    assert!(report.left_out.deep >= 1500 - 1024);
}

#[test]
fn regions_that_end_in_another_order_than_go_allows_are_legal_there() {
    let text = r#"
generation 1 complete began=0:0:0:1000000000 ended=500:500:500:1000000000
block slot=0 sequence=0 thread=0 base=500 first_event=0
  end events=8 bytes=0 blocks=2 lost=[] advances=[] waits=[] snapshots=[]
block slot=1 sequence=0 thread=1 base=0 first_event=0
  site id=1 name="alike" file="src/main.rs" line=7
  site id=2 name="another" file="src/main.rs" line=8
  @10 thread_start thread=1 os_thread=4001 name="main"
  @20 region_begin site=1
  @30 region_begin site=2
  @40 region_begin site=1
  @50 region_end inside=2
  @60 region_end inside=1
  @70 region_end
  @80 thread_exit
"#;
    let bytes = lookback_snapshot::text::from_text(text).unwrap();
    let trace = Trace::from_bytes(bytes.clone()).unwrap();
    assert_eq!(validate(&trace), []);
    let took: Vec<_> = trace
        .events()
        .filter_map(|event| match event.unwrap().kind() {
            lookback_snapshot::EventKind::RegionEnd { site, duration, inside } => {
                Some((site.unwrap().line, duration.unwrap().0, inside))
            }
            _ => None,
        })
        .collect();
    assert_eq!(took, [(7, 30, 2), (8, 30, 1), (7, 30, 0)]);
    let (report, _) = accepted(bytes);
    let (begun, ended) = (report.regions_begun, report.regions_ended);
    assert_eq!((begun.recorded(), ended.recorded(), report.left_out.ends), (3, 3, 0));
    // When a region ends, the ones inside it end, too, and begin again.
    assert_eq!((begun.synthetic, ended.synthetic), (3, 3));
}
