//! The stack in the note of a crash: frames as numbers in the note, the files that they belong to behind the metadata
//! of the arena's header. A signal handler writes both, wherever it has interrupted the thread, so nothing here refers
//! to a record.

use super::{StackEnd, StackSource, offset};

/// Offsets within the note, in bytes. All fields are little-endian.
pub mod crash_stack_offset {
    /// u64: the state of the note that the stack belongs to; 0 while there is none.
    pub const STATE: usize = 104;
    /// u32: how many frames the stack has, those that were left out included.
    pub const COUNT: usize = 112;
    /// u8: how many of the innermost frames are here, and of the outermost ones.
    pub const INNERMOST: usize = 116;
    /// See [`INNERMOST`].
    pub const OUTERMOST: usize = 117;
    /// u8, a [`StackEnd`](super::StackEnd): why there are no more frames.
    pub const END: usize = 118;
    /// u8, a [`StackSource`](super::StackSource): how it was obtained, or why there is none.
    pub const SOURCE: usize = 119;
    /// u16: where in the header the files begin, and how many bytes they are.
    pub const FILES: usize = 120;
    /// See [`FILES`].
    pub const FILES_LENGTH: usize = 122;
    /// u32 for each frame, innermost first: where in its file it is, doubled, plus 1 if it is the very instruction.
    pub const FRAMES: usize = 124;
    /// The most of the innermost frames, and of the outermost ones.
    pub const MAX_INNERMOST: usize = 64;
    /// See [`MAX_INNERMOST`].
    pub const MAX_OUTERMOST: usize = 32;

    const _: () = assert!(FRAMES + 4 * (MAX_INNERMOST + MAX_OUTERMOST) <= 512);
}

/// The stack of the thread that got a fatal signal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashStack {
    /// The frames, innermost first.
    pub frames: Vec<CrashFrame>,
    /// So many of the first of these are the innermost ones; the others are the outermost ones.
    pub innermost: usize,
    /// So many frames between the two were left out.
    pub left_out: u64,
    /// The files.
    pub files: Vec<CrashFile>,
    /// Why there are no more frames, if this version knows it.
    pub end: Option<StackEnd>,
    /// How it was obtained, or why there is none, if this version knows it.
    pub source: Option<StackSource>,
}

/// A frame of a [`CrashStack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashFrame {
    /// Which of the files its code comes from; `None` if it is unknown.
    pub file: Option<usize>,
    /// Its address in the terms of the file's symbols and debug information.
    pub offset: u32,
    /// Whether `offset` is the address of the next instruction. Otherwise it is a return address.
    pub is_exact: bool,
}

/// A file that code was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashFile {
    /// Its path.
    pub path: String,
    /// The linker's id of this build; empty if it has none.
    pub build_id: Vec<u8>,
}

impl CrashStack {
    /// Reads the stack that belongs to the note with this state. `header` is the arena's.
    pub(super) fn parse(header: &[u8], state: u64) -> Option<Self> {
        use crash_stack_offset as at;
        let note = header.get(offset::CRASH_NOTE..offset::LOST)?;
        let u16_at = |at: usize| u16::from_le_bytes(std::array::from_fn(|i| note[at + i]));
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| note[at + i]));
        let of = u64::from_le_bytes(std::array::from_fn(|i| note[at::STATE + i]));
        if of == 0 || of != state {
            return None;
        }
        let innermost = usize::from(note[at::INNERMOST]).min(at::MAX_INNERMOST);
        let outermost = usize::from(note[at::OUTERMOST]).min(at::MAX_OUTERMOST);
        let (start, length) = (u16_at(at::FILES), u16_at(at::FILES_LENGTH));
        let (start, end) = (usize::from(start), usize::from(start) + usize::from(length));
        let is_behind_metadata = start >= offset::METADATA && end <= offset::SAVES;
        let of_files = if is_behind_metadata { header.get(start..end) } else { None };
        let (files, runs) = files(of_files.unwrap_or_default()).unwrap_or_default();
        let frames: Vec<_> = (0..innermost + outermost)
            .map(|index| {
                let word = u32_at(at::FRAMES + 4 * index);
                let file = runs.get(index).copied().filter(|file| *file < files.len());
                CrashFrame { file, offset: word >> 1, is_exact: word & 1 != 0 }
            })
            .collect();
        Some(Self {
            left_out: u64::from(u32_at(at::COUNT)).saturating_sub(frames.len() as u64),
            frames,
            innermost,
            files,
            end: StackEnd::from_code(note[at::END].into()),
            source: StackSource::from_code(note[at::SOURCE].into()),
        })
    }
}

