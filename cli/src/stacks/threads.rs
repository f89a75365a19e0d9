//! The stacks of a process's threads, taken from outside: those of a snapshot, or of a process right now.

use super::groups::{Group, NamedFrame};
use super::print::{every_frame, frame as frame_json, has_own, innermost_frames, own_frames};
use crate::format::{counted, escape};
use crate::terminal::{dim, odd};
use lookback::read::symbols::{Blocked, FrameNames, Holder, Symbolizer, Wait, WaitKind};
use lookback::read::{ProcessStacks, StackSource, ThreadAt, WaitsOn};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, Write};
use std::rc::Rc;

/// How many threads of a group are named.
const MOST_NAMED: usize = 8;
/// How many frames are kept of all stacks together: a file may claim any number.
const MOST_FRAMES: usize = 200_000;

/// A lock: its address, who holds it, and the indices of the threads that wait for it.
pub type Lock = (u64, Option<Holder>, Vec<usize>);

/// See the module.
pub struct Threads<'a> {
    pub stacks: &'a ProcessStacks,
    pub blocked: Blocked,
    /// Threads at the same place, by index; the more telling first.
    groups: Vec<(Vec<usize>, Group)>,
    /// So many different stacks have no frames, for want of room.
    stacks_left_out: u64,
    /// Who has taken them.
    from: &'static str,
}

impl<'a> Threads<'a> {
    pub fn of(stacks: &'a ProcessStacks, symbolizer: &mut Symbolizer) -> Self {
        let mut names = FrameNames::new(stacks, symbolizer);
        let blocked = Blocked::of(&mut names);
        let modules: Vec<_> = stacks
            .modules
            .iter()
            .map(|of| {
                let hex = of.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
                Rc::new((of.path.clone(), hex))
            })
            .collect();
        let mut known = HashMap::new();
        let mut groups: Vec<(Vec<usize>, Group)> = Vec::new();
        let (mut room, mut stacks_left_out) = (MOST_FRAMES, 0);
        for (at, thread) in stacks.threads.iter().enumerate() {
            let wait = &blocked.waits[at];
            // Who waits for one lock belongs together, and who waits for another one does not.
            let lock = wait.address.filter(|_| wait.kind == Some(WaitKind::Lock));
            let key = (thread.stack, thread.source, &thread.waits.call, lock, wait.holder);
            if let Some(group) = known.get(&key) {
                let (members, _): &mut (Vec<usize>, Group) = &mut groups[*group];
                members.push(at);
                continue;
            }
            let mut functions = names.of(thread);
            if functions.len() > room {
                functions.clear();
                stacks_left_out += 1;
            }
            room -= functions.len();
            let numbers = modules_of(stacks, thread);
            let frames = stacks.frames_of(thread).zip(numbers).zip(functions).map(
                |((frame, number), functions)| {
                    let module = number.and_then(|number| modules.get(number)).map(Rc::clone);
                    let functions = functions.to_vec();
                    NamedFrame { module, offset: frame.offset, is_exact: frame.is_exact, functions }
                },
            );
            let frames = frames.collect();
            let group = Group {
                count: 1,
                first: 0,
                reason: None,
                source: Some(thread.source),
                thread: thread.os_thread,
                thread_name: thread.name.clone(),
                end: (thread.stack > 0).then_some(thread.end),
                is_damaged: false,
                frames,
            };
            known.insert(key, groups.len());
            groups.push((vec![at], group));
        }
        groups.sort_by_key(|(members, group)| rank(&blocked.waits[members[0]], group));
        Self { stacks, blocked, groups, stacks_left_out, from: "from outside" }
    }

    /// The threads that the recorder has seen standing still.
    pub fn standing(stacks: &'a ProcessStacks, symbolizer: &mut Symbolizer) -> Self {
        Self { from: "standing still at the end", ..Self::of(stacks, symbolizer) }
    }

