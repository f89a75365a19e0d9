//! The lists of tasks and spans, which a record contains as bytes.

use super::literal::{Reason, Words};
use super::print::given;
use crate::read::decode::bytes::Bytes;
use crate::wire::{
    ListedFields, ListedStack, SpanId, SpanListItem, SpanListReader, SpanListWriter, TaskListItem,
    TaskStacks, TaskStacksReader, TaskStacksWriter,
};
use std::collections::HashMap;
use std::fmt::Write;

/// Writes a list of tasks; `None` if it is not encoded exactly as a recorder would.
pub(super) fn task_list(bytes: &[u8]) -> Option<String> {
    let (mut rest, mut before, mut again) = (bytes, TaskListItem::default(), Vec::new());
    let mut out = String::from("[");
    while !rest.is_empty() {
        let (item, length) = TaskListItem::get(&before, rest)?;
        item.put(&before, &mut again);
        let comma = if out.len() > 1 { ", " } else { "" };
        let state = if item.running { "running" } else { "idle" };
        let woken = if item.woken { " woken" } else { "" };
        let TaskListItem { task, incarnation, site, .. } = item;
        let _ = write!(out, "{comma}{task}.{incarnation} site {site} {state}{woken}");
        before = item;
        rest = &rest[length..];
    }
    out.push(']');
    (again == bytes).then_some(out)
}

/// The most characters of the text for each byte of the list.
const LONGER: usize = 256;

/// Writes a list of spans; `None` if it is not encoded exactly as a recorder would, or if it repeats so much
/// that the text would be out of proportion.
pub(super) fn span_list(bytes: &[u8]) -> Option<String> {
    let most = bytes.len().saturating_mul(LONGER) + (64 << 10);
    let (mut list, mut again) = (SpanListReader::new(bytes), SpanListWriter::default());
    let mut out = String::from("[");
    while !list.is_at_end() {
        let span = list.next(most)?;
        again.push(span.item, span.part, span.values);
        let SpanListItem { span: SpanId { index, incarnation }, parent, ago, site, .. } = span.item;
        let comma = if out.len() > 1 { ", " } else { "" };
        let _ = write!(out, "{comma}{index}.{incarnation} ");
        if parent != SpanId::default() {
            let _ = write!(out, "in {}.{} ", parent.index, parent.incarnation);
        }
        let _ = write!(out, "ago {ago} site {site}");
        if span.item.fields != ListedFields::None {
            out.push_str(if span.part { " part {" } else { " {" });
            let mut values = Bytes::new(span.values, 0, span.values.len() as u32);
            for at in 0..span.count {
                out.push_str(if at > 0 { ", " } else { "" });
                given(span.values, &mut values, &mut out).ok()?;
            }
            out.push('}');
        }
        if out.len() > most {
            return None;
        }
    }
    out.push(']');
    (again.bytes() == bytes).then_some(out)
}

/// Writes a list of where tasks wait; `None` if it is not encoded exactly as a recorder would, or if it repeats so much
/// that the text would be out of proportion.
pub(super) fn task_stack_list(bytes: &[u8]) -> Option<String> {
    let most = bytes.len().saturating_mul(LONGER) + (64 << 10);
    let (mut list, mut again) = (TaskStacksReader::new(bytes), Stacks::default());
    let mut out = String::from("[");
    while !list.is_at_end() {
        let TaskStacks { task, incarnation, set } = list.next()?;
        let stacks = list.sets.get(set as usize)?;
        again.push(task, incarnation, stacks.clone());
        let comma = if out.len() > 1 { ", " } else { "" };
        let _ = write!(out, "{comma}{task}.{incarnation} at [");
        for (at, of) in stacks.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            let earlier = if of.is_earlier { " earlier" } else { "" };
            let _ = write!(out, "{comma}{}{earlier}", of.stack);
        }
        out.push(']');
        if out.len() > most {
            return None;
        }
    }
    out.push(']');
    (again.list.bytes() == bytes).then_some(out)
}

/// Writes such a list with each set of stacks once.
#[derive(Default)]
struct Stacks {
    list: TaskStacksWriter,
    known: HashMap<Vec<ListedStack>, u32>,
}

impl Stacks {
    fn push(&mut self, task: u32, incarnation: u32, stacks: Vec<ListedStack>) {
        match self.known.get(&stacks) {
            Some(set) => self.list.push(task, incarnation, *set),
            None => {
                let set = self.list.push_new(task, incarnation, &stacks);
                self.known.insert(stacks, set);
            }
        }
    }
}

impl Words<'_> {
    /// Reads a list of where tasks wait.
    pub(super) fn task_stacks(&mut self) -> Result<Vec<u8>, Reason> {
        let mut list = Stacks::default();
        self.list(["[", "]"], |words| {
            let (task, incarnation) = words.place()?;
            words.expect("at")?;
            let mut stacks = Vec::new();
            words.list(["[", "]"], |words| {
                let stack = words.number()?;
                stacks.push(ListedStack { stack, is_earlier: words.take("earlier") });
                Ok(())
            })?;
            list.push(task, incarnation, stacks);
            Ok(())
        })?;
        Ok(list.list.bytes().to_vec())
    }

    /// Reads a list of tasks.
    pub(super) fn tasks(&mut self) -> Result<Vec<u8>, Reason> {
        let (mut out, mut before) = (Vec::new(), TaskListItem::default());
        self.list(["[", "]"], |words| {
            let (task, incarnation) = words.place()?;
            words.expect("site")?;
            let site = words.number()?;
            let running = words.take("running");
            if !running {
                words.expect("idle")?;
            }
            let woken = words.take("woken");
            let item = TaskListItem { task, incarnation, site, running, woken };
            item.put(&before, &mut out);
            before = item;
            Ok(())
        })?;
        Ok(out)
    }

    /// Reads a list of spans.
    pub(super) fn spans(&mut self) -> Result<Vec<u8>, Reason> {
        let mut list = SpanListWriter::default();
        self.list(["[", "]"], |words| {
            let (index, incarnation) = words.place()?;
            let span = SpanId { index, incarnation };
            let mut item = SpanListItem { span, ..SpanListItem::default() };
            if words.take("in") {
                let (index, incarnation) = words.place()?;
                item.parent = SpanId { index, incarnation };
            }
            words.expect("ago")?;
            item.ago = words.number()?;
            words.expect("site")?;
            item.site = words.number()?;
            let part = words.take("part");
            let mut fields = Vec::new();
            if part || words.rest.starts_with('{') {
                words.list(["{", "}"], |words| words.given(&mut fields))?;
            }
            list.push(item, part, &fields);
            Ok(())
        })?;
        Ok(list.bytes().to_vec())
    }

    fn place(&mut self) -> Result<(u32, u32), Reason> {
        let index = self.number()?;
        self.expect(".")?;
        Ok((index, self.number()?))
    }
}
