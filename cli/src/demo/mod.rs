//! `lookback demo`: a real service with an incident in it, recorded.
//!
//! `server`, `shop`, `inventory` and `cache` are the service, `traffic` its clients, `prices` its fault;
//! `incident` takes the snapshot when the fault shows. `explain` reads from it what happened, and
//! `longest_poll` which task did it.

mod cache;
mod explain;
mod incident;
mod inventory;
mod longest_poll;
mod prices;
mod server;
mod shop;
mod traffic;

use crate::exit::{Verdict, open};
use crate::format::{bytes, count, counted, duration, shell_word};
use crate::info::Summary;
use crate::terminal::{bad, dim, good, name, strong};
use anyhow::Context;
use clap::Args;
use explain::Story;
use incident::Incident;
use indicatif::{ProgressBar, ProgressStyle};
use lookback::{Recorder, Stats};
use server::{Server, WORKERS};
use shop::Shop;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};
use traffic::{CLIENTS, Client, Seen, Tally};

/// Record a service with an incident in it: a small shop, over real HTTP, on a port of this machine.
///
/// It is an axum service on Tokio. After two thirds of the time one of its handlers misbehaves. The first
/// request that fails because of that saves a snapshot, and the trace shows what happened.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  lookback demo
  lookback demo --seconds 10 --out /tmp/demo
  lookback info ./lookback-demo/incident.lbk")]
pub struct Demo {
    /// Directory for the snapshot, incident.lbk; created if it does not exist
    #[arg(short, long, value_name = "DIR", default_value = "./lookback-demo")]
    out: PathBuf,
    /// How long the service runs
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

impl Demo {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let Self { out, seconds } = self;
        std::fs::create_dir_all(&out)
            .with_context(|| format!("{}: cannot create this directory", out.display()))?;
        // Fail now, not when the snapshot has nowhere to go.
        try_to_write_in(&out)
            .with_context(|| format!("{}: cannot write to this directory", out.display()))?;
        let file = out.join("incident.lbk");
        let recorder = Recorder::builder()
            .name("shop")
            .window(Duration::from_secs(10))
            .generation_period(Duration::from_millis(500))
            .max_bytes(8 << 20)
            .stall_stacks(Duration::from_millis(50))
            .start()?;
        let recorder = Arc::new(recorder);
        let subscriber = lookback::tracing::subscriber().with_max_level(tracing::Level::DEBUG);
        tracing::subscriber::set_global_default(subscriber)?;
        let server = Server::bind()?;
        let address = server.address();
        writeln!(
            io::stdout(),
            "A small shop serves on http://{address} for {},\n\
             with {WORKERS} workers of Tokio, to {CLIENTS} clients. lookback records it.",
            counted(seconds, "second"),
        )?;
        let incident = Incident::new(&recorder, &file);
        let serving = server.serve(|| Shop::open(&incident));
        let tally = shop_around(address, Duration::from_secs(seconds));
        serving.close();
        let (tally, stats) = (tally?, recorder.stats());
        incident
            .take_outcome()
            .context("nothing went wrong in the shop, so there is no snapshot; run it again")??;
        drop(incident);
        Arc::into_inner(recorder).map(Recorder::stop).transpose()?;
        let report = Report { file: &file, tally, stats };
        let mut out = BufWriter::new(io::stdout().lock());
        report.print(&mut out)?;
        out.flush()?;
        Ok(Verdict::Sound)
    }
}

/// Creates a file there, and removes it again.
fn try_to_write_in(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".lookback-{}", std::process::id()));
    std::fs::File::create(&path)?;
    std::fs::remove_file(path)
}

/// Runs the clients for this time, and returns their counts.
fn shop_around(address: SocketAddr, time: Duration) -> anyhow::Result<Tally> {
    let began = Instant::now();
    let (reload, until) = (began + time * 2 / 3, began + time);
    let clients = (0..=CLIENTS).map(|number| Client::connect(number, address));
    let clients: Vec<_> = clients.collect::<Result<_, _>>()?;
    let seen = Seen::default();
    thread::scope(|scope| {
        let seen = &seen;
        let threads: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(number, client)| {
                scope.spawn(move || match number {
                    0 => client.reload_prices(reload, seen),
                    _ => client.shop_around(until, seen),
                })
            })
            .collect();
        show_progress(time, seen, || threads.iter().all(|thread| thread.is_finished()));
        let mut tally = Tally::default();
        for thread in threads {
            tally.add(thread.join().unwrap_or_default());
        }
        Ok(tally)
    })
}

