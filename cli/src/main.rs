//! The command `lookback`: reads snapshots, takes them from outside, and shows a recorded service. Each subcommand has a
//! file of its own; `outcome` has how they end, `text` and `terminal` how they speak.

#![forbid(unsafe_code)]

mod arena_file;
mod completions;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod events;
mod export;
mod glob;
mod info;
mod keys;
mod last_events;
mod losses;
mod man;
mod open_regions;
mod outcome;
mod output;
mod process;
mod ps;
mod recover;
mod run;
mod saved;
mod snapshot;
mod summary;
mod terminal;
mod text;
mod validate;
mod wanted;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;
use terminal::Colour;

/// A continuous flight recorder: the last seconds of a service, and what they tell.
#[derive(Debug, Parser)]
#[command(
    name = "lookback",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  lookback info incident.lbk           what is in a snapshot
  lookback events incident.lbk         everything that happened, in order
  lookback summary incident.lbk        what happened, and what stood out
  lookback validate incident.lbk       whether a snapshot is sound
  lookback export incident.lbk --format go -o trace.out   for `go tool trace`
  lookback ps                          the processes that are being recorded
  lookback snapshot PID                from outside, of a running or hung process
  lookback run -- COMMAND              runs it, and keeps its last seconds if it dies
  lookback recover ARENA               from a black box that outlived its process
  lookback doctor PID                  is it recording, what is missing, what would help

Exit codes: 0 fine; 1 the input is bad or a check failed; 2 wrong usage; of `run`: that of COMMAND."
)]
struct CommandLine {
    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    color: Colour,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    Info(info::Info),
    Events(events::Events),
    Summary(summary::Summary),
    Validate(validate::Validate),
    Export(export::Export),
    Snapshot(snapshot::Snapshot),
    Recover(recover::Recover),
    Run(run::Run),
    Ps(ps::Ps),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
}

fn main() -> ExitCode {
    let asked = Colour::asked(std::env::args_os().filter_map(|a| a.into_string().ok()));
    let matches = CommandLine::command().color(asked.into()).get_matches();
    let CommandLine { color, command } = match CommandLine::from_arg_matches(&matches) {
        Ok(line) => line,
        Err(error) => error.exit(),
    };
    color.choose();
    outcome::conclude(match command {
        #[cfg(feature = "demo")]
        Command::Demo(demo) => demo.run(),
        Command::Info(info) => info.run(),
        Command::Events(events) => events.run(),
        Command::Summary(summary) => summary.run(),
        Command::Validate(validate) => validate.run(),
        Command::Export(export) => export.run(),
        Command::Snapshot(snapshot) => snapshot.run(),
        Command::Recover(recover) => recover.run(),
        Command::Run(run) => run.run(),
        Command::Ps(ps) => ps.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    })
}
