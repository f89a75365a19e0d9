//! Incidents of real services whose cause is known, and what `lookback summary` says of each: docs/incidents.md.

mod corpus;
mod incident;
mod judge;
mod load;
mod scene;
mod services;
mod summary;
mod surroundings;
mod table;

use anyhow::{Context, ensure};
use clap::Parser;
use corpus::Surroundings;
use incident::Incident;
use scene::Scene;
use services::{Half, Service, Workshop};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use surroundings::Since;
use table::Row;

/// Makes incidents in real services, and judges what `lookback summary` says of each.
#[derive(Parser)]
struct Options {
    /// The command that is judged
    #[arg(long, value_name = "PATH")]
    lookback: PathBuf,
    /// Only these incidents, by parts of their names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Only those of one half
    #[arg(long, value_enum, value_name = "HALF")]
    half: Option<Half>,
    /// How often each is made; the worst verdict counts
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: usize,
    /// Takes the services as they were built
    #[arg(long)]
    no_build: bool,
    /// Judges the snapshots of the last run again, and makes none
    #[arg(long)]
    again: bool,
    /// Prints the incidents, and what is true of each
    #[arg(long)]
    list: bool,
    /// Writes the table into docs/incidents.md
    #[arg(long)]
    docs: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let wanted = |one: &Incident| {
        let is_named =
            options.only.is_empty() || options.only.iter().any(|name| one.name.contains(name));
        is_named && options.half.is_none_or(|half| half == one.service.half)
    };
    let incidents: Vec<_> = corpus::all().filter(|one| wanted(one)).collect();
    ensure!(!incidents.is_empty(), "no incident has such a name; --list prints them");
    if options.list {
        for one in &incidents {
            println!("{:<28} {}", one.name, one.truth.story);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
    let lookback = fs::canonicalize(&options.lookback)
        .with_context(|| options.lookback.display().to_string())?;
    let workshop = Workshop { root, lookback };
    if !options.no_build && !options.again {
        // All of them, as they are one workspace.
        let services: Vec<&Service> = corpus::services();
        workshop.build(&services)?;
    }
    let mut rows: Vec<Row> = Vec::new();
    for incident in incidents {
        for _ in 0..options.rounds {
            println!("{}", incident.name);
            let row = match run(incident, &workshop, options.again) {
                Ok(row) => row,
                Err(error) => Row::failed(incident, format!("{error:#}")),
            };
            print!("{}", row.report());
            match rows.last_mut().filter(|last| last.incident.name == incident.name) {
                Some(last) => last.add(row),
                None => rows.push(row),
            }
        }
    }
    let table = table::markdown(&rows);
    println!("\n{table}");
    if options.docs {
        table::write(&workshop.root.join("../docs/incidents.md"), &table)?;
    }
    Ok(if rows.iter().all(Row::is_right) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes an incident, takes its snapshot, and judges what is said of it.
fn run(incident: &'static Incident, workshop: &Workshop, again: bool) -> anyhow::Result<Row> {
    // The snapshot's name in the incident's folder, which can be moved.
    let folder = workshop.target().join("incidents").join(incident.name);
    let kept = folder.join("snapshot");
    let snapshot = match again {
        true => folder.join(fs::read_to_string(&kept).context("it was not made yet")?),
        false => {
            let snapshot = make(incident, workshop)?;
            let name = snapshot.strip_prefix(&folder).unwrap_or(&snapshot);
            fs::write(&kept, name.display().to_string())?;
            snapshot
        }
    };
    let mut summary = summary::of(&workshop.lookback, &snapshot)?;
    if surroundings::noted(&folder) {
        summary.findings.retain(|finding| !surroundings::may_explain(finding));
    }
    let verdict = judge::judge(incident, &summary, workshop)?;
    fs::write(snapshot.with_file_name("verdict"), verdict.to_string())?;
    Ok(Row::new(incident, &summary, verdict))
}

fn make(incident: &Incident, workshop: &Workshop) -> anyhow::Result<PathBuf> {
    let covers = incident.env.iter().find(|(name, _)| *name == "COVERS").map(|(_, value)| *value);
    let Surroundings { env, queued } = Surroundings::start(covers)?;
    let mut scene = Scene::start(incident, workshop, &env)?;
    scene.keep(queued);
    let since = Since::now();
    let load = (incident.load)(&mut scene);
    surroundings::note(&scene.folder, since.others_had_the_cores() && !scene.is_crowded())?;
    let snapshot = load.and_then(|()| scene.capture(incident.capture));
    scene.end()?;
    snapshot
}
