//! What `lookback summary` says of a snapshot: as a machine reads it, and as a person does.

use anyhow::{Context, ensure};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A summary, in both forms.
pub struct Summary {
    /// Why the snapshot was taken, if that is a fault itself: a panic, a fatal signal.
    pub reason: Option<Told>,
    /// The findings, in the order in which they are printed.
    pub findings: Vec<Told>,
}

/// One thing that a summary tells.
pub struct Told {
    /// How far it is beyond its limit.
    pub score: f64,
    /// What was measured; times in nanoseconds.
    pub value: f64,
    /// Which analysis found it.
    pub analysis: String,
    /// It, in one sentence.
    pub title: String,
    /// The task and the span that it is about, before all.
    pub about: [Option<String>; 2],
    /// All that is printed of it, without line breaks, and all that is in its JSON.
    pub words: String,
}

/// Runs the command on a snapshot, and keeps what it says beside it.
pub fn of(lookback: &Path, snapshot: &Path) -> anyhow::Result<Summary> {
    let json = run(lookback, snapshot, &["--json"])?;
    let text = run(lookback, snapshot, &[])?;
    fs::write(snapshot.with_extension("json"), &json)?;
    fs::write(snapshot.with_extension("txt"), &text)?;
    let json: Value = serde_json::from_str(&json)?;
    let blocks = blocks(&text);
    let findings = json["findings"].as_array().context("findings are a list")?;
    ensure!(
        blocks.len() >= findings.len(),
        "{} findings, {} printed",
        findings.len(),
        blocks.len()
    );
    let findings = findings.iter().zip(blocks).map(|(finding, block)| {
        let string = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let words = format!("{block} {finding}");
        let about =
            ["task", "span"].map(|key| Some(finding["evidence"][0][key].as_str()?.to_owned()));
        Told {
            about,
            score: finding["score"].as_f64().unwrap_or(0.0),
            value: finding["value"].as_f64().unwrap_or(0.0),
            analysis: string("analysis"),
            title: string("title"),
            words,
        }
    });
    let reason = json["incident"]["causes"].as_array().and_then(|causes| causes.first());
    let reason = reason
        .filter(|cause| matches!(cause["trigger"].as_str(), Some("panic" | "fatal_signal")))
        .map(|cause| Told {
            score: 1.0,
            value: 0.0,
            about: [None, None],
            analysis: "reason".to_owned(),
            title: cause["reason"].as_str().unwrap_or_default().to_owned(),
            words: format!("{cause} {}", headline(&text)),
        });
    Ok(Summary { reason, findings: findings.collect() })
}

fn run(lookback: &Path, snapshot: &Path, options: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new(lookback).arg("summary").arg("--all").arg(snapshot).args(options).output()?;
    ensure!(
        !output.stdout.is_empty(),
        "{}: {}",
        snapshot.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// What stands above the findings.
fn headline(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with("What stood out"));
    lines.collect::<Vec<_>>().join(" ")
}

/// What is printed of each finding. A finding begins with its score.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let lines = text.lines().skip_while(|line| !line.starts_with("What stood out")).skip(1);
    for line in lines.take_while(|line| line.is_empty() || line.starts_with(' ')) {
        let line_of = line.strip_prefix("  ").unwrap_or(line);
        let is_first =
            line_of.len() > 4 && line_of.is_char_boundary(4) && line_of[..4].parse::<f64>().is_ok();
        match blocks.last_mut() {
            _ if is_first => blocks.push(line_of.trim().to_owned()),
            Some(block) => {
                block.push(' ');
                block.push_str(line.trim());
            }
            None => (),
        }
    }
    blocks
}
