//! A made-up service whose truth is known: what happens at which rate and takes how long. A run of it is a snapshot.

use crate::random::Random;
use lookback_snapshot::Trace;
use lookback_snapshot::text::from_text;
use std::fmt::Write;

/// What a service does. Two runs of it differ by chance alone.
#[derive(Clone, Debug)]
pub struct Service {
    pub program: &'static str,
    pub build: u8,
    /// When it begins, in seconds.
    pub began: usize,
    pub seconds: usize,
    /// How many come at once, on average; 1 if all events are independent.
    pub cluster: f64,
    pub spans: Vec<Spans>,
    pub logs: Vec<Logs>,
    /// Counters that go up and down, by their mean.
    pub gauges: Vec<f64>,
    /// Counters that only rise, by how much a second.
    pub totals: Vec<f64>,
    /// How many tasks wait at each place.
    pub waiting: Vec<usize>,
    /// CPU seconds a second of each function.
    pub cpu: Vec<f64>,
    /// Samples of allocations a second of each function.
    pub allocations: Vec<f64>,
    /// Waits for each lock a second, and their mean in ms.
    pub locks: Vec<(f64, f64)>,
    /// Spawns a second of each kind of task, and the mean length of its only poll in ms.
    pub tasks: Vec<(f64, f64)>,
    /// Events that were lost in each generation.
    pub lost: u64,
    pub has_samples: bool,
}

#[derive(Clone, Debug)]
pub struct Spans {
    pub name: String,
    pub per_second: f64,
    /// In ms.
    pub median: f64,
    pub sigma: f64,
    pub failing: f64,
}

#[derive(Clone, Debug)]
pub struct Logs {
    /// 5 is an error.
    pub level: u8,
    pub message: String,
    pub per_second: f64,
}

/// Nothing is known of who holds a lock.
const NOT_HELD: &str = "waiters=1 holder=0 holder_os_thread=0 holder_task=0 holder_incarnation=0 holder_site=0 held=0 \
    flags=0";
const HERTZ: f64 = 100.0;

impl Service {
    /// Any service; the same seed, the same service.
    pub fn any(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let spans = (0..12).map(|at| Spans {
            name: format!(
                "span {}",
                ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"][at]
            ),
            per_second: random.log_uniform(1.0, 100.0),
            median: random.log_uniform(0.2, 30.0),
            sigma: 0.3 + random.uniform(),
            failing: if at % 4 == 0 { random.uniform() / 5.0 } else { 0.0 },
        });
        let spans = spans.collect();
        let logs = (0..10).map(|at| Logs {
            level: [3, 3, 3, 4, 5][at % 5],
            message: format!(
                "message {}",
                ["of", "to", "at", "in", "by", "on", "up", "or", "as", "is"][at]
            ),
            per_second: random.log_uniform(0.05, 30.0),
        });
        let logs = logs.collect();
        let mut some = |many: usize, least, most| {
            (0..many).map(|_| random.log_uniform(least, most)).collect::<Vec<f64>>()
        };
        Self {
            program: "shop",
            build: 1,
            began: 1,
            seconds: 10,
            cluster: 1.0,
            spans,
            logs,
            gauges: some(4, 1.0, 1000.0),
            totals: some(2, 200.0, 2000.0),
            waiting: some(6, 1.0, 60.0).into_iter().map(|many| many as usize).collect(),
            cpu: some(12, 0.01, 0.4),
            allocations: some(8, 1.0, 40.0),
            locks: some(3, 1.0, 50.0).into_iter().zip([0.2, 1.0, 5.0]).collect(),
            tasks: some(4, 1.0, 60.0).into_iter().zip([0.05, 0.5, 2.0, 8.0]).collect(),
            lost: 0,
            has_samples: true,
        }
    }

    /// One run.
    pub fn run(&self, seed: u64) -> Trace {
        Trace::from_bytes(from_text(&self.text(seed)).unwrap()).unwrap()
    }

