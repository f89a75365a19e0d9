//! Helpers for tests of await chains: what a snapshot says of where tasks wait, by function and line.

use lookback::Snapshot;
use lookback::read::symbols::Symbolizer;
use lookback::read::{StackEnd, Trace, WaitingTask};
use std::collections::BTreeMap;

/// One await chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// The functions of the test, the innermost first, each with the line that it is at.
    pub own: Vec<(String, u32)>,
    /// All functions.
    pub all: Vec<String>,
    /// Whether the waker was registered in an earlier poll.
    pub is_earlier: bool,
}

impl Chain {
    /// The line at which the test's own code waits.
    pub fn line(&self) -> Option<u32> {
        Some(self.own.first()?.1)
    }
}

/// Where the tasks wait at the end of the last complete generation, by name: of each task the chains.
pub fn chains(trace: &Trace, file: &str) -> BTreeMap<String, Vec<Vec<Chain>>> {
    let mut symbolizer = Symbolizer::new();
    let mut found = BTreeMap::<String, Vec<_>>::new();
    let last = trace.generations().iter().rev().find(|info| info.complete).expect("there is one");
    let generation = trace.generation(last.number).expect("it reads");
    for task in generation.waiting() {
        let chains = of_task(&task, file, &mut symbolizer);
        found.entry(task.site.name.to_owned()).or_default().push(chains);
    }
    found
}

/// As [`chains`], of a snapshot that is taken now.
pub fn now(snapshot: &Snapshot, file: &str) -> BTreeMap<String, Vec<Vec<Chain>>> {
    let trace = super::read(snapshot);
    super::assert_sound(&trace);
    chains(&trace, file)
}

fn of_task(task: &WaitingTask<'_>, file: &str, symbolizer: &mut Symbolizer) -> Vec<Chain> {
    let mut chains = Vec::new();
    for place in task.places() {
        let stack = place.stack.expect("it is defined");
        assert_eq!(stack.end(), Some(StackEnd::Poll), "{stack:?}");
        let located: Vec<_> =
            stack.frames().flat_map(|frame| symbolizer.locations(&frame)).collect();
        let own = located.iter().filter_map(|it| {
            let (path, line) = it.place.as_ref().filter(|(path, _)| path.ends_with(file))?;
            let _ = path;
            Some((it.function.to_string(), *line))
        });
        let all = located.iter().map(|it| it.function.whole().to_owned());
        let (own, all) = (own.collect(), all.collect());
        chains.push(Chain { own, all, is_earlier: place.is_earlier });
    }
    chains
}
