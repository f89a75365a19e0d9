//! The hidden half: incidents whose authors did not know the analyses, and to which no analysis is fitted.

mod files;
mod socks;
mod tunnel;

use crate::incident::Incident;
use crate::services::Service;
use std::thread;
use std::time::Duration;

/// Its services.
pub const SERVICES: [&Service; 3] = [&tunnel::SERVICE, &files::SERVICE, &socks::SERVICE];

/// Its incidents.
pub fn incidents() -> impl Iterator<Item = &'static Incident> {
    tunnel::INCIDENTS.iter().chain(files::INCIDENTS).chain(socks::INCIDENTS)
}

const MS: Duration = Duration::from_millis(1);

fn wait(seconds: f64) -> anyhow::Result<()> {
    thread::sleep(Duration::from_secs_f64(seconds));
    Ok(())
}
