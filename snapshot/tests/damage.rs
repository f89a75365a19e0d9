//! A reader survives any input, and loses no more than what was damaged.
#![cfg(feature = "read")]

mod build;
mod program;
mod written;

use build::{Gen, file, metadata, service, unfinished};
use lookback_snapshot::text::from_text;
use lookback_snapshot::wire::{ARENA_MAGIC, EVENT_TABLE, Generation, Metadata, put_varint};
use lookback_snapshot::{Limits, ReadError, Reason, Trace, validate};
use proptest::prelude::*;
use std::io::Write;
use std::sync::LazyLock;

const COUNT: u64 = 4;

static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| file(&service(COUNT)));

/// Where each generation's frame begins, and where the last one ends.
static BORDERS: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let trace = Trace::from_bytes(WHOLE.clone()).unwrap();
    let infos = trace.generations();
    let ends = infos.iter().map(|info| (info.offset + info.compressed) as usize);
    std::iter::once(infos[0].offset as usize).chain(ends).collect()
});

/// Does everything possible with a file; returns the generations all of whose events were read.
fn read_all(bytes: &[u8]) -> Result<Vec<u64>, ReadError> {
    let trace = Trace::from_bytes(bytes.to_vec())?;
    let _ = (trace.metadata().iter().count(), trace.damage().len());
    for violation in validate(&trace) {
        assert!(!violation.to_string().contains('\n'));
    }
    let mut counts = std::collections::BTreeMap::new();
    for event in trace.events() {
        match event {
            Ok(event) => {
                let _ = (event.time(), event.thread(), event.name().len(), event.kind());
                let _ = (event.fields().count(), event.slot(), event.site());
                let _ = (event.task(), event.span(), event.worker(), event.sequence());
                *counts.entry(event.generation().0).or_insert(0) += 1;
            }
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
    for info in trace.generations() {
        if let Ok(generation) = trace.generation(info.number) {
            assert_eq!(counts.get(&info.number.0).copied().unwrap_or(0), info.events);
            let _ = (generation.statuses().count(), generation.end_record());
            let _ = (generation.tasks().count(), generation.validate().len());
            let _ = generation.spans().map(|span| span.fields().count()).sum::<usize>();
        }
    }
    let whole = counts.into_iter().filter(|(_, count)| *count > 100).map(|(number, _)| number);
    Ok(whole.collect())
}

fn message(bytes: &[u8]) -> String {
    Trace::from_bytes(bytes.to_vec()).err().expect("it must not open").to_string()
}

#[test]
fn a_cut_file_yields_its_whole_generations_wherever_it_is_cut() {
    for length in 0..WHOLE.len() {
        let near = BORDERS.iter().any(|border| border.abs_diff(length) < 20);
        if !near && length % 5 != 0 {
            continue;
        }
        let cut = &WHOLE[..length];
        let whole = BORDERS[1..].iter().filter(|end| **end <= length).count() as u64;
        match read_all(cut) {
            Ok(found) => assert_eq!(found, (1..=whole).collect::<Vec<_>>(), "cut at {length}"),
            Err(error) => {
                assert!(length < BORDERS[0], "cut at {length}: {error}");
                let expected = if length == 0 { Reason::Empty } else { Reason::CutInMetadata };
                assert_eq!(error.reason(), &expected, "cut at {length}");
            }
        }
    }
}

#[test]
fn a_cut_is_told_with_its_place() {
    let (begin, end) = (BORDERS[3], BORDERS[4]);
    let trace = Trace::from_bytes(WHOLE[..end - 1].to_vec()).unwrap();
    let told: Vec<_> = trace.damage().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            format!(
                "<memory>: at byte {begin}: the file is cut off in a generation, which is lost"
            ),
            format!(
                "<memory>: at byte {}: the file ends without an index: it was cut off, or is still \
                 being written",
                end - 1
            ),
        ]
    );
    assert!(!validate(&trace).is_empty());
    let errors: Vec<_> = trace.events().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1, "told once while reading");
}

#[test]
fn a_file_that_is_still_being_written_is_read() {
    assert_eq!(read_all(&unfinished(&service(3))).unwrap(), [1, 2, 3]);
}

