//! The text form of a file: each record a line, as it stands in its block, and back.
//!
//! ```text
//! metadata "process.pid" 17
//! generation 1 complete began=0:0:0:1000000000 ended=500:500:500:1000000000
//! block slot=1 sequence=0 thread=1 base=0 first_event=0
//!   site id=1 name="spin" file="src/main.rs" line=7
//!   @10 thread_start thread=1 os_thread=4001 name="main"
//!   @20 task_create task=0 incarnation=1 sequence=2 site=1
//! ```
//!
//! It is for tests that are written by hand, and for looking at a file as it is, without interpretation. Both
//! directions belong to the library: the tests of the reader and of the command, the fuzz targets, and whoever tests
//! an analysis of their own write histories in it. An executable that reads no text contains no code for that. A
//! record is the name of its kind with its arguments, in the order of the event table. Where two kinds have
//! the same name and arguments, the second is written with its code (`counter#23`). Times (`@`) and bases are
//! ticks since the generation began; the clock records are ticks, monotonic and wall clock, and frequency. A
//! block's sequence, its first event and its number of events may be omitted where they are the expected
//! ones.
//!
//! | value | written |
//! |---|---|
//! | unsigned, id | `7` |
//! | signed | `+7`, `-7` |
//! | with a fraction | `f0.5`; `fx` and its bits if it is not a number |
//! | yes or no | `true` |
//! | text | `"a \"b\""`, followed by `…` if it was cut; `&3` for the string with id 3 |
//! | error | `!` and a text |
//! | fields, names | `[text "path", unsigned "size"]`, `["path"]` |
//! | values, given values | `(7, "x")`, `{0: 7, 2: "x"}` |
//! | pairs | `[1:2, 3:4]` |
//! | bytes | `0x0102`; a list of tasks `[0.1 site 2 idle, 3.1 site 2 running woken]`, of spans `[1.1 ago 50 site 6, 2.1 in 1.1 ago 40 site 6 part {0: "x"}]` |

mod lists;
mod literal;
mod parse;
mod print;

pub use parse::{TextError, from_text};
pub use print::{to_text, write_text};

use crate::wire::FileRow;

/// Whether a kind is identified by its name and the names of its arguments alone.
fn is_first(rows: &[FileRow], index: usize) -> bool {
    let row = &rows[index];
    let names = |row: &FileRow| -> Vec<String> {
        row.arguments.iter().map(|(name, _)| name.clone()).collect()
    };
    !rows[..index].iter().any(|other| other.name == row.name && names(other) == names(row))
}
