//! Numbers by column, as the page reads them: varints one after the other, so that they compress well, and a table of which
//! column is where.

use serde_json::{Value, json};

/// See the module.
#[derive(Debug, Default)]
pub struct Columns {
    directory: Vec<Value>,
    bytes: Vec<u8>,
}

impl Columns {
    /// Numbers that are small, or repeat.
    pub fn numbers(&mut self, name: &str, values: impl IntoIterator<Item = u64>) {
        self.column(name, "number", values, put);
    }

    /// Numbers that differ little from those before them: the differences.
    pub fn steps(&mut self, name: &str, values: impl IntoIterator<Item = i64>) {
        let mut before = 0_i64;
        self.column(name, "step", values, |bytes, value| {
            let step = value.wrapping_sub(before);
            before = value;
            put(bytes, ((step << 1) ^ (step >> 63)) as u64);
        });
    }

    /// Any numbers.
    pub fn floats(&mut self, name: &str, values: impl IntoIterator<Item = f64>) {
        self.column(name, "float", values, |bytes, value| {
            bytes.extend_from_slice(&value.to_le_bytes());
        });
    }

    fn column<T>(
        &mut self,
        name: &str,
        kind: &str,
        values: impl IntoIterator<Item = T>,
        mut put: impl FnMut(&mut Vec<u8>, T),
    ) {
        let begin = self.bytes.len();
        let mut count = 0_u64;
        for value in values {
            put(&mut self.bytes, value);
            count += 1;
        }
        let length = self.bytes.len() - begin;
        self.directory.push(json!({ "name": name, "kind": kind, "count": count, "bytes": length }));
    }

    /// The table of the columns, in their order, and their bytes.
    pub fn finish(self) -> (Value, Vec<u8>) {
        (self.directory.into(), self.bytes)
    }
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_its_numbers_and_its_place() {
        let mut columns = Columns::default();
        columns.numbers("a", [0, 127, 128, u64::MAX]);
        columns.steps("b", [5, 3, i64::MIN]);
        columns.floats("c", [1.5]);
        let (directory, bytes) = columns.finish();
        assert_eq!(&bytes[..4], [0, 127, 0x80, 1]);
        assert_eq!(&bytes[14..16], [10, 3]);
        let lengths: Vec<_> = directory
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|column| column["bytes"].as_u64())
            .collect();
        assert_eq!(lengths, [14, 2 + 10, 8]);
        assert_eq!(directory[1]["count"], 3);
    }
}
