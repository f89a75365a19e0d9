//! The stack in the note of a crash, as records: as if the thread had recorded it when it got the signal.
//!
//! A handler of a signal cannot record, as it may have interrupted a record; so it writes numbers into the arena's
//! header. Here they become a block, the last one of the thread in the newest generation, and so every tool finds the
//! stack where it finds others.

use crate::file::{FileBlock, GenerationFrame};
use crate::wire::{
    Block, BlockHeader, CrashNote, CrashStack, Kind, MAX_TEXT, Position, StackEnd, StackReason,
    ThreadNumber, Ticks, floor_char_boundary, put_varint,
};

/// Ids are below this. The recorder counts from 0, so it has hardly used those at the other end.
const IDS: u64 = 1 << 24;
/// The numbers of threads that the recorder does not know begin here: the operating system's is added.
const NAMELESS: u64 = 1 << 40;

/// See the module.
#[derive(Debug)]
pub(super) struct CrashBlock {
    header: BlockHeader,
    /// Definitions, and one event.
    records: Vec<u8>,
}

impl CrashBlock {
    /// The block for the newest of these generations; `None` if no stack was noted.
    pub(super) fn new(crash: &CrashNote, generations: &[GenerationFrame<'_>]) -> Option<Self> {
        let stack = crash.stack.as_ref()?;
        let is_known = crash.thread.0 != 0;
        let thread = if is_known {
            crash.thread
        } else {
            ThreadNumber(NAMELESS + crash.os_thread % NAMELESS)
        };
        let header = place(thread, crash.ticks, generations)?;
        let mut records = Records::default();
        let id = records.stack(stack);
        if !is_known {
            records.begin(Kind::ThreadStatus);
            records.number(thread.0);
            records.number(crash.os_thread);
            records.text(&crash.thread_name);
        }
        let source = stack.source.map_or(0, |source| source as u64);
        let id = if stack.frames.is_empty() { 0 } else { id };
        records.begin(Kind::ThreadStack);
        for number in [0, thread.0, id, StackReason::Crash as u64, source] {
            records.number(number);
        }
        Some(Self { header, records: records.bytes })
    }

    pub(super) fn block(&self) -> FileBlock<'_> {
        let Self { header, records } = self;
        let block = Block { header: *header, events: 1, records };
        FileBlock { block, cut: records.len() as u32 }
    }
}

/// Where the thread's next block is.
fn place(
    thread: ThreadNumber,
    crashed: Ticks,
    generations: &[GenerationFrame<'_>],
) -> Option<BlockHeader> {
    let newest = generations.last()?;
    let headers = || newest.blocks.iter().map(|block| &block.block);
    let last_of = |slot| {
        let of_slot = headers().filter(|block| block.header.slot == slot);
        of_slot.max_by_key(|block| block.header.sequence)
    };
    let own = headers().filter(|block| block.header.thread == thread && block.header.slot != 0);
    let own = own.max_by_key(|block| (block.header.base, block.header.sequence));
    // The slot may have gone to another thread since.
    let own =
        own.and_then(|own| last_of(own.header.slot).filter(|last| last.header.thread == thread));
    let (slot, sequence, first_event) = match own {
        Some(Block { header, events, .. }) => (
            header.slot,
            header.sequence.saturating_add(1),
            header.first_event.saturating_add(u64::from(*events)),
        ),
        None => {
            // Events of a slot are counted from generation to generation, so it is one that nobody had.
            let blocks = generations.iter().flat_map(|generation| &generation.blocks);
            let slots = blocks.map(|block| block.block.header.slot);
            (slots.max().unwrap_or_default().saturating_add(1), 0, 0)
        }
    };
    Some(BlockHeader {
        length: 0,
        position: Position(0),
        generation: newest.number,
        base: crashed.max(newest.began.ticks),
        first_event,
        slot,
        sequence,
        thread,
    })
}

#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    ids: u64,
}

impl Records {
    fn begin(&mut self, kind: Kind) {
        self.bytes.push(kind as u8);
    }

    fn number(&mut self, number: u64) {
        put_varint(&mut self.bytes, number);
    }

    fn text(&mut self, text: &str) {
        let whole = &text[..floor_char_boundary(text, MAX_TEXT)];
        let is_cut = whole.len() < text.len();
        self.number((whole.len() as u64) << 2 | u64::from(is_cut) << 1);
        self.bytes.extend(whole.as_bytes());
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        IDS - self.ids
    }

    /// Defines the stack, and returns its id.
    fn stack(&mut self, stack: &CrashStack) -> u64 {
        let mut files = Vec::new();
        for file in &stack.files {
            let id = self.next_id();
            self.begin(Kind::Module);
            self.number(id);
            self.text(&file.path);
            self.number(file.build_id.len() as u64);
            self.bytes.extend(&file.build_id);
            files.push(id);
        }
        let end = stack.end.unwrap_or(StackEnd::Begin);
        let mut caller = self.frame(0, 0, end as u64);
        for (index, frame) in stack.frames.iter().enumerate().rev() {
            if index + 1 == stack.innermost && stack.left_out > 0 {
                caller = self.frame(caller, 0, stack.left_out << 1);
            }
            let file = frame.file.map_or(0, |file| files[file]);
            let offset = u64::from(frame.offset) << 1 | u64::from(frame.is_exact);
            caller = self.frame(caller, file, if file == 0 { offset & 1 } else { offset });
        }
        caller
    }

    fn frame(&mut self, caller: u64, module: u64, offset: u64) -> u64 {
        let id = self.next_id();
        self.begin(Kind::Frame);
        for number in [id, caller, module, offset] {
            self.number(number);
        }
        id
    }
}
