//! A program's arguments.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The arguments of a program.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A short run, to see that it works; its figures mean little.
    pub quick: bool,
    /// How many rounds; each program has its own default.
    pub rounds: Option<usize>,
    /// The directory of the same programs, built with `--cfg tokio_unstable`.
    pub unstable: Option<PathBuf>,
    /// Be the child that measures this candidate.
    pub child: Option<String>,
}

impl Options {
    /// Reads the arguments of this process.
    ///
    /// # Errors
    ///
    /// An argument is unknown, or lacks its value.
    pub fn from_arguments() -> Result<Self> {
        Self::parse(std::env::args().skip(1))
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--rounds" => {
                    let rounds: usize = value()?.parse().context("--rounds takes a number")?;
                    options.rounds = Some(rounds.max(1));
                }
                "--unstable" => options.unstable = Some(value()?.into()),
                "--child" => options.child = Some(value()?),
                _ => bail!(
                    "unknown argument {argument}; there are --quick, --rounds N, --unstable DIR"
                ),
            }
        }
        Ok(options)
    }

    /// The path of this program.
    ///
    /// # Errors
    ///
    /// The system does not report the path.
    pub fn program(&self) -> Result<PathBuf> {
        std::env::current_exe().context("where this program lies")
    }

    /// The path of this program built with `--cfg tokio_unstable`, if its directory was given.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn unstable_program(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some(directory) = &self.unstable else { return Ok(None) };
        let program: PathBuf = Path::new(directory).join(name);
        if !program.is_file() {
            bail!("{} does not exist; run.sh builds it", program.display());
        }
        Ok(Some(program))
    }

    /// The command that produces the same table again.
    #[must_use]
    pub fn command(name: &str) -> String {
        let mut command = format!("cargo run --release --bin {name}");
        if name == "allocators" {
            command.push_str(" --features heap");
        } else if cfg!(feature = "lookback") {
            command.push_str(" --features lookback");
        }
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        if !arguments.is_empty() {
            command.push_str(" -- ");
            command.push_str(&arguments.join(" "));
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn arguments_may_come_in_any_order() {
        let options = parse(&["--rounds", "3", "--quick", "--child", "bare"]).unwrap();
        assert!(options.quick);
        assert_eq!(options.rounds, Some(3));
        assert_eq!(options.child.as_deref(), Some("bare"));
    }

    #[test]
    fn an_argument_that_is_not_known_is_an_error() {
        assert!(parse(&["--fast"]).is_err());
        assert!(parse(&["--rounds"]).is_err());
    }
}
