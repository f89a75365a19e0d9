//! The command `lookback`: takes snapshots of recorded services from outside, and explains them. Each
//! subcommand has its own file. `exit` has errors and exit codes; `format` and `terminal` format the output.

#![forbid(unsafe_code)]

mod arena_file;
mod completions;
mod counter_lines;
#[cfg(feature = "demo")]
mod demo;
mod diff;
mod doctor;
mod event_facts;
mod event_json;
mod event_line;
mod event_stacks;
mod events;
mod exit;
mod export;
mod format;
mod frames;
mod glob;
mod ids;
mod info;
mod keys;
mod last_events;
mod losses;
mod man;
mod moment;
mod output;
mod part;
mod process;
mod ps;
mod recover;
mod report;
mod run;
mod saved_snapshot;
mod snapshot;
mod span_family;
mod stacks;
mod summary;
mod symbolize;
mod tail;
mod terminal;
mod validate;
mod wall_clock;
mod wanted;
mod why;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;
use terminal::Colour;

/// A continuous flight recorder: shows the last seconds of a service, and what went wrong in them.
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
  lookback stacks incident.lbk         where threads were, by function and line
  lookback why incident.lbk            where the time of a slow span went, all of it
  lookback report incident.lbk         a page that shows it in a browser
  lookback diff good.lbk bad.lbk       what is new, gone, slower, more often in the second
  lookback symbolize incident.lbk      a copy that has the names of functions, for another machine
  lookback validate incident.lbk       whether a snapshot is sound
  lookback export incident.lbk --format go -o trace.out   for `go tool trace`
  lookback ps                          the recorded processes
  lookback snapshot PID                the last seconds of a running or hung process
  lookback tail PID                    its events, as they are recorded
  lookback run -- COMMAND              run a service, and save its last seconds if it dies
  lookback record -o DIR -- COMMAND    record everything that it does, to disk
  lookback recover ARENA               a snapshot from the black box of a dead process
  lookback doctor PID                  is it recording, what is missing, what helps

Exit codes: 0 fine; 1 the input is bad or a check failed; 2 wrong usage; `run` exits with the code of COMMAND."
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
    Events(Box<events::Events>),
    Summary(summary::Summary),
    Stacks(stacks::Stacks),
    Why(why::Why),
    Report(report::Report),
    Diff(diff::Diff),
    Symbolize(symbolize::Symbolize),
    Validate(validate::Validate),
    Export(export::Export),
    Snapshot(snapshot::Snapshot),
    Tail(tail::Tail),
    Recover(recover::Recover),
    Run(run::Run),
    Record(run::Record),
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
    exit::conclude(match command {
        #[cfg(feature = "demo")]
        Command::Demo(demo) => demo.run(),
        Command::Info(info) => info.run(),
        Command::Events(events) => events.run(),
        Command::Summary(summary) => summary.run(),
        Command::Stacks(stacks) => stacks.run(),
        Command::Why(why) => why.run(),
        Command::Report(report) => report.run(),
        Command::Diff(diff) => diff.run(),
        Command::Symbolize(symbolize) => symbolize.run(),
        Command::Validate(validate) => validate.run(),
        Command::Export(export) => export.run(),
        Command::Snapshot(snapshot) => snapshot.run(),
        Command::Tail(tail) => tail.run(),
        Command::Recover(recover) => recover.run(),
        Command::Run(run) => run.run(),
        Command::Record(record) => record.run(),
        Command::Ps(ps) => ps.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    })
}