/// What may be missing after damage to the bytes in this range.
fn assert_local(bytes: &[u8], from: usize, to: usize) {
    let found = match read_all(bytes) {
        Ok(found) => found,
        Err(error) => panic!("damage at {from}..{to}: {error}"),
    };
    let hit = |number: u64| {
        let (begin, end) = (BORDERS[number as usize - 1], BORDERS[number as usize]);
        from < end && to > begin
    };
    for number in 1..=COUNT {
        assert!(
            found.contains(&number) || hit(number),
            "generation {number} is gone after damage at {from}..{to}"
        );
    }
}

#[test]
fn any_flipped_bit_costs_one_generation_at_most() {
    let mut bytes = WHOLE.clone();
    // Every bit of structures, some bits elsewhere.
    let dense: Vec<_> = BORDERS.iter().copied().chain([0, WHOLE.len() - 32]).collect();
    for bit in 0..bytes.len() * 8 {
        let at = bit / 8;
        let near = dense.iter().any(|border| at + 6 >= *border && at < border + 16);
        if !near && bit % 29 != 0 {
            continue;
        }
        bytes[at] ^= 1 << (bit % 8);
        assert_local(&bytes, at, at + 1);
        bytes[at] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_damaged_generation_is_one_error_and_the_rest_is_read() {
    let mut bytes = WHOLE.clone();
    let at = BORDERS[2] - 1;
    bytes[at] ^= 0x10;
    let trace = Trace::from_bytes(bytes.clone()).unwrap();
    let errors: Vec<_> = trace.events().filter_map(Result::err).map(|e| e.to_string()).collect();
    let begin = BORDERS[1];
    assert_eq!(
        errors,
        [format!(
            "<memory>: at byte {begin}: generation 2: frame checksum does not match; this \
             generation is lost, others may be read"
        )]
    );
    assert!(trace.generation(Generation(2)).is_err());
    assert!(trace.generations()[1].damage.is_some());
    assert_eq!(read_all(&bytes).unwrap(), [1, 3, 4]);
    // The same without an index, and with the frame's own structure destroyed.
    bytes.truncate(BORDERS[4]);
    assert_eq!(read_all(&bytes).unwrap(), [1, 3, 4]);
    bytes[begin..begin + 40].fill(0xff);
    assert_eq!(read_all(&bytes).unwrap(), [1, 3, 4]);
}

#[test]
fn the_metadata_is_read_from_its_copy_if_need_be() {
    for (at, length) in [(0, 4), (4, 2), (20, 30), (0, BORDERS[0])] {
        let mut bytes = WHOLE.clone();
        bytes[at..at + length].fill(0xa5);
        let trace = Trace::from_bytes(bytes.clone()).unwrap();
        assert_eq!(trace.metadata(), &metadata());
        assert!(matches!(trace.damage()[0].reason(), Reason::MetadataDamaged(_)));
        assert_eq!(read_all(&bytes).unwrap(), [1, 2, 3, 4]);
        // Without the copy, the generations remain.
        bytes.truncate(BORDERS[4]);
        assert_eq!(read_all(&bytes).unwrap(), [1, 2, 3, 4]);
    }
}

#[test]
fn other_files_are_told_apart_in_words() {
    let zstd = |content: &[u8]| zstd::encode_all(content, 1).unwrap();
    let mut arena = ARENA_MAGIC.to_vec();
    arena.resize(1 << 16, 0);
    let cases: [(&[u8], &str); 9] = [
        (b"", "the file is empty"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"go 1.26 trace\0\0\0\x01\x01", "an execution trace of Go"),
        (b"{\"traceEvents\": []}", "JSON"),
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (&arena, "use `lookback recover`"),
        (&zstd(b"some other data"), "not a snapshot of lookback"),
        (&[0; 5000], "looks like zeroes"),
        (&[7; 5000], "unknown data"),
    ];
    for (bytes, words) in cases {
        let said = message(bytes);
        assert!(said.contains(words), "{said}");
        assert!(said.starts_with("<memory>: at byte 0: ") && !said.contains('\n'), "{said}");
    }
}

/// A frame that obeys the format.
fn frame(content: &[u8]) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
    compressor.include_checksum(true).unwrap();
    compressor.compress(content).unwrap()
}

#[test]
fn a_future_version_is_refused_in_words() {
    let mut content = b"LOOKBACK\x07\0\0\0".to_vec();
    content.extend(metadata().encode());
    let said = message(&frame(&content));
    assert_eq!(
        said,
        "<memory>: at byte 0: format version 7; this program reads up to 3: use a newer lookback"
    );
}

fn front() -> Vec<u8> {
    let mut content = b"LOOKBACK\x01\0\0\0".to_vec();
    content.extend(Metadata::default().encode());
    frame(&content)
}

/// The most memory that this process has used, in bytes.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[test]
fn a_bomb_costs_no_memory() {
    let limits = Limits { frame_bytes: 8 << 20, ..Limits::default() };
    let mut zeros = b"LBGN".to_vec();
    zeros.resize(96 << 20, 0);
    let bomb = [front(), frame(&zeros)].concat();
    drop(zeros);
    assert!(bomb.len() < 128 << 10);
    let before = peak_memory();
    let trace = Trace::from_bytes_with(bomb, limits).unwrap();
    let errors: Vec<_> = trace.events().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(
        errors[0].reason(),
        &Reason::TooLarge { size: 96 << 20, limit: 8 << 20 },
        "{}",
        errors[0]
    );
    assert!(!validate(&trace).is_empty());
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < 64 << 20, "{before} to {after}");
    }
}

