// What the fuzz targets and the tests share: how some bytes become a file, and what may come of it.
// Included by both.

use lookback_snapshot::analysis::Report;
use lookback_snapshot::export::{go, perfetto};
use lookback_snapshot::file::{FileBlock, FileWriter, GenerationFrame};
use lookback_snapshot::text;
use lookback_snapshot::wire::{
    Block, BlockHeader, ClockRecord, Generation, Metadata, Nanos, Position, ThreadNumber, Ticks,
};
use lookback_snapshot::{Trace, validate};

/// Bytes of output for a byte of records, at most, and so many beside. A record of two bytes may name a text
/// of 1 KiB, in each of its fields.
const MOST_BYTES: u64 = 1100;
const MOST_BESIDE: u64 = 4 << 20;

/// A file whose frames are sound, so that what is in them is read: `input` is a list of blocks, each a
/// slot (a byte), the length of its records (two bytes) and the records. A slot of 0 is the collector's; one
/// with the high bit begins another generation.
pub fn file(input: &[u8]) -> Vec<u8> {
    let clock = |seconds: u64| ClockRecord {
        ticks: Ticks(seconds * 1_000_000_000),
        monotonic: Nanos(seconds * 1_000_000_000),
        wall: Nanos(seconds * 1_000_000_000),
        frequency: 1_000_000_000,
    };
    let frame = |number: u64| GenerationFrame {
        number: Generation(number),
        complete: true,
        began: clock(number),
        ended: clock(number + 1),
        blocks: Vec::new(),
    };
    let mut generations = vec![frame(1)];
    let mut rest = input;
    while let Some(([slot, low, high], behind)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (records, behind) = behind.split_at(length);
        rest = behind;
        if slot & 0x80 != 0 {
            generations.push(frame(generations.len() as u64 + 1));
        }
        let Some(generation) = generations.last_mut() else { break };
        let slot = u32::from(slot & 0x7f);
        let sequence =
            generation.blocks.iter().filter(|block| block.block.header.slot == slot).count();
        let header = BlockHeader {
            length: records.len() as u32,
            position: Position(0),
            generation: generation.number,
            base: generation.began.ticks,
            first_event: 0,
            slot,
            sequence: sequence as u32,
            thread: ThreadNumber(u64::from(slot)),
        };
        generation.blocks.push(FileBlock {
            block: Block { header, events: records.len() as u32, records },
            cut: 0,
        });
    }
    for generation in &mut generations {
        generation
            .blocks
            .sort_by_key(|block| (block.block.header.slot, block.block.header.sequence));
    }
    let mut writer =
        FileWriter::with_level(Vec::new(), &Metadata::default(), -5).expect("memory takes all");
    for generation in &mut generations {
        writer.generation(generation).expect("memory takes all");
    }
    writer.finish().expect("memory takes all")
}

/// How much may come of a file.
fn budget(trace: &Trace) -> u64 {
    let records: u64 = trace.generations().iter().map(|info| info.bytes).sum();
    MOST_BESIDE + records.saturating_mul(MOST_BYTES)
}

/// Every event, with its names and values as text.
pub fn events(bytes: Vec<u8>) {
    let Ok(trace) = Trace::from_bytes(bytes) else { return };
    let mut shown = 0;
    for event in trace.events() {
        match event {
            Ok(event) => {
                shown += event.name().len() + event.kind_name().len();
                shown += event
                    .fields()
                    .map(|(name, value)| name.len() + value.to_string().len())
                    .sum::<usize>();
            }
            Err(error) => assert_one_line(&error.to_string()),
        }
    }
    assert!(shown as u64 <= budget(&trace), "{shown} bytes of text");
}

/// What is wrong with it, and its text form, which is one of a file again.
pub fn lbk(bytes: Vec<u8>) {
    let trace = match Trace::from_bytes(bytes) {
        Ok(trace) => trace,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    trace.damage().iter().for_each(|error| assert_one_line(&error.to_string()));
    validate(&trace).iter().for_each(|violation| assert_one_line(&violation.to_string()));
    let text = text::to_text(&trace);
    assert!(text.len() as u64 <= budget(&trace), "{} bytes of text", text.len());
}

/// What stood out.
pub fn summary(bytes: Vec<u8>) {
    let Ok(trace) = Trace::from_bytes(bytes) else { return };
    let report = Report::of(&trace);
    let findings = report.findings();
    let told: usize = findings.iter().map(|finding| finding.title.len()).sum();
    findings.iter().for_each(|finding| assert_one_line(&finding.title));
    assert!(findings.len() < 1000 && told as u64 <= budget(&trace), "{told} bytes of titles");
}

/// The traces for Go and for Perfetto.
pub fn export_go(bytes: Vec<u8>) {
    let Ok(trace) = Trace::from_bytes(bytes) else { return };
    let report = perfetto::export(&trace, std::io::sink()).expect("a sink takes all");
    assert!(report.bytes <= budget(&trace), "{} bytes of a trace for Perfetto", report.bytes);
    let report = go::export(&trace, std::io::sink()).expect("a sink takes all");
    assert_eq!(report.refused, 0, "{report:?}");
    assert!(report.bytes <= budget(&trace), "{} bytes of a trace", report.bytes);
}

/// What is written in the text form, and read.
pub fn text_form(input: &[u8]) {
    let Ok(written) = std::str::from_utf8(input) else { return };
    match text::from_text(written) {
        Ok(bytes) => {
            let most = MOST_BESIDE as usize + 64 * written.len();
            assert!(bytes.len() <= most, "{} bytes of a file", bytes.len());
            lbk(bytes);
        }
        Err(error) => assert_one_line(&error.to_string()),
    }
}

fn assert_one_line(message: &str) {
    assert!(!message.is_empty() && !message.contains('\n') && message.len() < 4096, "{message:?}");
}
