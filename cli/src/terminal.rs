//! The terminal: colours, and how wide the output may be.

use clap::ValueEnum;
use console::{Style, Term};
use std::io::IsTerminal;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    // On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    // Even if the output is not a terminal.
    Always,
    // Never.
    Never,
}

impl Colour {
    /// Applies the choice to the whole process.
    pub fn choose(self) {
        let quiet = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = |terminal: bool| match self {
            Self::Auto => terminal && !quiet,
            Self::Always => true,
            Self::Never => false,
        };
        console::set_colors_enabled(colours(std::io::stdout().is_terminal()));
        console::set_colors_enabled_stderr(colours(std::io::stderr().is_terminal()));
    }

    /// The choice on the command line, before that is parsed: for `--help` and usage errors.
    pub fn asked(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut chosen = Self::Auto;
        while let Some(argument) = arguments.next() {
            let value = match argument.strip_prefix("--color") {
                Some("") => arguments.next(),
                Some(value) => value.strip_prefix('=').map(str::to_owned),
                None => continue,
            };
            if let Some(value) = value.and_then(|value| Self::from_str(&value, false).ok()) {
                chosen = value;
            }
        }
        chosen
    }
}

impl From<Colour> for clap::ColorChoice {
    fn from(colour: Colour) -> Self {
        match colour {
            Colour::Auto => Self::Auto,
            Colour::Always => Self::Always,
            Colour::Never => Self::Never,
        }
    }
}

/// How wide the output may be: `COLUMNS`, or else the terminal's width. Output to a pipe or a file is not
/// cut.
pub fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    match asked.filter(|columns| *columns > 0) {
        Some(columns) => columns.clamp(40, UNLIMITED),
        None => match Term::stdout().size_checked() {
            Some((_, columns)) => usize::from(columns).clamp(40, 160),
            None => UNLIMITED,
        },
    }
}

/// Whether the width has no limit.
pub fn is_unlimited() -> bool {
    width() == UNLIMITED
}

/// Wider than any line.
const UNLIMITED: usize = 1 << 30;

/// For secondary text.
pub fn dim() -> Style {
    Style::new().dim()
}

/// For what matters.
pub fn strong() -> Style {
    Style::new().bold()
}

/// For what is wrong.
pub fn bad() -> Style {
    Style::new().red().bold()
}

/// For what is in order.
pub fn good() -> Style {
    Style::new().green()
}

/// For names: of threads, of regions.
pub fn name() -> Style {
    Style::new().cyan()
}

/// For what needs a second look.
pub fn odd() -> Style {
    Style::new().yellow()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_colour_asked_for_counts() {
        let asked = |line: &str| Colour::asked(line.split(' ').map(str::to_owned));
        assert_eq!(asked("lookback info x"), Colour::Auto);
        assert_eq!(asked("lookback --color never info x"), Colour::Never);
        assert_eq!(asked("lookback --color=never info x --color always"), Colour::Always);
        assert_eq!(asked("lookback --color=green --color"), Colour::Auto);
    }
}
