//! The table of verdicts, in Markdown.

use crate::incident::Incident;
use crate::judge::Verdict;
use crate::services::Half;
use crate::summary::Summary;
use anyhow::Context;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What came of an incident.
pub struct Row {
    /// The incident.
    pub incident: &'static Incident,
    /// How often it was made.
    pub rounds: usize,
    /// How often the summary was right.
    pub right: usize,
    verdict: Result<Verdict, String>,
    first: Option<String>,
}

impl Row {
    /// Of an incident that was judged.
    pub fn new(incident: &'static Incident, summary: &Summary, verdict: Verdict) -> Self {
        let first = summary.reason.iter().chain(&summary.findings).next();
        let first = first.map(|first| format!("{:.2} {}", first.score, without_root(&first.title)));
        let right = verdict.is_right.into();
        Self { incident, rounds: 1, right, verdict: Ok(verdict), first }
    }

    /// Of one that could not be made.
    pub fn failed(incident: &'static Incident, because: String) -> Self {
        Self { incident, rounds: 1, right: 0, verdict: Err(because), first: None }
    }

    /// Counts another round of the same incident; the worse one is shown.
    pub fn add(&mut self, other: Self) {
        let (rounds, right) = (self.rounds + other.rounds, self.right + other.right);
        if !other.is_right() {
            *self = other;
        }
        (self.rounds, self.right) = (rounds, right);
    }

    /// Whether all is as it should be.
    pub fn is_right(&self) -> bool {
        self.verdict.as_ref().is_ok_and(|verdict| verdict.is_right)
    }

    /// What is printed at once.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let first = self.first.as_deref().unwrap_or("nothing");
        let _ = match &self.verdict {
            Ok(verdict) => {
                let verdict = verdict.to_string().replace('\n', "\n  ");
                write!(text, "  first: {first}\n  {}\n", verdict.trim_end())
            }
            Err(because) => writeln!(text, "  NOT MADE: {because}"),
        };
        text
    }
}

/// All rows.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| incident | service | cause first | innocents accused | first finding |\n|---|---|---|---|---|\n",
    );
    for row in rows {
        let Row { incident, .. } = row;
        let service = incident.service;
        let service = format!("{} {}", service.package, service.version.unwrap_or_default());
        let is_healthy = incident.truth.names.is_empty();
        let (rank, accused) = match &row.verdict {
            Err(_) => ("not made".to_owned(), String::new()),
            Ok(verdict) => {
                let rank = match verdict.rank {
                    _ if is_healthy => "–".to_owned(),
                    Some(1) => "yes".to_owned(),
                    Some(rank) => format!("**no**, {rank}."),
                    None => "**no**".to_owned(),
                };
                (
                    rank,
                    if verdict.accused.is_empty() {
                        "none".to_owned()
                    } else {
                        format!("**{}**", verdict.accused.len())
                    },
                )
            }
        };
        let first = row.first.as_deref().unwrap_or("none").replace('|', "\\|");
        let rounds = if row.rounds > 1 {
            format!(" ({} of {})", row.right, row.rounds)
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "| `{}`{rounds} | {} | {rank} | {accused} | {} |",
            incident.name,
            service.trim(),
            cut(&first)
        );
    }
    for (half, name) in [(Half::Open, "open"), (Half::Hidden, "hidden")] {
        let of_half: Vec<_> = rows.iter().filter(|row| row.incident.service.half == half).collect();
        if !of_half.is_empty() {
            text.push_str(&score(name, &of_half));
        }
    }
    text.push_str("\nWhat is true of each:\n\n");
    for Row { incident, .. } in rows {
        let _ = writeln!(text, "* `{}`: {}", incident.name, incident.truth.story);
    }
    text
}

/// How often the summary was right, in a half.
fn score(half: &str, rows: &[&Row]) -> String {
    let all: Vec<_> =
        rows.iter().filter_map(|row| Some((row, row.verdict.as_ref().ok()?))).collect();
    let made = all.iter().filter(|(row, _)| !row.incident.truth.names.is_empty()).count();
    let first = all.iter().filter(|(_, verdict)| verdict.rank == Some(1)).count();
    let clean = all.iter().filter(|(_, verdict)| verdict.accused.is_empty()).count();
    format!(
        "\nThe {half} half: the cause is the first finding in {first} of {made} incidents; in {clean} of {} runs nothing \
         innocent is accused.\n",
        rows.len()
    )
}

/// A text in which files are named from the crate's folder on, or from the repository's.
fn without_root(text: &str) -> String {
    // Services may have been built in another checkout.
    const SERVICES: &str = "/incidents/target/services/";
    let mut text = text.to_owned();
    let begins = |c: char| c.is_whitespace() || "(\"'`".contains(c);
    while let Some(at) = text.find(SERVICES) {
        let from = text[..at].char_indices().rev().find(|(_, c)| begins(*c));
        let from = from.map_or(0, |(before, c)| before + c.len_utf8());
        text.replace_range(from..at + SERVICES.len(), "");
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    text.replace(&format!("{}/", repository.display()), "")
}

/// The beginning of a title.
fn cut(title: &str) -> String {
    const MOST: usize = 160;
    match title.char_indices().nth(MOST) {
        Some((at, _)) => format!("{} …", title[..at].trim_end()),
        None => title.to_owned(),
    }
}

/// Puts the table between its marks in the page.
pub fn write(page: &Path, table: &str) -> anyhow::Result<()> {
    let (begin, end) = ("<!-- incidents/run --docs writes from here -->\n", "<!-- to here -->");
    let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let (before, rest) =
        text.split_once(begin).context("the page has no mark where the table begins")?;
    let (_, after) = rest.split_once(end).context("the page has no mark where the table ends")?;
    Ok(fs::write(page, format!("{before}{begin}\n{table}\n{end}{after}"))?)
}
