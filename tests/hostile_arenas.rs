//! Whatever an arena holds, and whatever happens to it while it is read: a reader survives it, with an error
//! or with the intact rest.

mod common;

#[path = "../fuzz/damage.rs"]
mod damage;

use damage::damaged;
use lookback::read::recover::recover;
use lookback::read::wire::offset;
use lookback::read::{Trace, validate};
use lookback::{OutsideArena, Recorder};

use proptest::prelude::*;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static BASE: LazyLock<Vec<u8>> =
    LazyLock::new(|| zstd::decode_all(damage::BASE).expect("the base is sound"));

/// Every field of the header: its offset and its length.
const FIELDS: [(usize, usize); 24] = [
    (offset::MAGIC, 8),
    (offset::VERSION, 4),
    (offset::HEADER_LENGTH, 4),
    (offset::CAPACITY, 8),
    (offset::PID, 4),
    (offset::CLOCK_KIND, 4),
    (offset::PROCESS_START, 8),
    (offset::BOOT_ID, 8),
    (offset::WINDOW, 8),
    (offset::PID_NAMESPACE, 8),
    (offset::HEAD, 8),
    (offset::TAIL, 8),
    (offset::OLDEST, 8),
    (offset::COMPLETE, 8),
    (offset::RUNNING, 8),
    (offset::ENDED, 8),
    (offset::CRASH_NOTE, 8),
    (offset::CRASH_NOTE + 8, 8),
    (offset::CRASH_NOTE + 40, 8),
    (offset::LOST + 8, 8),
    (offset::LOST_AND_TOLD + 8, 8),
    (offset::METADATA, 4),
    (offset::METADATA + 4, 8),
    (offset::GENERATIONS, 8),
];

/// Recovers an arena and reads the result. Returns how many events it has, if there is any.
fn survive(arena: &[u8]) -> Result<u64, String> {
    let mut recovered = recover(arena).map_err(|error| error.to_string())?;
    let mut file = Vec::new();
    recovered.write_to(&mut file, "a test", "test").expect("memory takes every byte");
    assert!(recovered.damage().iter().all(|line| !line.contains('\n')));
    assert!(!recovered.reason().contains('\n'));
    Ok(read(file))
}

fn read(file: Vec<u8>) -> u64 {
    let trace = Trace::from_bytes(file).expect("what was written can be opened");
    let _ = validate(&trace);
    trace.events().flatten().map(|event| event.fields().count().min(1) as u64).sum()
}

/// The same from outside, as if the process were running.
fn survive_outside(arena: &[u8]) -> Result<u64, String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(arena).unwrap();
    let outside = OutsideArena::of_file(file, "a test").map_err(|error| error.to_string())?;
    let snapshot = outside.snapshot("a test", "test").map_err(|error| error.to_string())?;
    let mut file = Vec::new();
    snapshot.write_to(&mut file).expect("memory takes every byte");
    Ok(read(file))
}

fn both(arena: &[u8]) {
    for result in [survive(arena), survive_outside(arena)] {
        if let Err(words) = result {
            assert!(!words.is_empty() && !words.contains('\n'), "{words}");
        }
    }
}

#[test]
fn the_base_is_sound() {
    let recovered = recover(&BASE).unwrap();
    assert!(recovered.damage().is_empty(), "{:?}", recovered.damage());
    assert!(recovered.generations().count() > 2);
    assert!(survive(&BASE).unwrap() > 100);
}

