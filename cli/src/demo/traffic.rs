//! Real clients of the shop: they keep their connections, and pause between requests.

use super::inventory::ITEMS;
use anyhow::Context;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};
use ureq::Agent;

/// How many clients there are.
pub const CLIENTS: u32 = 8;

/// What the clients have seen so far.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicU64,
    pub failed: AtomicU64,
    /// The prices were reloaded, so the fault is over.
    reloaded: AtomicBool,
}

/// What one client saw, or all of them.
#[derive(Default)]
pub struct Tally {
    pub ok: u64,
    /// 503: the shop could not answer.
    pub failed: u64,
    /// Other answers than 200 and 503.
    pub other: u64,
    /// No answer at all.
    pub broken: u64,
    /// How long the answers took, in microseconds.
    pub micros: Vec<u32>,
}

impl Tally {
    /// Sends a request, and counts its outcome and its duration.
    fn note(&mut self, ask: impl FnOnce() -> Option<u16>) -> Option<u16> {
        let began = Instant::now();
        let status = ask();
        self.micros.push(began.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
        match status {
            Some(200) => self.ok += 1,
            Some(503) => self.failed += 1,
            Some(_) => self.other += 1,
            None => self.broken += 1,
        }
        status
    }

    /// Adds another client's counts.
    pub fn add(&mut self, mut other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.other += other.other;
        self.broken += other.broken;
        self.micros.append(&mut other.micros);
    }

    /// The number of requests.
    pub fn requests(&self) -> u64 {
        self.ok + self.failed + self.other + self.broken
    }
}

/// One client, connected.
pub struct Client {
    agent: Agent,
    number: u32,
    address: SocketAddr,
}

impl Client {
    /// Connects, and sends a first request.
    pub fn connect(number: u32, address: SocketAddr) -> anyhow::Result<Self> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // The shop is on this machine, so proxies of the environment do not apply.
            .proxy(None)
            .max_idle_age(Duration::from_secs(3600))
            .timeout_global(Some(Duration::from_secs(10)))
            .build();
        let client = Self { agent: config.new_agent(), number, address };
        client.ask("/items/1", false).context("the shop does not answer")?;
        Ok(client)
    }

    /// Shops until the end, and then until the prices were reloaded.
    pub fn shop_around(&self, until: Instant, seen: &Seen) -> Tally {
        let mut dice = Dice::new(u64::from(self.number) + 1);
        let mut tally = Tally::default();
        let number = self.number;
        while Instant::now() < until || !seen.reloaded.load(Relaxed) {
            let item = 1 + dice.below(ITEMS).min(dice.below(ITEMS));
            let (page, posts) = match dice.below(20) {
                0..15 => (format!("/items/{item}"), false),
                15..18 => (format!("/carts/{number}/items/{item}"), true),
                18 => (format!("/carts/{number}/checkout"), true),
                _ => ("/items/0".to_owned(), false),
            };
            let status = tally.note(|| self.ask(&page, posts));
            seen.requests.fetch_add(1, Relaxed);
            if !matches!(status, Some(200..500)) {
                seen.failed.fetch_add(1, Relaxed);
                sleep(Duration::from_millis(20));
            }
            sleep(Duration::from_micros(500 + u64::from(dice.below(3000))));
        }
        tally
    }

    /// The scheduled job that reloads the prices in the middle of the day.
    pub fn reload_prices(&self, at: Instant, seen: &Seen) -> Tally {
        sleep(at.saturating_duration_since(Instant::now()));
        let mut tally = Tally::default();
        tally.note(|| self.ask("/prices/reload", true));
        seen.reloaded.store(true, Relaxed);
        tally
    }

    /// Sends a request. The answer is read to its end, so that the connection can be used again.
    fn ask(&self, page: &str, posts: bool) -> Option<u16> {
        let url = format!("http://{}{page}", self.address);
        let (agent, url) = (&self.agent, url.as_str());
        let answer = if posts { agent.post(url).send_empty() } else { agent.get(url).call() };
        let mut answer = answer.ok()?;
        answer.body_mut().read_to_string().ok()?;
        Some(answer.status().as_u16())
    }
}

/// Pseudo-random numbers (xorshift), the same in each run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_stay_below_their_bound_and_reach_all_of_it() {
        let mut dice = Dice::new(1);
        let mut seen = [false; 20];
        for _ in 0..10_000 {
            seen[dice.below(20) as usize] = true;
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