#[test]
fn a_generation_that_claims_too_much_takes_no_memory_for_it() {
    let mut content = b"LBGN".to_vec();
    for value in [1, 1, 0, 0, 0, 1, 5, 5, 5, 1, u64::MAX >> 1] {
        put_varint(&mut content, value);
    }
    let file = [front(), frame(&content)].concat();
    let trace = Trace::from_bytes(file).unwrap();
    let error = trace.events().find_map(Result::err).unwrap();
    assert!(error.to_string().contains("more blocks than the limit"), "{error}");
}

#[test]
fn a_frame_with_a_huge_window_is_refused() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.window_log(27).unwrap();
    let content = [b"LBGN".to_vec(), vec![1; 20 << 20]].concat();
    encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
    encoder.write_all(&content).unwrap();
    let file = [front(), encoder.finish().unwrap()].concat();
    let trace = Trace::from_bytes(file).unwrap();
    let error = trace.events().find_map(Result::err).unwrap();
    assert!(matches!(error.reason(), Reason::WindowTooLarge { .. }), "{error}");
}

/// A trace that is meant to be slow: very many streams that wait for one task, or for each other.
#[test]
fn streams_that_wait_take_no_more_time_than_there_are() {
    const SLOTS: u64 = 20_000;
    let mut g = Gen::new(1);
    for slot in 0..SLOTS {
        let mut records = Vec::new();
        // A poll and its end, of one task, from the last slot to the first; and wakes from the future.
        let poll = 2 * (SLOTS - slot) + 1;
        let records_of = [(35_u8, poll), (36, 0), (41, u64::MAX >> 1)];
        for (code, number) in records_of {
            records.extend([code, 1]);
            if code != 36 {
                put_varint(&mut records, 7);
                put_varint(&mut records, number);
            }
        }
        g.block(slot as u32 + 1, 0, 10);
        let block = g.blocks.last_mut().unwrap();
        (block.records, block.events) = (records, 3);
    }
    let first = g.blocks.last_mut().unwrap();
    first.records.splice(0..0, [32, 7, 1, 2, 1, 1]);
    let bytes = file(&[g]);
    let start = std::time::Instant::now();
    assert!(read_all(&bytes).is_ok());
    let trace = Trace::from_bytes(bytes).unwrap();
    let polls: Vec<_> = trace.events().filter_map(|event| event.unwrap().sequence()).collect();
    assert!(polls[..40_000].is_sorted());
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn an_index_that_lies_is_not_believed() {
    let other = file(&[Gen::new(9)]);
    // The end of another file, which points into this one.
    let end = Trace::from_bytes(other.clone()).unwrap();
    let end = &other[(end.generations()[0].offset + end.generations()[0].compressed) as usize..];
    let mixed = [&WHOLE[..BORDERS[4]], end].concat();
    assert_eq!(read_all(&mixed).unwrap(), [1, 2, 3, 4]);
}

#[test]
fn a_record_that_says_what_cannot_be_is_damage_wherever_it_is_read() {
    let mut g = Gen::new(1);
    g.complete = false;
    g.block(1, 1, 0);
    g.site(1, "a");
    let block = g.last(1);
    block.records.extend([2, 0, 43, 73, 0, 87, 0, 0, 0, 0, 128, 128, 128, 128, 16, 0, 0]);
    block.cut = Some(23);
    let mut next = g.next().incomplete();
    next.block(1, 1, 0).thread_start(1, 5, 1, "a");
    let bytes = file(&[g, next]);
    let trace = Trace::from_bytes(bytes.clone()).unwrap();
    assert_eq!(trace.generations()[0].events, 0, "its task is larger than any may be");
    let _ = read_all(&bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damage_anywhere_is_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        length in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let mut bytes = WHOLE.clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len() + 1));
        }
        let _ = read_all(&bytes);
    }

    #[test]
    fn a_run_of_damage_costs_the_generations_that_it_hits(
        at in any::<prop::sample::Index>(), length in 1_usize..200, byte: u8
    ) {
        let mut bytes = WHOLE.clone();
        let from = at.index(BORDERS[4]);
        let to = (from + length).min(BORDERS[4]);
        bytes[from..to].fill(byte);
        assert_local(&bytes, from, to);
        // The same if the missing part shifts the rest.
        let mut bytes = WHOLE.clone();
        bytes.drain(from..to);
        if from >= BORDERS[0] {
            assert_local(&bytes, from, to);
        } else {
            let _ = read_all(&bytes);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        let _ = read_all(&bytes);
    }

    /// With a right checksum, anything may be there.
    #[test]
    fn any_records_are_survived(
        records in prop::collection::vec(any::<u8>(), 0..300), complete: bool, cut in 0_u32..300
    ) {
        let mut g = Gen::new(1);
        g.complete = complete;
        g.block(1, 1, 0);
        g.site(1, "a");
        let block = g.last(1);
        block.records.extend(records);
        block.cut = Some(cut.min(block.records.len() as u32));
        let mut next = g.next().incomplete();
        next.block(1, 1, 0).thread_start(1, 5, 1, "a");
        let _ = read_all(&file(&[g, next]));
    }

    /// Records that look right, with arbitrary arguments.
    #[test]
    fn any_known_records_are_survived(
        records in prop::collection::vec(
            (prop::sample::select(EVENT_TABLE).prop_map(|row| row.code),
             prop::collection::vec(0_u8..12, 0..8)),
            0..80
        ),
        complete: bool,
    ) {
        let mut g = Gen::new(1);
        g.complete = complete;
        g.block(1, 1, 0);
        let records: Vec<u8> =
            records.into_iter().flat_map(|(code, rest)| std::iter::once(code).chain(rest)).collect();
        g.last(1).records = records.clone();
        g.block(2, 2, 0);
        g.last(2).records = records;
        let mut next = g.next().incomplete();
        next.block(1, 1, 0).thread_start(1, 5, 1, "a");
        let _ = read_all(&file(&[g, next]));
    }

    /// A program's records, some of which are gone, repeated, or elsewhere.
    #[test]
    fn any_mixture_of_what_was_written_is_survived(
        seed in 0_u64..1000, moves in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4), 1..40)
    ) {
        let text = program::Program::new(seed).run(3, 60, seed % 2 == 0).concat();
        let mut lines: Vec<_> = text.lines().collect();
        for (at, what) in moves {
            let at = at.index(lines.len());
            let movable = |line: &str| !line.starts_with("generation") && !line.starts_with("block");
            if !movable(lines[at]) {
                continue;
            }
            match what {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at]),
                _ => {
                    let other = (at * 7 + usize::from(what)) % lines.len();
                    if movable(lines[other]) {
                        lines.swap(at, other);
                    }
                }
            }
        }
        let _ = read_all(&from_text(&lines.join("\n")).unwrap());
    }

    #[test]
    fn any_content_of_a_frame_is_survived(content: Vec<u8>) {
        let content = [b"LBGN".to_vec(), content].concat();
        let _ = read_all(&[front(), frame(&content)].concat());
    }
}