/// Shows progress, on a terminal only.
fn show_progress(time: Duration, seen: &Seen, is_over: impl Fn() -> bool) {
    let template = "  {bar:30.cyan/dim} {elapsed:>3}  {msg}";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─");
    let progress = ProgressBar::new(time.as_millis() as u64).with_style(style);
    let began = Instant::now();
    while !is_over() {
        thread::sleep(Duration::from_millis(50));
        progress.set_position(began.elapsed().min(time).as_millis() as u64);
        let failed = match seen.failed.load(Relaxed) {
            0 => String::new(),
            failed => format!(", {} failed", count(failed)),
        };
        progress.set_message(format!("{} requests{failed}", count(seen.requests.load(Relaxed))));
    }
    progress.finish_and_clear();
}

/// The report at the end.
struct Report<'a> {
    file: &'a Path,
    tally: Tally,
    stats: Stats,
}

impl Report<'_> {
    fn print(mut self, out: &mut impl Write) -> anyhow::Result<()> {
        let trace = open(self.file)?;
        let summary = Summary::of(&trace);
        title(out, "The first handler that failed has saved the last seconds")?;
        summary.print_header(out)?;
        summary.print_generations(out)?;

        title(out, "What the trace shows")?;
        match Story::of(&trace) {
            Some(story) => story.print(out)?,
            None => writeln!(out, "  No task kept its worker for long.")?,
        }

        title(out, "Meanwhile")?;
        self.print_clients(out)?;
        self.print_recorder(out)?;

        title(out, "What to try next")?;
        let program = std::env::args_os().next().map_or("lookback".into(), PathBuf::from);
        let (program, file) = (shell_word(&program).into_owned(), shell_word(self.file));
        let for_go = self.file.with_extension("trace");
        let export = format!(" --format go -o {}", shell_word(&for_go));
        for (command, options) in [
            ("summary", ""),
            ("report", ""),
            ("info", ""),
            ("events", " --last 300ms"),
            ("events", " --last 1s --kind log"),
            ("events", " --last 1s --name keep_inventory"),
            ("events", " --name fetch_prices --json"),
            ("validate", ""),
            ("export", &*export),
        ] {
            let command = name().apply_to(command);
            writeln!(out, "  {program} {command} {file}{}", dim().apply_to(options))?;
        }
        Ok(())
    }

    fn print_clients(&mut self, out: &mut impl Write) -> io::Result<()> {
        let Tally { ok, failed, other, broken, ref mut micros } = self.tally;
        micros.sort_unstable();
        let at = |part: f64| {
            let index = (micros.len() as f64 * part) as usize;
            let micros = micros.get(index.min(micros.len().saturating_sub(1)));
            duration(u64::from(micros.copied().unwrap_or_default()) * 1000)
        };
        let times =
            format!("half within {}, 99 % within {}, the longest {}", at(0.5), at(0.99), at(1.0));
        let requests = count(self.tally.requests());
        let label = dim().apply_to("clients");
        writeln!(
            out,
            "  {label:<9} {} requests: {}, {} turned down, {}{}",
            strong().apply_to(requests),
            good().apply_to(format!("{} answered", count(ok))),
            count(other),
            bad().apply_to(format!("{} failed (503)", count(failed))),
            match broken {
                0 => String::new(),
                broken => format!(", {} without an answer", count(broken)),
            },
        )?;
        writeln!(out, "  {:<9} {times}", "")
    }

    fn print_recorder(&self, out: &mut impl Write) -> io::Result<()> {
        let Stats { recorded, bytes: used, max_bytes, ref advances, ref snapshots, .. } =
            self.stats;
        let lost = match self.stats.lost_in_all() {
            0 => good().apply_to("none lost".to_owned()),
            lost => bad().apply_to(format!("{} lost", count(lost))),
        };
        let (label, recorded) = (dim().apply_to("recorder"), strong().apply_to(count(recorded)));
        let longest = |time: Duration| duration(time.as_nanos() as u64);
        writeln!(
            out,
            "  {label:<9} {recorded} events, {lost}; {} of {} in use",
            bytes(used),
            bytes(max_bytes),
        )?;
        writeln!(
            out,
            "  {:<9} {}, the longest took {}; the snapshot's copy {}",
            "",
            counted(advances.count, "advance"),
            longest(advances.longest),
            longest(snapshots.longest),
        )
    }
}

fn title(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n{}\n", strong().apply_to(text))
}
