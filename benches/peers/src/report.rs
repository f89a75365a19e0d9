//! What a child tells its driver: named figures, one line each, on its standard output.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// Figures by name; each has a value for each time it was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    figures: BTreeMap<String, Vec<f64>>,
}

impl Report {
    /// Adds values to the figure `name`, which has no spaces in it.
    pub fn add(&mut self, name: &str, values: impl IntoIterator<Item = f64>) {
        debug_assert!(!name.contains(char::is_whitespace));
        self.figures.entry(name.to_owned()).or_default().extend(values);
    }

    /// Adds all figures of another report.
    pub fn append(&mut self, other: Self) {
        for (name, values) in other.figures {
            self.add(&name, values);
        }
    }

    /// The values of a figure; empty if it was not measured.
    #[must_use]
    pub fn get(&self, name: &str) -> &[f64] {
        self.figures.get(name).map_or(&[], Vec::as_slice)
    }

    /// Reads what a child has printed.
    ///
    /// # Errors
    ///
    /// A value is not a number.
    pub fn parse(text: &str) -> Result<Self> {
        let mut report = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            for word in words {
                let value = word.parse().with_context(|| format!("{name}: {word}"))?;
                report.add(name, [value]);
            }
        }
        Ok(report)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, values) in &self.figures {
            write!(f, "{name}")?;
            for value in values {
                write!(f, " {value}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let mut report = Report::default();
        report.add("switch", [101.5, 99.0]);
        report.add("spawn", [310.25]);
        assert_eq!(Report::parse(&report.to_string()).unwrap(), report);
        assert!(report.get("nothing").is_empty());
    }

    #[test]
    fn what_is_not_a_number_is_an_error() {
        assert!(Report::parse("switch fast").is_err());
    }
}