/// The files, and for each frame its file: a number of runs, for each a file (from 1; 0 for none) and how many frames
/// it has, then the files (the length of the path in two bytes, that of the build id in one, both).
/// What does not fit its place is missing.
fn files(bytes: &[u8]) -> Option<(Vec<CrashFile>, Vec<usize>)> {
    let (count, bytes) = bytes.split_first()?;
    let (runs, mut rest) = bytes.split_at_checked(2 * usize::from(*count))?;
    let of_frames = runs.chunks_exact(2).flat_map(|run| {
        let file = usize::from(run[0]).checked_sub(1).unwrap_or(usize::MAX);
        std::iter::repeat_n(file, run[1].into())
    });
    let most = crash_stack_offset::MAX_INNERMOST + crash_stack_offset::MAX_OUTERMOST;
    let of_frames = of_frames.take(most).collect();
    let mut files = Vec::new();
    while let Some(([low, high, of_id], more)) = rest.split_first_chunk() {
        let Some((path, more)) = more.split_at_checked(u16::from_le_bytes([*low, *high]).into())
        else {
            break;
        };
        let Some((build_id, more)) = more.split_at_checked(usize::from(*of_id)) else { break };
        let path = String::from_utf8_lossy(path).into_owned();
        files.push(CrashFile { path, build_id: build_id.to_owned() });
        rest = more;
    }
    Some((files, of_frames))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crash_stack_offset as at;

    fn header() -> Vec<u8> {
        let mut header = vec![0; offset::DATA];
        let note = &mut header[offset::CRASH_NOTE..];
        note[at::STATE] = 2;
        note[at::COUNT] = 10;
        (note[at::INNERMOST], note[at::OUTERMOST], note[at::SOURCE]) = (2, 1, 1);
        note[at::FRAMES..][..12].copy_from_slice(&[9, 0, 0, 0, 8, 0, 0, 0, 4, 1, 0, 0]);
        let files = [&[2, 2, 1, 1, 2, 3, 0, 2][..], b"abc", &[7, 8], &[1, 0, 0], b"d"].concat();
        let start = (offset::METADATA + 100) as u16;
        note[at::FILES..][..2].copy_from_slice(&start.to_le_bytes());
        note[at::FILES_LENGTH] = files.len() as u8;
        header[usize::from(start)..][..files.len()].copy_from_slice(&files);
        header
    }

    #[test]
    fn a_stack_has_its_frames_with_their_files_and_says_how_many_are_missing() {
        let stack = CrashStack::parse(&header(), 2).unwrap();
        let frame = |file, offset, is_exact| CrashFrame { file, offset, is_exact };
        let frames =
            [frame(Some(1), 4, true), frame(Some(0), 4, false), frame(Some(0), 130, false)];
        assert_eq!((&stack.frames[..], stack.innermost, stack.left_out), (&frames[..], 2, 7));
        let files = [("abc", &[7, 8][..]), ("d", &[])];
        assert!(stack.files.iter().map(|of| (&*of.path, &*of.build_id)).eq(files));
        assert_eq!((stack.end, stack.source), (Some(StackEnd::Begin), Some(StackSource::Own)));
    }

    #[test]
    fn a_stack_of_another_note_is_none() {
        assert_eq!(CrashStack::parse(&header(), 4), None);
        assert_eq!(CrashStack::parse(&vec![0; offset::DATA], 0), None);
    }

    #[test]
    fn whatever_a_byte_is_the_stack_has_no_more_frames_than_there_is_room_for() {
        let note = offset::CRASH_NOTE + at::COUNT..offset::CRASH_NOTE + at::FRAMES;
        for at in note.chain(offset::METADATA + 100..offset::METADATA + 120) {
            for value in [0, 1, 0x7f, 0xff] {
                let mut header = header();
                header[at] = value;
                let stack = CrashStack::parse(&header, 2).unwrap();
                assert!(stack.frames.len() <= 96 && stack.innermost <= stack.frames.len());
                assert!(
                    stack.frames.iter().all(|of| of.file.is_none_or(|at| at < stack.files.len()))
                );
            }
        }
    }
}
