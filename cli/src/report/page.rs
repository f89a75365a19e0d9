//! The page: one HTML file, with the data in it.
//!
//! `report/` has the source of everything but the data; `page.html` beside this file is what its build makes of it. That has a
//! place for the data: text in base64 of a zlib stream of
//!
//! 1. the length of the header, as 4 bytes, the least significant first,
//! 2. the header, a JSON object: `summary` (what `lookback summary --json` prints), `why` (what `lookback why --json`
//!    prints, or null), `program`, and of the timeline `threads`, `texts`, `generations`, `end`, `missing`
//!    and `columns`, in which each has a `name`, a `kind`, a `count` and its length in `bytes`,
//! 3. the columns. Those of the kind `number` are LEB128 varints; of `step` the differences to the value before,
//!    zigzag-encoded; of `float` IEEE 754 numbers, of 8 bytes.
//!
//! Times are nanoseconds since the first event. Of columns whose names begin alike, the same places are about one thing.
//! Numbers of tasks and spans are those of `tasks.number` and `spans.number`, which ascend; 0 is none.

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::Value;
use std::io::{self, Write};

/// All but the data.
const PAGE: &str = include_str!("page.html");
/// Where that comes.
const PLACE: &str = "@DATA@";
/// Fast enough for a large file, and within a tenth of the best.
const LEVEL: u32 = 6;

/// Writes a page. Returns its length.
pub fn write(header: &Value, columns: &[u8], out: &mut dyn Write) -> io::Result<u64> {
    let header = serde_json::to_vec(header)?;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(LEVEL));
    let length = u32::try_from(header.len()).map_err(io::Error::other)?;
    encoder.write_all(&length.to_le_bytes())?;
    encoder.write_all(&header)?;
    encoder.write_all(columns)?;
    let data = BASE64_STANDARD.encode(encoder.finish()?);
    let (before, after) = PAGE.split_once(PLACE).unwrap_or((PAGE, ""));
    for part in [before, &data, after] {
        out.write_all(part.as_bytes())?;
    }
    Ok((before.len() + data.len() + after.len()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_place_for_the_data_and_asks_nothing_of_others() {
        assert_eq!(PAGE.matches(PLACE).count(), 1);
        assert!(PAGE.contains("default-src 'none'"));
        assert!(!PAGE.contains("src=\"http") && !PAGE.contains("href=\"http"));
    }
}
