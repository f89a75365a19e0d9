//! Tables in Markdown.
#![forbid(unsafe_code)]

use crate::figures::Spread;
use crate::options::Options;
use crate::versions::{machine, versions};

/// Prints a heading for the tables below it, with the command that produces them again.
pub fn heading(title: &str, program: &str, packages: &[&str], options: &Options) {
    println!("## {title}: `{}`", Options::command(program));
    println!();
    println!("{}; {}.", versions(packages), machine());
    if options.quick {
        println!("**A short run: its figures show that it works, no more.**");
    }
    println!();
}

/// Prints the first two lines of a table.
pub fn columns(names: &[&str]) {
    row(names);
    row(&vec!["---"; names.len()]);
}

/// Prints a line of a table.
pub fn row<T: AsRef<str>>(cells: &[T]) {
    let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
    println!("| {} |", cells.join(" | "));
}

/// A ratio, as `1.25 ×`.
#[must_use]
pub fn times(ratio: f64) -> String {
    format!("{ratio:.2} ×")
}

/// The quartiles of a ratio, as `1.20–1.31`.
#[must_use]
pub fn quartiles(spread: &Spread) -> String {
    format!("{:.2}–{:.2}", spread.low, spread.high)
}

/// Nanoseconds, with as many digits as are significant.
#[must_use]
pub fn nanos(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}