    /// One run as text.
    pub fn text(&self, seed: u64) -> String {
        let random = &mut Random::new(seed ^ 0xabcd_ef01);
        let mut events = self.events(random);
        events.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut text = format!(
            "metadata \"process.name\" \"{}\"\nmetadata \"process.pid\" {}\n",
            self.program,
            100 + seed
        );
        write!(
            text,
            "metadata \"process.build_id\" \"{:02x}\"\nmetadata \"lock_waits_ns\" 1\n",
            self.build
        )
        .unwrap();
        writeln!(text, "metadata \"host.boot_id\" \"run {seed}\"").unwrap();
        if self.has_samples {
            writeln!(text, "metadata \"cpu_samples_hz\" {HERTZ}").unwrap();
        }
        let mut events = events.into_iter().peekable();
        for second in 0..self.seconds {
            self.head(second, random, &mut text);
            let here = std::iter::from_fn(|| events.next_if(|(at, _)| *at < (second + 1) as f64));
            for (at, event) in here.collect::<Vec<_>>() {
                let at = ((at - second as f64) * 1e9) as u64;
                writeln!(text, "  @{} {event}", at.max(1)).unwrap();
            }
        }
        text
    }

    /// A generation's begin: its tables, and the tasks that wait.
    fn head(&self, second: usize, random: &mut Random, text: &mut String) {
        let clock = |second: usize| {
            format!("{0}:{0}:{0}:1000000000", (self.began + second) as u64 * 1_000_000_000)
        };
        let number = second + 1;
        let (began, ended) = (clock(second), clock(second + 1));
        writeln!(text, "generation {number} complete began={began} ended={ended}").unwrap();
        writeln!(text, "block slot=0 sequence=0 thread=0 base=0 first_event=0").unwrap();
        self.tables(text);
        let (mut waiting, mut at) = (String::new(), 1000);
        for (place, many) in self.waiting.iter().enumerate() {
            // A few come and go.
            let here = (*many as f64 + random.normal() * (*many as f64).sqrt() / 3.0)
                .round()
                .max(0.0) as usize;
            for _ in 0..here {
                writeln!(
                    text,
                    "  task_status task={at} incarnation=1 sequence=2 state=1 site={}",
                    400 + place
                )
                .unwrap();
                let comma = if waiting.is_empty() { "" } else { ", " };
                write!(waiting, "{comma}{at}.1 at [{}]", 500 + place).unwrap();
                at += 1;
            }
        }
        if !waiting.is_empty() {
            writeln!(text, "  task_stack_list tasks=[{waiting}]").unwrap();
        }
        let lost = if self.lost > 0 { format!("1:{}", self.lost) } else { String::new() };
        writeln!(
            text,
            "  end events=0 bytes=0 blocks=2 lost=[{lost}] advances=[] waits=[] snapshots=[]"
        )
        .unwrap();
        writeln!(text, "block slot=1 sequence=0 thread=1 base=0 first_event=0").unwrap();
        match second {
            0 => writeln!(text, "  @0 thread_start thread=1 os_thread=7 name=\"main\"").unwrap(),
            _ => writeln!(text, "  thread_status thread=1 os_thread=7 name=\"main\"").unwrap(),
        }
    }

    fn tables(&self, text: &mut String) {
        for (at, of) in self.spans.iter().enumerate() {
            let id = 100 + at;
            writeln!(
                text,
                "  callsite id={id} name=\"{}\" file=\"a.rs\" line={id} target=\"t\" level=3 fields=[\"error\"]",
                of.name
            )
            .unwrap();
        }
        for at in 0..self.logs.len() {
            writeln!(text, "  site id={} name=\"shop::part{at}\" file=\"b.rs\" line=1", 200 + at)
                .unwrap();
        }
        for at in 0..self.gauges.len() + self.totals.len() {
            writeln!(text, "  site id={} name=\"counter {at}\" file=\"c.rs\" line=1", 300 + at)
                .unwrap();
        }
        for at in 0..self.waiting.len() + self.tasks.len() {
            writeln!(
                text,
                "  site id={} name=\"task {at} (d.rs:{at})\" file=\"d.rs\" line=1",
                400 + at
            )
            .unwrap();
        }
        for at in 0..self.locks.len() {
            writeln!(text, "  site id={} name=\"lock\" file=\"e.rs\" line={}", 450 + at, at + 1)
                .unwrap();
        }
        writeln!(text, "  module id=600 path=\"/srv/shop\" build_id=0x{:02x}", self.build).unwrap();
        writeln!(text, "  frame id=601 caller=0 module=0 offset=0").unwrap();
        // A main function, around all others.
        writeln!(text, "  frame id=602 caller=601 module=600 offset=2").unwrap();
        let many = self.waiting.len().max(self.cpu.len()).max(self.allocations.len());
        for at in 0..many {
            writeln!(
                text,
                "  frame id={} caller=602 module=600 offset={}",
                500 + at,
                2 * (at + 50)
            )
            .unwrap();
        }
    }

