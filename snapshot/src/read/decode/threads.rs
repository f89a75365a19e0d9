//! The threads that a generation mentions.

use super::bytes::Fault;
use super::definitions::Definitions;
use crate::wire::ThreadNumber;
use std::collections::HashMap;

/// A thread of the recorded process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thread {
    /// The recorder's number of the thread, never reused.
    pub number: ThreadNumber,
    /// The operating system's ID of the thread; 0 if unknown.
    pub os_thread: u64,
    /// Its name, empty if it has none.
    pub name: Box<str>,
}

/// No thread.
pub(crate) const NO_THREAD: u32 = u32::MAX;

/// The threads of a generation, in the order in which they were met, and by number.
#[derive(Default)]
pub(crate) struct Threads {
    list: Vec<Thread>,
    by_number: HashMap<u64, u32>,
}

impl Threads {
    /// Adds a thread, or new facts about it. Number 0 is no thread.
    pub(crate) fn add(&mut self, thread: Thread, tables: &mut Definitions) -> Result<(), Fault> {
        let number = thread.number.0;
        if number == 0 {
            return Ok(());
        }
        if let Some(index) = self.by_number.get(&number) {
            let known = &mut self.list[*index as usize];
            if known.os_thread == 0 || (known.name.is_empty() && !thread.name.is_empty()) {
                *known = thread;
            }
            return Ok(());
        }
        tables.charge(size_of::<Thread>() + thread.name.len() + 32)?;
        self.by_number.insert(number, self.list.len() as u32);
        self.list.push(thread);
        Ok(())
    }

    /// Sets the thread's name.
    pub(crate) fn call(
        &mut self,
        number: ThreadNumber,
        name: Box<str>,
        tables: &mut Definitions,
    ) -> Result<(), Fault> {
        tables.charge(name.len())?;
        match self.by_number.get(&number.0) {
            Some(index) => self.list[*index as usize].name = name,
            None => self.add(Thread { number, os_thread: 0, name }, tables)?,
        }
        Ok(())
    }

    pub(crate) fn index(&self, number: ThreadNumber) -> u32 {
        self.by_number.get(&number.0).copied().unwrap_or(NO_THREAD)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Thread> {
        self.list.get(index as usize)
    }

    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }
}
