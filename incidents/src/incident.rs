//! What an incident is: a service, what is done to it, how its snapshot is taken, and what is true.

use crate::scene::Scene;
use crate::services::Service;

/// An incident whose cause is known, or a service that has none.
pub struct Incident {
    /// Its name, as `--only` takes it.
    pub name: &'static str,
    /// The service that it happens in.
    pub service: &'static Service,
    /// Which of the service's faults is on; empty if the service is as its authors wrote it.
    pub fault: &'static str,
    /// What else is set in the service's environment.
    pub env: &'static [(&'static str, &'static str)],
    /// Who takes the snapshot.
    pub capture: Capture,
    /// The load, up to the moment at which a user would look.
    pub load: fn(&mut Scene) -> anyhow::Result<()>,
    /// What happened. It was written down before anybody looked at what a summary says.
    pub truth: Truth,
}

/// How a user comes to a snapshot.
#[derive(Clone, Copy, PartialEq)]
pub enum Capture {
    /// A trigger saves it while the load runs.
    Trigger,
    /// `lookback snapshot PID`, when the load is over.
    Outside,
    /// `lookback run` saves it, because the load killed the service.
    Run,
}

/// What is true of an incident.
pub struct Truth {
    /// What happened, as a person would tell it.
    pub story: &'static str,
    /// What the first finding has to name. Of each group one name is enough; without groups, nothing is wrong.
    pub names: &'static [&'static [Name]],
    /// What it must not say, because it is not so.
    pub never: &'static [&'static str],
}

/// What a finding can name.
#[derive(Clone, Copy)]
pub enum Name {
    /// The line of this file of the service that contains this text.
    Line(&'static str, &'static str),
    /// These words.
    Words(&'static str),
}
