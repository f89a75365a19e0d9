//! Each generation continues the one before it, or states what there was before; what is missing between is made up for.

use crate::build::file;
use crate::{accepted, go, runtime, told};

#[test]
fn what_was_there_before_the_snapshot_is_stated() {
    let mut story = runtime();
    let [idle, woken, running, outer] =
        ["idle", "woken", "running", "outer"].map(|name| story.create(3, name));
    for task in [idle, woken] {
        story.poll(1, task);
        story.pending(1);
    }
    story.wake(3, woken);
    let span = story.span(3, "open");
    let inside = story.span(2, "inside");
    story.poll(2, outer);
    story.poll(2, running);
    story.enter(2, inside);
    story.region(2, "region");
    story.park(1);
    story.next_generation();
    story.log(2, "still in it");
    story.end_region(2);
    story.exit(2, inside);
    story.ready(2);
    story.pending(2);
    story.close(3, span);
    story.unpark(1);
    story.poll(1, woken);
    story.pending(1);
    story.next_generation();
    let ids = [idle, woken, running, outer].map(|task| story.id(task));
    let generations = story.generations();
    // Without the first one.
    let (report, parsed) = accepted(file(&generations[1..2]));
    assert_eq!((report.tasks_begun.synthetic, report.tasks_ended.recorded()), (2, 1));
    assert_eq!((report.starts.recorded(), report.destroys.recorded()), (1, 1));
    assert_eq!(report.left_out.sum(), 0);
    // The previous nesting is unknown. So the span may have to begin once more.
    assert_eq!((report.regions_begun.all, report.regions_ended.all), (3, 3));
    let Some(parsed) = parsed else { return };
    for (id, state) in ids.iter().zip(["Waiting", "Runnable", "Running", "Waiting"]) {
        let stated = parsed.with(&[&go(*id), &format!("Undetermined->{state}")]);
        assert_eq!(stated.len(), 1, "{id}: {:#?}", parsed.with(&[&go(*id)]));
    }
}

#[test]
fn several_generations_are_one_trace_and_state_nothing_twice() {
    let mut story = runtime();
    let task = story.create(3, "long");
    let span = story.span(3, "long");
    story.poll(1, task);
    story.enter(1, span);
    for _ in 0..5 {
        story.next_generation();
        story.log(1, "on");
        story.exit(1, span);
        story.pending(1);
        story.wake(3, task);
        story.next_generation();
        story.poll(1, task);
        story.enter(1, span);
    }
    story.ready(1);
    let (report, _) = told(story);
    assert_eq!((report.statuses.all, report.left_out.sum()), (0, 0));
    assert_eq!((report.tasks_begun.all, report.tasks_begun.synthetic), (1, 0));
    assert_eq!((report.starts.recorded(), report.unblocks.recorded()), (6, 5));
    assert_eq!(report.regions_begun.all, 6);
}

#[test]
fn an_incomplete_generation_goes_on_where_its_predecessor_ended() {
    let mut story = runtime();
    let task = story.create(3, "task");
    story.poll(1, task);
    story.region(1, "region");
    story.next_generation();
    story.log(1, "on");
    story.end_region(1);
    story.pending(1);
    let (report, _) = accepted(file(&story.generations()));
    assert_eq!((report.statuses.all, report.left_out.sum()), (0, 0));
    assert_eq!((report.blocks.recorded(), report.regions_ended.all), (1, 1));
}

#[test]
fn a_lost_generation_leaves_a_gap_and_a_trace_that_is_valid() {
    let mut story = runtime();
    let [stays, goes, runs] = ["stays", "goes", "runs"].map(|name| story.create(3, name));
    let [open, ended] = ["open", "ended"].map(|name| story.span(3, name));
    for task in [stays, goes] {
        story.poll(1, task);
        story.pending(1);
    }
    story.poll(2, runs);
    story.enter(2, open);
    story.next_generation();
    // All of this is lost.
    story.exit(2, open);
    story.pending(2);
    story.poll(1, stays);
    story.region(1, "new");
    story.drop_task(2, goes);
    story.close(3, ended);
    let born = story.create(3, "born");
    story.exit_thread(3);
    story.next_generation();
    story.log(1, "after");
    story.end_region(1);
    story.pending(1);
    story.poll(2, runs);
    story.ready(2);
    story.poll(2, born);
    story.pending(2);
    story.close(1, open);
    story.next_generation();
    let mut generations = story.generations();
    generations.remove(1);
    let (report, parsed) = accepted(file(&generations));
    assert_eq!(report.tasks_ended.all, 2);
    assert!(report.destroys.synthetic >= 2, "a task and a thread: {report:#?}");
    let Some(parsed) = parsed else { return };
    assert_eq!(parsed.with(&["Log ", "after"]).len(), 1);
}

#[test]
fn losses_are_made_up_for() {
    let mut story = runtime();
    let [a, b] = ["a", "b"].map(|name| story.create(3, name));
    story.poll(1, a);
    story.region(1, "region");
    story.lose_pending(1);
    story.log(1, "outside");
    story.poll(1, b);
    story.pending(1);
    story.poll(2, a);
    story.lose_pending(2);
    story.poll(1, a);
    story.ready(1);
    let (report, parsed) = accepted(story.file());
    assert_eq!(report.starts.recorded(), 4);
    assert_eq!(report.destroys.recorded(), 1);
    let Some(parsed) = parsed else { return };
    assert_eq!(parsed.with(&["Log ", "outside"]).len(), 1);
}
