//! `docs/format.md` says what the code does.
#![cfg(feature = "read")]

use lookback_snapshot::wire::{
    Argument, Class, EVENT_TABLE, Loss, MAX_TEXT, Metadata, Row, Value, ValueType,
    encode_event_table, key,
};
use lookback_snapshot::{Limits, file};

const PAGE: &str = include_str!("../../docs/format.md");

fn row(row: &Row) -> String {
    let class = match row.class {
        Class::Definition => "definition",
        Class::Status => "status",
        Class::Event => "event",
    };
    let argument = |(name, kind): &(&str, Argument)| {
        let kind = match kind {
            Argument::Unsigned => "unsigned",
            Argument::Signed => "signed",
            Argument::Float => "float",
            Argument::Id => "id",
            Argument::Text => "text",
            Argument::Fields => "fields",
            Argument::Values => "values",
            Argument::Pairs => "pairs",
            Argument::Given => "given",
            Argument::Names => "names",
            Argument::Bytes => "bytes",
        };
        format!("{name}: {kind}")
    };
    let arguments: Vec<_> = row.arguments.iter().map(argument).collect();
    let arguments = if arguments.is_empty() { "–".to_owned() } else { arguments.join(", ") };
    format!("| {} | `{}` | {class} | {arguments} |", row.code, row.name)
}

#[track_caller]
fn assert_said(words: &str) {
    assert!(PAGE.contains(words), "docs/format.md lacks: {words}");
}

#[test]
fn the_page_has_every_row_of_the_event_table_and_no_other() {
    for known in EVENT_TABLE {
        assert_said(&row(known));
    }
    let rows = PAGE.lines().filter(|line| {
        ["| definition |", "| status |", "| event |"].iter().any(|class| line.contains(class))
    });
    assert_eq!(rows.count(), EVENT_TABLE.len());
}

#[test]
fn the_page_has_every_code() {
    for cause in Loss::ALL {
        assert_said(&format!("| {} | `{}` |", cause as u8, cause.name()));
    }
    let types = [
        (ValueType::Unsigned, "unsigned"),
        (ValueType::Signed, "signed"),
        (ValueType::Float, "float"),
        (ValueType::Bool, "bool"),
        (ValueType::Text, "text"),
        (ValueType::Error, "error"),
        (ValueType::Any, "any"),
        (ValueType::Wide, "wide"),
        (ValueType::WideSigned, "wide_signed"),
        (ValueType::Duration, "duration"),
        (ValueType::Omitted, "omitted"),
    ];
    assert_eq!(types.map(|(kind, _)| kind), ValueType::ALL);
    for (kind, name) in types {
        assert_said(&format!("| {} | {name} |", kind as u8));
    }
    for code in 0..11 {
        assert!(Argument::from_code(code).is_some());
    }
    assert!(Argument::from_code(11).is_none());
}

#[test]
fn the_page_has_every_name_of_the_metadata() {
    let names = [
        key::RECORDER,
        key::PROCESS_NAME,
        key::PROCESS_PID,
        key::PROCESS_EXECUTABLE,
        key::PROCESS_ARGUMENT,
        key::PROCESS_BUILD_ID,
        key::HOST_NAME,
        key::HOST_SYSTEM,
        key::HOST_CORES,
        key::BOOT_ID,
        key::CLOCK,
        key::CLOCK_FREQUENCY,
        key::REASON,
        key::TRIGGER,
        key::TAKEN,
        key::TAKEN_WALL,
        key::WINDOW,
        key::FIRST_GENERATION,
        key::COVERED,
        key::MAX_BYTES,
        key::RECORDED,
        key::EVENT_TABLE,
    ];
    for name in names {
        assert_said(&format!("| `{name}` |"));
    }
    assert_said("| `lost.`*cause* |");
}

#[test]
fn the_page_has_the_limits() {
    assert_said(&format!("format version **{}**", file::FORMAT_VERSION));
    assert_said(&format!("at most {MAX_TEXT} bytes"));
    assert_eq!(Limits::default().frame_bytes, 1 << 30);
    assert_said("1 GiB");
}

/// The example at the end of the page, byte by byte.
#[test]
fn the_example_of_the_page_is_what_is_written() {
    let mut metadata = Metadata::default();
    metadata.add(key::PROCESS_PID, 17);
    metadata.add(key::REASON, "test");
    let hex = |bytes: &[u8]| -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    };
    assert_said(&hex(&metadata.encode()));
    assert_eq!(metadata.get(key::PROCESS_PID), Some(&Value::Unsigned(17)));
    let table = encode_event_table();
    assert_said(&hex(&table[1..21]));
}
