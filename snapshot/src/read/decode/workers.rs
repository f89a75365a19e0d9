//! The workers that a generation mentions.

use std::collections::{HashMap, HashSet};
use std::fmt;

/// A worker of a runtime of the recorded process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// The runtime, numbered by the recorder.
    pub runtime: u64,
    /// The worker, numbered by its runtime.
    pub worker: u64,
}

/// `r0/w3`: runtime 0, worker 3.
impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("r{}/w{}", self.runtime, self.worker))
    }
}

/// The workers that a generation mentions. An event has an index into them.
#[derive(Default)]
pub(crate) struct Workers {
    list: Vec<(WorkerId, Box<str>)>,
    /// The ones with names of their own.
    named: HashSet<WorkerId>,
    by_id: HashMap<WorkerId, u16>,
}

/// No worker.
pub(crate) const NO_WORKER: u16 = u16::MAX;

impl Workers {
    pub(crate) fn add(&mut self, id: WorkerId) -> u16 {
        if let Some(index) = self.by_id.get(&id) {
            return *index;
        }
        let index = self.list.len() as u16;
        if index < NO_WORKER {
            self.list.push((id, id.to_string().into()));
            self.by_id.insert(id, index);
        }
        index
    }

    /// Sets the worker's name, unless it has one already.
    pub(crate) fn call(&mut self, id: WorkerId, name: &str) {
        let index = self.add(id);
        if let Some((_, called)) = self.list.get_mut(usize::from(index))
            && !name.is_empty()
            && self.named.insert(id)
        {
            *called = name.into();
        }
    }

    /// The name that the worker was given.
    pub(crate) fn given_name(&self, id: WorkerId) -> Option<&str> {
        self.named.contains(&id).then(|| self.name(self.index(id)))
    }

    /// The workers that were given names, with their names.
    pub(crate) fn given_names(&self) -> impl Iterator<Item = (WorkerId, &str)> {
        self.named.iter().map(|id| (*id, self.name(self.index(*id))))
    }

    pub(crate) fn index(&self, id: WorkerId) -> u16 {
        self.by_id.get(&id).copied().unwrap_or(NO_WORKER)
    }

    pub(crate) fn get(&self, index: u16) -> Option<WorkerId> {
        self.list.get(usize::from(index)).map(|(id, _)| *id)
    }

    /// The worker's label.
    pub(crate) fn name(&self, index: u16) -> &str {
        self.list.get(usize::from(index)).map_or("?", |(_, name)| name)
    }

    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }
}
