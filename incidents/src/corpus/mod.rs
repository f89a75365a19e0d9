//! All incidents, a file for each service.

mod bore;
mod hidden;
mod mqtt;
mod redis;
mod shelf;

use crate::incident::Incident;
use crate::load;
use crate::services::Service;
use std::net::TcpStream;
use std::time::Duration;

/// Every incident.
pub fn all() -> impl Iterator<Item = &'static Incident> {
    let open = redis::INCIDENTS.iter().chain(bore::INCIDENTS).chain(shelf::INCIDENTS);
    open.chain(mqtt::INCIDENTS).chain(hidden::incidents())
}

/// Every service.
pub fn services() -> Vec<&'static Service> {
    let mut services = vec![&redis::SERVICE, &bore::SERVER, &shelf::SERVICE, &mqtt::SERVICE];
    services.extend(hidden::SERVICES);
    services
}

/// The other services that a service calls.
pub struct Surroundings {
    /// The variables with their addresses.
    pub env: Vec<(&'static str, String)>,
    /// What keeps one of them deaf.
    pub queued: Vec<TcpStream>,
}

impl Surroundings {
    /// Starts them. The one with the covers answers soon, or slowly (`SLOW`), or does not accept (`DEAF`).
    pub fn start(covers: Option<&str>) -> anyhow::Result<Self> {
        let journal = load::slow_service(Duration::from_millis(300))?;
        let (covers, queued) = match covers {
            Some("DEAF") => load::deaf_service()?,
            Some("SLOW") => (load::slow_service(Duration::from_secs(3))?, Vec::new()),
            _ => (load::slow_service(Duration::from_millis(2))?, Vec::new()),
        };
        let env = vec![("JOURNAL", journal.to_string()), ("COVERS", covers.to_string())];
        Ok(Self { env, queued })
    }
}
