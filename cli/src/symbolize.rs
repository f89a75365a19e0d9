//! `lookback symbolize`: puts the names of functions into a snapshot, to be read where the program is not.

use crate::exit::{Damage, Verdict, complain, open};
use crate::format::{bytes, count, counted, escape, shell_word};
use crate::frames;
use crate::output::Output;
use crate::terminal::{name, odd, strong};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use lookback::read::symbols::symbolize;
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Put the names of the functions in a snapshot's stacks into it, so that it can be read where the program is not.
#[derive(Args, Debug)]
#[command(after_help = "\
Writes a copy of the snapshot that has the names of all functions in its stacks, with files and lines: `stacks`, \
`summary`, `events` and `export` then show the same on any machine. All else stays as it is, addresses included. Without \
-o the copy of incident.lbk is incident.named.lbk, beside it. An existing file is replaced once the new one is whole; \
`-o -` is standard output.

The names come from the recorded process's executable and libraries, which must be on this machine, in the very same \
build; --symbols as in `lookback stacks`. Where they are here, later commands still use them. Names that the snapshot \
has already are kept where no others are found.

With --json: one object with `file`, `out`, `bytes`, `names_bytes`, `addresses` (different ones, in all stacks), `named`, \
`left_out` (there are at most 1,048,576), `problems` [why there are no names for some files] and `damage` [what cannot be \
read].

Examples:
  lookback symbolize incident.lbk
  lookback symbolize incident.lbk -o - | ssh laptop 'cat >incident.lbk'
  lookback symbolize incident.lbk --symbols ./debug -o named.lbk")]
pub struct Symbolize {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The file to write, or `-`
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// Also look for debug information in this directory
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Print one JSON value about it
    #[arg(long)]
    json: bool,
}

impl Symbolize {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let out = self.out.unwrap_or_else(|| beside(&self.file));
        if self.json && out.as_os_str() == "-" {
            let wrong = "--json prints to standard output, so -o must name a file";
            crate::CommandLine::command().error(ErrorKind::ArgumentConflict, wrong).exit();
        }
        let trace = open(&self.file)?;
        let output = Output::new(&out, &self.file)?;
        let mut damage = Damage::of(&trace);
        let mut symbolizer = frames::opening(&trace, &self.symbols);
        let done = output.write(|out| symbolize(&trace, &mut symbolizer, out))?;
        for generation in trace.generations() {
            generation.damage.iter().for_each(|error| damage.note(error));
        }
        if self.json {
            let value = json!({
                "file": trace.file(),
                "out": out.display().to_string(),
                "bytes": done.bytes,
                "names_bytes": done.names_bytes,
                "addresses": done.addresses,
                "named": done.named,
                "left_out": done.left_out,
                "problems": symbolizer.problems(),
                "damage": damage.lines(),
            });
            writeln!(io::stdout(), "{value:#}")?;
            return Ok(damage.tell());
        }
        if !output.is_stdout() {
            let mut said = io::stdout().lock();
            writeln!(
                said,
                "{}: names for {} of {}, in {} of {}",
                strong().apply_to(escape(&out.display().to_string())),
                count(done.named),
                counted(done.addresses, "address"),
                bytes(done.names_bytes),
                bytes(done.bytes),
            )?;
            if done.left_out > 0 {
                let words = format!("{} left out: there is no room for more", count(done.left_out));
                writeln!(said, "  {}", odd().apply_to(words))?;
            }
            let command = format!("lookback stacks {}", shell_word(&out));
            writeln!(said, "To look at it:  {}", name().apply_to(escape(&command)))?;
        }
        symbolizer.problems().iter().for_each(|line| complain(line));
        Ok(damage.tell())
    }
}

/// `incident.named.lbk` beside `incident.lbk`.
fn beside(file: &Path) -> PathBuf {
    let is_snapshot = file.extension().is_some_and(|ending| ending == "lbk");
    let stem = if is_snapshot { file.file_stem() } else { file.file_name() };
    let mut name = stem.unwrap_or_default().to_owned();
    name.push(".named.lbk");
    file.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_lies_beside_the_snapshot() {
        for (file, copy) in [
            ("incident.lbk", "incident.named.lbk"),
            ("/a/b.c.lbk", "/a/b.c.named.lbk"),
            ("/a/incident", "/a/incident.named.lbk"),
        ] {
            assert_eq!(beside(Path::new(file)), Path::new(copy));
        }
    }
}
