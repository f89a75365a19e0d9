//! The judgement: is the cause told first, and is nothing innocent accused?

use crate::incident::{Incident, Name};
use crate::services::Workshop;
use crate::summary::{Summary, Told};
use std::fmt::{self, Display, Formatter};

/// From this score on, a finding accuses somebody.
const ACCUSES: f64 = 0.5;

/// What was found right and wrong in a summary.
pub struct Verdict {
    /// Where the cause stands among the findings, from 1; none if it is not there. For a service without a fault, none.
    pub rank: Option<usize>,
    /// What is missing of the cause in the first finding.
    pub missing: Vec<String>,
    /// What it says that is not so.
    pub wrong: Vec<String>,
    /// Findings that accuse something else.
    pub accused: Vec<String>,
    /// Whether the cause is the first finding, or nothing is one as nothing should be; and nothing else is accused.
    pub is_right: bool,
}

/// Judges a summary.
pub fn judge(
    incident: &Incident,
    summary: &Summary,
    workshop: &Workshop,
) -> anyhow::Result<Verdict> {
    let groups = incident.truth.names.iter().map(|group| {
        group.iter().map(|name| word(incident, *name, workshop)).collect::<anyhow::Result<Vec<_>>>()
    });
    let groups = groups.collect::<anyhow::Result<Vec<_>>>()?;
    let is_cause =
        |told: &Told| !groups.is_empty() && groups.iter().all(|group| names_one(told, group));
    let is_near = |told: &Told| groups.iter().any(|group| names_one(told, group));
    let told: Vec<_> = summary.reason.iter().chain(&summary.findings).collect();
    let rank = told.iter().position(|one| is_cause(one)).map(|at| at + 1);
    let missing =
        groups.iter().filter(|group| !told.first().is_some_and(|first| names_one(first, group)));
    let missing: Vec<_> = missing.map(|group| group.join(" or ")).collect();
    let cause = told.iter().find(|one| is_cause(one));
    let is_same = |one: &Told| {
        let mut both = cause.iter().flat_map(|cause| cause.about.iter().zip(&one.about));
        both.any(|(of_cause, own)| own.is_some() && of_cause == own)
    };
    // What names the cause explains itself by it, and what is about the same task or span accuses nobody else. What the recording
    // itself lacks is no accusation.
    let accused = summary.findings.iter().filter(|one| {
        one.score > ACCUSES
            && !is_near(one)
            && !is_same(one)
            && !matches!(&*one.analysis, "coverage" | "losses")
    });
    let accused: Vec<_> =
        accused.map(|one| format!("{:.2} {}: {}", one.score, one.analysis, one.title)).collect();
    let first = told.first();
    let wrong = incident
        .truth
        .never
        .iter()
        .filter(|words| first.is_some_and(|first| first.words.contains(**words)));
    let wrong: Vec<_> = wrong.map(|words| (*words).to_owned()).collect();
    let rank = rank.filter(|rank| *rank > 1 || wrong.is_empty());
    let is_right = accused.is_empty() && (groups.is_empty() || rank == Some(1));
    Ok(Verdict { rank, missing, wrong, accused, is_right })
}

fn names_one(told: &Told, group: &[String]) -> bool {
    group.iter().any(|word| holds_word(&told.words, word))
}

/// Whether a text contains this word, and not only as the beginning of a longer one: `db.rs:11` is not `db.rs:112`.
fn holds_word(text: &str, word: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let after = &rest[at + word.len()..];
        if !(word.ends_with(|last: char| last.is_ascii_digit())
            && after.starts_with(|next: char| next.is_ascii_digit()))
        {
            return true;
        }
        rest = after;
    }
    false
}

fn word(incident: &Incident, name: Name, workshop: &Workshop) -> anyhow::Result<String> {
    Ok(match name {
        Name::Line(file, text) => {
            format!("{file}:{}", workshop.line(incident.service, file, text)?)
        }
        Name::Words(words) => words.to_owned(),
    })
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rank = self.rank.map_or("not told".to_owned(), |rank| format!("finding {rank}"));
        writeln!(f, "{}; the cause: {rank}", if self.is_right { "right" } else { "WRONG" })?;
        for missing in &self.missing {
            writeln!(f, "  the first finding does not name {missing}")?;
        }
        for wrong in &self.wrong {
            writeln!(f, "  the first finding says what is not so: {wrong}")?;
        }
        for accused in &self.accused {
            writeln!(f, "  accused: {accused}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::holds_word;

    #[test]
    fn a_line_is_not_the_beginning_of_another_lines_number() {
        assert!(!holds_word("at src/db.rs:112", "src/db.rs:11"));
        assert!(holds_word("at src/db.rs:112, src/db.rs:11 and", "src/db.rs:11"));
    }
}