    pub fn print(&self, all_frames: bool, out: &mut impl Write) -> io::Result<()> {
        let with = self.stacks.threads.iter().filter(|thread| thread.stack > 0).count();
        let all = counted(self.stacks.threads.len() as u64, "thread");
        let line = format!("{all}, {with} with a stack, {}", self.from);
        writeln!(out, "{}", dim().apply_to(line))?;
        for circle in &self.blocked.circles {
            writeln!(out)?;
            for line in self.circle(circle) {
                writeln!(out, "{}", odd().apply_to(escape(&line)))?;
            }
        }
        let is_any_own = self.groups.iter().any(|(_, group)| has_own(group));
        for (members, group) in &self.groups {
            writeln!(out)?;
            self.header(members, out)?;
            if group.frames.is_empty() {
                continue;
            }
            if all_frames {
                every_frame(group, out)?;
            } else if is_any_own && !has_own(group) {
                // An idle worker, say: it would hide those that are somewhere in the service.
                innermost_frames(group, out)?;
            } else {
                own_frames(group, out)?;
            }
        }
        let runs = |thread: &&ThreadAt| thread.source == StackSource::Running;
        if self.stacks.threads.iter().any(|thread| runs(&thread)) {
            let words = "--stop interrupts running threads for a moment, and shows their stacks";
            writeln!(out, "\n{}", dim().apply_to(words))?;
        }
        if self.stacks_left_out > 0 {
            let stacks = counted(self.stacks_left_out, "further stack");
            let words = format!("{stacks} not shown: there are more than {MOST_FRAMES} frames");
            writeln!(out, "\n{}", odd().apply_to(words))?;
        }
        if self.stacks.left_out > 0 {
            let words = format!("{} left out", counted(self.stacks.left_out, "more thread"));
            writeln!(out, "\n{}", odd().apply_to(words))?;
        }
        Ok(())
    }

    /// The locks that threads wait for, those with the most waiters first.
    pub fn locks(&self) -> Vec<Lock> {
        let mut found: Vec<Lock> = Vec::new();
        let mut known = HashMap::new();
        for (at, wait) in self.blocked.waits.iter().enumerate() {
            let Some(address) = wait.address.filter(|_| wait.kind == Some(WaitKind::Lock)) else {
                continue;
            };
            let lock = *known.entry(address).or_insert_with(|| {
                found.push((address, wait.holder, Vec::new()));
                found.len() - 1
            });
            found[lock].2.push(at);
        }
        found.sort_by_key(|(.., waiters)| std::cmp::Reverse(waiters.len()));
        found
    }

    /// A deadlock, a line for each thread in it.
    pub fn circle(&self, circle: &[usize]) -> Vec<String> {
        let is_certain = circle
            .iter()
            .all(|at| self.blocked.waits[*at].holder.is_some_and(|holder| holder.is_certain));
        let mut lines = vec![match is_certain {
            true => "Deadlock: each of these waits for the next one".to_owned(),
            false => "Deadlock, it seems: each of these waits for the next one, which has the lock on its stack".to_owned(),
        }];
        lines.extend(
            circle.iter().map(|at| format!("  {} {}", self.called(*at), self.waits_for(*at))),
        );
        lines
    }

    /// `forth (17)`.
    pub fn called(&self, at: usize) -> String {
        let thread = &self.stacks.threads[at];
        format!("{} ({})", thread.name, thread.os_thread)
    }

    /// `waits for the lock 0x7f… at src/main.rs:17 (shop::transfer); back (18) seems to hold it`.
    pub fn waits_for(&self, at: usize) -> String {
        let (thread, wait) = (&self.stacks.threads[at], &self.blocked.waits[at]);
        let mut said = match (&thread.waits.on, wait.kind) {
            (_, None) => return String::new(),
            (_, Some(WaitKind::Lock)) => match wait.address {
                Some(address) => format!("waits for the lock {address:#x}"),
                None => "waits for a lock".to_owned(),
            },
            (WaitsOn::File { descriptor, what }, _) if what.is_empty() => {
                format!("is in {} of descriptor {descriptor}", thread.waits.call)
            }
            (WaitsOn::File { descriptor, what }, _) => {
                format!("is in {} of descriptor {descriptor} ({what})", thread.waits.call)
            }
            (_, Some(WaitKind::Sleep)) => "sleeps".to_owned(),
            (_, Some(WaitKind::Other)) => format!("is in {}", thread.waits.call),
            (_, Some(kind)) => format!("waits for {}", kind.in_words()),
        };
        if let Some(place) = &wait.place {
            let at = match &place.place {
                Some((file, line)) => format!(" at {file}:{line} ({})", place.function),
                None => format!(" in {}", place.function),
            };
            said += &at;
        }
        if thread.waits.is_timed && wait.kind != Some(WaitKind::Sleep) {
            said += ", for a time";
        }
        if let Some(Holder { thread: holder, is_certain, .. }) = wait.holder {
            let holder = self.called(holder);
            said += &match (wait.kind, is_certain) {
                (Some(WaitKind::Join), _) => format!(": {holder}"),
                (_, true) => format!("; {holder} holds it"),
                (_, false) => format!("; {holder} has it on its stack, and may hold it"),
            };
        }
        said
    }

