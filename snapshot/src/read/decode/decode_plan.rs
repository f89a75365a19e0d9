//! How the records of one file are read: its own event table is compared with this version's.
//!
//! A kind that both know is read by fast code; arguments that a later version appended to it are skipped. A
//! kind that only the file knows is read by its row: enough to skip it and to show it.

use crate::wire::{
    Argument, Class, FileRow, Kind, Metadata, Value, decode_event_table, encode_event_table, key,
};

/// What to do with a record of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The file does not know it either.
    Absent,
    /// A kind of this version.
    Known(Kind),
    /// A kind of this version with further arguments, or one that this version does not know at all: by the
    /// row of the file's table.
    Longer(Kind, u16),
    Foreign(u16),
}

/// See the module.
pub(crate) struct DecodePlan {
    steps: [Step; 256],
    rows: Vec<FileRow>,
}

impl DecodePlan {
    /// The plan for a file with this metadata, and what is wrong with its event table, in words.
    pub(crate) fn new(metadata: &Metadata) -> (Self, Option<&'static str>) {
        let (table, wrong) = match metadata.get(key::EVENT_TABLE) {
            Some(Value::Bytes(bytes)) => match decode_event_table(bytes) {
                Some(rows) => (Some(rows), None),
                None => (None, Some("the event table is damaged")),
            },
            _ => (None, None),
        };
        let rows = table.or_else(|| decode_event_table(&encode_event_table())).unwrap_or_default();
        let mut steps = [Step::Absent; 256];
        for (index, row) in rows.iter().enumerate().take(1 << 16) {
            steps[usize::from(row.code)] = Self::step(row, index as u16);
        }
        (Self { steps, rows }, wrong)
    }

    fn step(row: &FileRow, index: u16) -> Step {
        let Some(kind) = Kind::from_code(row.code) else { return Step::Foreign(index) };
        let known = kind.row();
        let same = row.arguments.iter().map(|(_, kind)| kind);
        let begins_alike = row.class == known.class
            && row.name == known.name
            && row.arguments.len() >= known.arguments.len()
            && same.zip(known.arguments).all(|(theirs, (_, ours))| theirs == ours);
        if !begins_alike {
            Step::Foreign(index)
        } else if row.arguments.len() == known.arguments.len() {
            Step::Known(kind)
        } else {
            Step::Longer(kind, index)
        }
    }

    #[inline]
    pub(crate) fn at(&self, code: u8) -> Step {
        self.steps[usize::from(code)]
    }

    /// Every row of the file's table.
    pub(crate) fn rows(&self) -> &[FileRow] {
        &self.rows
    }

    pub(crate) fn row(&self, index: u16) -> &FileRow {
        &self.rows[usize::from(index)]
    }

    /// The arguments of a row that this version does not know.
    pub(crate) fn appended(&self, kind: Kind, index: u16) -> &[(String, Argument)] {
        &self.row(index).arguments[kind.row().arguments.len()..]
    }

    /// Whether a row's records have a time.
    pub(crate) fn is_timed(&self, index: u16) -> bool {
        self.row(index).class == Class::Event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{EVENT_TABLE, put_varint};

    fn plan(table: Vec<u8>) -> DecodePlan {
        let mut metadata = Metadata::default();
        metadata.add(key::EVENT_TABLE, table);
        DecodePlan::new(&metadata).0
    }

    /// A table of one row.
    fn row(code: u8, name: &str, class: u8, arguments: &[Argument]) -> Vec<u8> {
        let mut out = vec![1, code, class];
        put_varint(&mut out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
        put_varint(&mut out, arguments.len() as u64);
        for argument in arguments {
            out.extend([*argument as u8, 1, b'x']);
        }
        out
    }

    #[test]
    fn without_a_table_the_kinds_of_this_version_are_read() {
        let (plan, wrong) = DecodePlan::new(&Metadata::default());
        assert_eq!(wrong, None);
        for row in EVENT_TABLE {
            assert_eq!(Some(plan.at(row.code)), Kind::from_code(row.code).map(Step::Known));
        }
        assert_eq!(plan.at(200), Step::Absent);
    }

    #[test]
    fn a_kind_may_grow_and_new_ones_may_come() {
        let longer = plan(row(18, "region_begin", 2, &[Argument::Id, Argument::Text]));
        assert_eq!(longer.at(18), Step::Longer(Kind::RegionBegin, 0));
        assert_eq!(longer.appended(Kind::RegionBegin, 0).len(), 1);
        assert_eq!(plan(row(18, "region_begin", 2, &[])).at(18), Step::Foreign(0));
        let new = plan(row(40, "task_poll", 2, &[Argument::Unsigned]));
        assert_eq!(new.at(40), Step::Foreign(0));
        assert!(new.is_timed(0));
    }
}
