//! One order over all slots of a generation.
//!
//! A merge by time that never reorders the events of one slot: the stream whose next event is the
//! earliest goes first; of two that are equal, the one with the lower slot. Where clocks agree, as
//! they do on one machine, that is the order in which things happened, up to the clock's precision.

use super::bytes::Fault;
use super::generation::Contents;
use super::stream::{Raw, Stream};
use crate::wire::Ticks;
use std::collections::VecDeque;

/// See the module.
pub(super) struct Order {
    streams: Vec<Stream>,
    /// A heap: the earliest is at the front, each is no later than those at `2i + 1` and `2i + 2`.
    heap: Vec<(Ticks, u32)>,
    /// Damage that was met and is yet to be told.
    faults: VecDeque<(u32, Fault)>,
}

impl Order {
    pub(super) fn new(of: &Contents) -> Self {
        let mut order = Self { streams: Vec::new(), heap: Vec::new(), faults: VecDeque::new() };
        for blocks in of.slots() {
            let mut stream = Stream::new(blocks);
            if order.advance(&mut stream, of) {
                order.heap.push((stream.event.ticks, order.streams.len() as u32));
                order.streams.push(stream);
            }
        }
        order.heap.sort_unstable();
        order
    }

    /// The next event, or damage.
    #[inline]
    pub(super) fn next(&mut self, of: &Contents) -> Option<Result<Raw, (u32, Fault)>> {
        if let Some(fault) = self.faults.pop_front() {
            return Some(Err(fault));
        }
        let &(_, index) = self.heap.first()?;
        let stream = &mut self.streams[index as usize];
        let event = stream.event;
        // In the usual case there is another event, and it goes back into the same place.
        match stream.next_event(of) {
            Some(Ok(())) => {
                let next = (stream.event.ticks, index);
                self.sift_down(next);
            }
            Some(Err(fault)) => self.refill(index, fault, of),
            None => self.remove(),
        }
        Some(Ok(event))
    }

    #[cold]
    fn refill(&mut self, index: u32, mut fault: (u32, Fault), of: &Contents) {
        loop {
            self.faults.push_back(fault);
            let stream = &mut self.streams[index as usize];
            match stream.next_event(of) {
                Some(Ok(())) => {
                    let next = (stream.event.ticks, index);
                    return self.sift_down(next);
                }
                Some(Err(next)) => fault = next,
                None => return self.remove(),
            }
        }
    }

    /// Goes to the first event of a stream, if there is one.
    fn advance(&mut self, stream: &mut Stream, of: &Contents) -> bool {
        loop {
            match stream.next_event(of) {
                Some(Ok(())) => return true,
                Some(Err(fault)) => self.faults.push_back(fault),
                None => return false,
            }
        }
    }

    /// Takes the first out of the heap.
    #[cold]
    fn remove(&mut self) {
        self.heap.swap_remove(0);
        if let Some(&first) = self.heap.first() {
            self.sift_down(first);
        }
    }

    /// Puts `moved` where the first of the heap was, and from there down to its place.
    #[inline]
    fn sift_down(&mut self, moved: (Ticks, u32)) {
        let heap = &mut self.heap[..];
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= heap.len() {
                break;
            }
            if child + 1 < heap.len() && heap[child + 1] < heap[child] {
                child += 1;
            }
            if moved <= heap[child] {
                break;
            }
            heap[at] = heap[child];
            at = child;
        }
        heap[at] = moved;
    }
}