    fn header(&self, members: &[usize], out: &mut impl Write) -> io::Result<()> {
        let thread = &self.stacks.threads[members[0]];
        let named = members.iter().take(MOST_NAMED).map(|at| self.called(*at));
        let mut named = named.collect::<Vec<_>>().join(", ");
        if members.len() > MOST_NAMED {
            named += &format!(", and {} more", members.len() - MOST_NAMED);
        }
        let many = match members.len() {
            1 => String::new(),
            many => format!("{many} threads: "),
        };
        write!(out, "{}", odd().apply_to(escape(&format!("{many}{named}"))))?;
        if thread.stack == 0 {
            return writeln!(out, ": no stack: {}", thread.source);
        }
        let mut how = match self.waits_for(members[0]) {
            said if said.is_empty() => thread.source.in_words().to_owned(),
            said => said,
        };
        if members.len() > 1 {
            // Of several.
            for (one, many) in [("waits ", "wait "), ("is ", "are "), ("sleeps", "sleep")] {
                if let Some(rest) = how.strip_prefix(one) {
                    how = format!("{many}{rest}");
                    break;
                }
            }
        }
        writeln!(out, " {}", dim().apply_to(escape(&how)))
    }

    pub fn json(&self) -> Value {
        let threads = self
            .groups
            .iter()
            .flat_map(|(members, group)| members.iter().map(move |at| (*at, group)));
        let thread = |(at, group): (usize, &Group)| {
            let (thread, wait) = (&self.stacks.threads[at], &self.blocked.waits[at]);
            let of = &thread.waits;
            let on = match &of.on {
                WaitsOn::Futex { address, .. } => json!({"futex": format!("{address:#x}")}),
                WaitsOn::File { descriptor, what } => {
                    json!({"descriptor": descriptor, "what": what})
                }
                _ => Value::Null,
            };
            let number = |at: usize| self.stacks.threads[at].os_thread;
            let holder = wait.holder.map(
                |holder| json!({"os_thread": number(holder.thread), "certain": holder.is_certain}),
            );
            json!({
                "os_thread": thread.os_thread,
                "name": thread.name,
                "state": thread.state.to_string(),
                "taken": thread.source.in_words(),
                "call": (!of.call.is_empty()).then_some(&of.call),
                "timed": of.is_timed,
                "waits_for": wait.kind.map(WaitKind::in_words),
                "on": on,
                "holder": holder,
                "end": group.end.map(|end| end.in_words()),
                "frames": group.frames.iter().map(frame_json).collect::<Vec<_>>(),
            })
        };
        let circles = self.blocked.circles.iter().map(|circle| {
            circle.iter().map(|at| self.stacks.threads[*at].os_thread).collect::<Vec<_>>()
        });
        json!({
            "taken_wall_ns": self.stacks.wall.0,
            "threads": threads.map(thread).collect::<Vec<_>>(),
            "deadlocks": circles.collect::<Vec<_>>(),
            "left_out": self.stacks.left_out,
            "stacks_left_out": self.stacks_left_out,
        })
    }
}

/// Threads in the service's own code come first, those without a stack last.
fn rank(wait: &Wait, group: &Group) -> (u8, u64) {
    let first = match (wait.holder, &wait.place) {
        (Some(_), _) => 0,
        (None, Some(_)) => 1,
        (None, None) if group.frames.is_empty() => 3,
        (None, None) => 2,
    };
    (first, group.thread)
}

/// The index of the file of each frame of a thread's stack.
fn modules_of<'s>(
    stacks: &'s ProcessStacks,
    thread: &ThreadAt,
) -> impl Iterator<Item = Option<usize>> + use<'s> {
    let frame = |number: u32| stacks.frames.get((number as usize).checked_sub(1)?);
    let frames = std::iter::successors(frame(thread.stack), move |found| frame(found.caller));
    frames.map(|found| (found.module as usize).checked_sub(1))
}
