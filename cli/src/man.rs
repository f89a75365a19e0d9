//! `lookback man`: the manual pages, generated from the text of `--help`.

use crate::exit::Verdict;
use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;
use std::io::Write;
use std::path::PathBuf;

/// Print the manual page, or write one for each subcommand into a directory.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  lookback man | man -l -                      read it
  lookback man -o ~/.local/share/man/man1      install all of them: lookback.1, lookback-run.1, …")]
pub struct Man {
    /// Write the page of each subcommand into this directory, which must exist
    #[arg(short, long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let command = crate::CommandLine::command();
        let Some(directory) = self.output else {
            let mut page = Vec::new();
            Page::new(command).render(&mut page)?;
            std::io::stdout().write_all(&page)?;
            return Ok(Verdict::Sound);
        };
        clap_mangen::generate_to(command, &directory)
            .with_context(|| format!("{}: cannot write the manual pages", directory.display()))?;
        Ok(Verdict::Sound)
    }
}