    fn events(&self, random: &mut Random) -> Vec<(f64, String)> {
        let seconds = self.seconds as f64;
        let mut events = Vec::new();
        let mut number = 0;
        for (at, of) in self.spans.iter().enumerate() {
            for began in random.arrivals(of.per_second, seconds, self.cluster) {
                number += 1;
                let long = of.median / 1e3 * (of.sigma * random.normal()).exp();
                let fields = if random.uniform() < of.failing { "{0: !\"no\"}" } else { "{}" };
                events.push((
                    began,
                    format!(
                        "span_create span={number} incarnation=1 site={} fields={fields}",
                        100 + at
                    ),
                ));
                events.push((began + long, format!("span_close span={number} incarnation=1")));
            }
        }
        for (at, of) in self.logs.iter().enumerate() {
            for when in random.arrivals(of.per_second, seconds, self.cluster) {
                let id = random.below(100_000);
                events.push((
                    when,
                    format!(
                        "log level={} site={} message=\"{} {id}\"",
                        of.level,
                        200 + at,
                        of.message
                    ),
                ));
            }
        }
        for (at, mean) in self.gauges.iter().enumerate() {
            for when in random.arrivals(20.0, seconds, 1.0) {
                let value = (mean * (1.0 + 0.2 * random.normal())).max(0.0);
                events.push((when, format!("counter#24 site={} value=f{value:.6}", 300 + at)));
            }
        }
        for (at, per_second) in self.totals.iter().enumerate() {
            let mut sum = 1000 * random.below(1000);
            for when in random.arrivals(80.0, seconds, 1.0) {
                sum += random.exponential(per_second / 20.0) as usize;
                events.push((
                    when,
                    format!("counter site={} value={sum}", 300 + self.gauges.len() + at),
                ));
            }
        }
        for (at, (per_second, mean)) in self.locks.iter().enumerate() {
            for when in random.arrivals(*per_second, seconds, self.cluster) {
                let waited = (random.exponential(*mean) * 1e6) as u64;
                let lock = format!("stack=0 source=1 site={} lock={at} kind=1", 450 + at);
                events.push((when, format!("contention {lock} waited={waited} {NOT_HELD}")));
            }
        }
        let mut task = 100_000;
        for (at, (per_second, mean)) in self.tasks.iter().enumerate() {
            for when in random.arrivals(*per_second, seconds, self.cluster) {
                task += 1;
                let site = 400 + self.waiting.len() + at;
                // One thread polls one task after the other.
                let poll = random.exponential(*mean) / 1e3;
                events.push((
                    when,
                    format!("task_create task={task} incarnation=1 sequence=2 site={site}"),
                ));
                events.push((
                    when + 1e-8,
                    format!("task_poll task={task} sequence=3\n  @+{poll} task_ready"),
                ));
            }
        }
        if self.has_samples {
            for (at, share) in self.cpu.iter().enumerate() {
                for when in random.arrivals(share * HERTZ, seconds, self.cluster) {
                    events.push((
                        when,
                        format!("cpu_sample thread=1 stack={} source=1 weight=1 ago=0", 500 + at),
                    ));
                }
            }
            for (at, per_second) in self.allocations.iter().enumerate() {
                for when in random.arrivals(*per_second, seconds, self.cluster) {
                    let stack = 500 + at;
                    events.push((
                        when,
                        format!(
                            "allocation_sample stack={stack} source=1 size=1024 interval=524288"
                        ),
                    ));
                }
            }
        }
        one_poll_at_a_time(&mut events, seconds);
        events.retain(|(at, _)| *at < seconds);
        events
    }
}

/// Gives each poll its place on the thread.
fn one_poll_at_a_time(events: &mut Vec<(f64, String)>, seconds: f64) {
    let (mut polls, rest): (Vec<_>, Vec<_>) =
        std::mem::take(events).into_iter().partition(|(_, text)| text.contains("\n  @+"));
    polls.sort_by(|a, b| a.0.total_cmp(&b.0));
    *events = rest;
    let mut free = 0.0_f64;
    for (at, text) in polls {
        let (poll, ready) = text.split_once("\n  @+").unwrap();
        let (long, ready) = ready.split_once(' ').unwrap();
        let began = at.max(free + 1e-7);
        free = began + long.parse::<f64>().unwrap();
        // No poll is open at the end.
        if free < seconds {
            events.push((began, poll.to_owned()));
            events.push((free, ready.to_owned()));
        }
    }
}