/// A header reports losses as long as it is valid, and as long as it is known which of them the end records
/// report.
#[test]
fn losses_that_may_be_wrong_are_not_told() {
    let base = recover(&BASE).unwrap();
    let newest = base.generations().filter(|(_, complete)| *complete).last().unwrap().0;
    let with = |fields: &[(usize, u64)]| {
        let mut arena = BASE.clone();
        for (at, number) in fields {
            arena[*at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let mut file = Vec::new();
        recover(&arena).unwrap().write_to(&mut file, "a test", "test").unwrap();
        let trace = Trace::from_bytes(file).unwrap();
        let number = |name| trace.metadata().number(name);
        (number("lost.arena_full"), number("lost_untold.arena_full"))
    };
    let losses = [(offset::LOST + 8, 7), (offset::LOST_AND_TOLD + 8, 3)];
    let and = |field| [losses[0], losses[1], field];
    assert_eq!(with(&and((offset::COMPLETE, newest.0))), (Some(7), Some(4)));
    // The process died after the end record, and perhaps before the note of it.
    assert_eq!(with(&and((offset::COMPLETE, newest.0 - 1))), (Some(7), None));
    assert_eq!(with(&and((offset::HEAD, 0))), (None, None));
}

/// A bit of everything, in an arena that has wrapped around. `LOOKBACK_WRITE_GOLDEN=base` makes it the base.
#[test]
fn an_arena_with_everything_in_it_is_recovered_whole() {
    common::alone("an_arena_with_everything_in_it_is_recovered_whole", || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        let recorder = Recorder::builder().max_bytes(256 << 10).black_box(&path).start().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
        let open = tracing::info_span!("open", user = "somebody", number = 3);
        let _entered = open.enter();
        let _region = lookback::region!("outer");
        for round in 0..40_u64 {
            let _region = lookback::region!("round");
            let work = async move {
                for step in 0..20_u64 {
                    lookback::event!(
                        "step",
                        round = round,
                        step = step,
                        share = 0.5,
                        text = "text"
                    );
                    tokio::task::yield_now().await;
                }
                tracing::warn!(round, "a message");
            };
            runtime.block_on(lookback::spawn_on(runtime.handle(), work)).unwrap();
            lookback::log!("category", "number {round}");
            lookback::counter!("counter", round);
            if round % 8 == 0 {
                common::advance(&recorder);
            }
        }
        let arena = fs::read(&path).unwrap();
        assert!(recover(&arena).unwrap().damage().is_empty());
        assert!(survive(&arena).unwrap() > 100);
        if std::env::var("LOOKBACK_WRITE_GOLDEN").is_ok_and(|which| which == "base") {
            let packed = zstd::encode_all(&arena[..], 19).unwrap();
            let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/base.arena.zst");
            fs::write(base, packed).unwrap();
        }
    });
}

#[test]
fn every_field_of_the_header_may_be_anything() {
    for (at, length) in FIELDS {
        for value in [0, 1, 255, 256, 0x7fff_ffff, u64::MAX, u64::MAX / 2, 1 << 40, 0xdead_beef] {
            let mut arena = BASE.clone();
            arena[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
            both(&arena);
        }
    }
}

/// Damage to the header costs none of the blocks' content, as long as it can be detected.
#[test]
fn a_header_that_makes_no_sense_is_not_needed() {
    let whole = survive(&BASE).unwrap();
    for (at, length) in FIELDS {
        if at <= offset::VERSION {
            continue;
        }
        let mut arena = BASE.clone();
        arena[at..at + length].fill(0xff);
        let found = survive(&arena).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert!(found * 10 >= whole * 9, "{at}: {found} of {whole} events");
    }
    let mut arena = BASE.clone();
    arena[offset::CAPACITY..offset::DATA].fill(0);
    assert!(survive(&arena).unwrap() * 10 >= whole * 9);
}

#[test]
fn a_cut_arena_yields_what_is_there_wherever_it_is_cut() {
    for length in (0..BASE.len()).step_by(997) {
        let found = survive(&BASE[..length]);
        assert_eq!(found.is_err(), length < offset::DATA + 256, "{length}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 48 } else { 400 }))]

    #[test]
    fn any_byte_may_be_anything(
        way in 0_u8..8, length: u32, patches in prop::collection::vec((0_u32..1 << 18, any::<u8>()), 0..200),
    ) {
        let mut input = vec![way & !1];
        input.extend(length.to_le_bytes());
        for (at, byte) in patches {
            input.extend(at.to_le_bytes());
            input.push(byte);
        }
        both(&damaged(&BASE, &input));
    }

    #[test]
    fn what_a_block_holds_may_be_anything(
        at in offset::DATA..(1 << 18) - 4096, bytes in prop::collection::vec(any::<u8>(), 1..4096),
    ) {
        let mut arena = BASE.clone();
        arena[at..at + bytes.len()].copy_from_slice(&bytes);
        both(&arena);
    }

    #[test]
    fn headers_of_blocks_may_lie(
        fields in prop::collection::vec((0_usize..800, 0_usize..64, any::<u8>()), 1..20),
    ) {
        let mut input = vec![2, 0, 0, 0, 0];
        for (block, at, byte) in fields {
            let at = offset::DATA + block * 256 % ((1 << 18) - offset::DATA) + at;
            input.extend((at as u32).to_le_bytes());
            input.push(byte);
        }
        both(&damaged(&BASE, &input));
    }

    #[test]
    fn anything_may_be_no_arena(bytes: Vec<u8>) {
        both(&bytes);
    }
}

#[test]
fn what_was_found_by_fuzzing_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/recover");
    let mut inputs = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        println!("{}", path.display());
        both(&damaged(&BASE, &input));
        inputs += 1;
    }
    assert!(inputs > 0, "there is no corpus");
}

/// Calls `read` again and again while `disturb` changes the file.
fn while_disturbed(disturb: impl Fn(&File, u64) + Sync, read: impl Fn(&File)) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&BASE).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                disturb(&file, round);
                round += 1;
            }
        });
        for _ in 0..200 {
            read(&file);
        }
        over.store(true, Ordering::Relaxed);
    });
}

fn look_at(file: &File) {
    let again = || file.try_clone().unwrap();
    if let Ok(outside) = OutsideArena::of_file(again(), "a test") {
        let _ = outside.header();
        if let Ok(bytes) = outside.bytes() {
            let _ = survive(&bytes);
        }
        if let Ok(snapshot) = outside.snapshot("a test", "test") {
            let mut file = Vec::new();
            snapshot.write_to(&mut file).expect("memory takes every byte");
            read(file);
        }
    }
}

#[test]
fn a_file_may_be_truncated_while_it_is_read() {
    while_disturbed(
        |file, round| {
            file.set_len(round * 7919 % BASE.len() as u64).unwrap();
            file.write_all_at(&BASE, 0).unwrap();
        },
        look_at,
    );
}

#[test]
fn a_process_may_write_anything_into_its_arena_while_it_is_read() {
    while_disturbed(
        |file, round| {
            let junk = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
            let at = round.wrapping_mul(7919) % (BASE.len() as u64 - 8);
            file.write_all_at(&junk, at).unwrap();
            if round % 64 == 0 {
                file.write_all_at(&BASE, 0).unwrap();
            }
        },
        look_at,
    );
}

/// Nothing but a box is accepted as a box.
#[test]
fn a_box_that_is_no_regular_file_is_refused_without_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("box"), &*BASE).unwrap();
    std::os::unix::fs::symlink(at("box"), at("link")).unwrap();
    let fifo = std::ffi::CString::new(at("fifo").to_str().unwrap()).unwrap();
    // SAFETY: a string that ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    assert!(OutsideArena::of_box(&at("box")).is_ok());
    for name in ["link", "fifo", "", "nothing"] {
        let error = OutsideArena::of_box(&at(name)).unwrap_err().to_string();
        let path = at(name).display().to_string();
        assert!(error.starts_with(&path) && !error.contains('\n'), "{error}");
    }
}
