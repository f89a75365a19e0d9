//! The counters that a recorder reads once a generation, as lines among the events.

use crate::format::{bytes, count, duration, seconds};
use crate::terminal::{dim, name, strong};
use crate::wanted::Wanted;
use lookback::Trace;
use lookback::read::wire::Generation;
use lookback::read::{CounterUnit, SystemReading};
use std::io::{self, Write};

/// The kinds of their records, which `--kind` takes, too.
pub const KINDS: [&str; 2] = ["system_counters", "runtime_counters"];

/// The counters of generations that have not been printed.
pub struct CounterLines<'a> {
    trace: &'a Trace,
    next: usize,
    json: bool,
}

impl<'a> CounterLines<'a> {
    pub fn new(trace: &'a Trace, json: bool) -> Self {
        Self { trace, next: 0, json }
    }

    /// Those of the generations before this one, or of all, as far as they are wanted, at most `left`. Times are since `first`.
    pub fn before(
        &mut self,
        generation: Option<Generation>,
        (first, left): (u64, &mut u64),
        wanted: &mut Wanted<'_>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let all = self.trace.generations();
        while let Some(info) = all.get(self.next) {
            if generation.is_some_and(|generation| info.number >= generation) {
                break;
            }
            self.next += 1;
            let Ok(decoded) = self.trace.generation(info.number) else { continue };
            let ended = info.start.0.saturating_add(info.duration.0);
            let machine = decoded.system_counters().iter().map(|reading| (None, reading));
            let runtimes =
                decoded.runtime_counters().iter().map(|of| (Some(of.runtime), &of.reading));
            for (runtime, reading) in machine.chain(runtimes) {
                let kind = KINDS[usize::from(runtime.is_some())];
                if !wanted.includes_counter(kind, reading.counter.name(), info.number, ended) {
                    continue;
                }
                if *left == 0 {
                    return Ok(());
                }
                *left -= 1;
                let since = ended.saturating_sub(first);
                if self.json {
                    print_json(reading, runtime, (since, info.number), out)?;
                } else {
                    print_line(reading, runtime, since, out)?;
                }
            }
        }
        Ok(())
    }
}

fn print_line(
    reading: &SystemReading,
    runtime: Option<u64>,
    since: u64,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let counter = reading.counter;
    let of = runtime.map_or("machine".to_owned(), |runtime| format!("r{runtime}"));
    let value = match counter.unit() {
        CounterUnit::Bytes => bytes(reading.value),
        CounterUnit::Nanos => duration(reading.value),
        _ => count(reading.value),
    };
    let within = match counter.is_increase() {
        true => format!(" within {}", duration(reading.time.0)),
        false => String::new(),
    };
    let plus = if counter.is_increase() { "+" } else { "" };
    writeln!(
        out,
        "{:>11}  {:<10}  {:<12}  {}  {plus}{value}{}",
        dim().apply_to(seconds(since)),
        name().apply_to(of),
        dim().apply_to("counter"),
        strong().apply_to(counter.name()),
        dim().apply_to(within),
    )
}

fn print_json(
    reading: &SystemReading,
    runtime: Option<u64>,
    (since, generation): (u64, Generation),
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let counter = reading.counter;
    let mut fields = serde_json::json!({
        "value": reading.value,
        "unit": counter.unit().name(),
        "increase": counter.is_increase(),
        "time_ns": reading.time.0,
    });
    if let Some(runtime) = runtime {
        fields["runtime"] = format!("r{runtime}").into();
    }
    let line = serde_json::json!({
        "t": since,
        "generation": generation.0,
        "thread": null,
        "thread_name": null,
        "os_thread": null,
        "kind": KINDS[usize::from(runtime.is_some())],
        "name": counter.name(),
        "fields": fields,
    });
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
