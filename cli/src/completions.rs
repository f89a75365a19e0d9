//! `lookback completions`: prints completion scripts for shells.

use crate::exit::Verdict;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};
use std::io::Write;

/// Print the completion script for a shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  lookback completions bash > ~/.local/share/bash-completion/completions/lookback
  lookback completions zsh > ~/.zfunc/_lookback
  lookback completions fish > ~/.config/fish/completions/lookback.fish")]
pub struct Completions {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let mut script = Vec::new();
        generate(self.shell, &mut crate::CommandLine::command(), "lookback", &mut script);
        std::io::stdout().write_all(&script)?;
        Ok(Verdict::Sound)
    }
}
