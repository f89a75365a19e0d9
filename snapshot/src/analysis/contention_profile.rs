//! Where threads and tasks waited for locks: equal stacks added up.

use super::frame_numbers::{StackNumber, StackNumbers};
use crate::format::{count, counted, duration};
use crate::read::{Event, EventKind, OwnedFrame, ReadError, Stack, StackSource, Trace};
use crate::wire::Nanos;

/// See [`ContentionProfile::of`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ContentionProfile {
    /// The stacks, those that waited longest first, once [`sort`](Self::sort) was called.
    pub stacks: Vec<ContendedStack>,
    /// How many waits were read, and how long they were together.
    pub waits: u64,
    /// Their sum.
    pub waited: Nanos,
    /// How many of them, and of which length together, are not among the stacks.
    pub left_out: (u64, Nanos),
    /// When the first of them began, and when the last ended.
    pub span: Option<(Nanos, Nanos)>,
    numbers: StackNumbers,
}

/// The waits at one stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContendedStack {
    /// Indices among [`ContentionProfile::frames`], innermost first. None if the stack is unknown: then `source` says why.
    pub frames: Vec<u32>,
    /// How the stack was obtained, or why there is none.
    pub source: Option<StackSource>,
    /// How many there were.
    pub waits: u64,
    /// How long they were, together.
    pub waited: Nanos,
}

impl ContentionProfile {
    /// The profile of a whole snapshot: of the waits that have ended. `noted` is told what cannot be read.
    ///
    /// ```
    /// # fn print(trace: &lookback_snapshot::Trace) {
    /// use lookback_snapshot::analysis::ContentionProfile;
    /// let profile = ContentionProfile::of(trace, |error| eprintln!("{error}"));
    /// for stack in profile.stacks.iter().take(10) {
    ///     println!("{} waits, {} ns", stack.waits, stack.waited);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn of(trace: &Trace, mut noted: impl FnMut(ReadError)) -> Self {
        let mut profile = Self::default();
        let mut events = trace.events();
        while let Some(next) = events.lend() {
            match next {
                Ok(lent) => profile.add(lent.event),
                Err(error) => noted(error),
            }
        }
        profile.sort();
        profile
    }

    /// The different frames, to which the stacks refer.
    #[must_use]
    pub fn frames(&self) -> &[OwnedFrame] {
        self.numbers.frames()
    }

    /// How many of the waits have no stack, and how long those were together.
    #[must_use]
    pub fn without_stack(&self) -> (u64, Nanos) {
        let without = self.stacks.iter().filter(|stack| stack.frames.is_empty());
        without.fold(self.left_out, |(waits, sum), stack| {
            (waits + stack.waits, Nanos(sum.0.saturating_add(stack.waited.0)))
        })
    }

    /// How many waits there are, and of how many the stack is known.
    #[must_use]
    pub fn in_words(&self) -> String {
        let (waits, waited) = self.without_stack();
        let all =
            format!("{} for locks, {} in all", counted(self.waits, "wait"), duration(self.waited));
        if waits == 0 {
            return format!("{all}, all with their stacks");
        }
        let share = 100.0 * waits as f64 / self.waits.max(1) as f64;
        format!(
            "{all}; {} of them ({share:.1} %), {} in all, have no stack: what is known of the others may hold for them",
            count(waits),
            duration(waited)
        )
    }

    /// Adds an event, if it is a wait that has ended.
    pub fn add(&mut self, event: &Event) {
        let EventKind::Contention { waited, .. } = event.kind() else { return };
        let (until, more) = (event.measured(), |sum: Nanos| Nanos(sum.0.saturating_add(waited.0)));
        let began = Nanos(until.0.saturating_sub(waited.0));
        self.span = Some(match self.span {
            Some((first, last)) => (first.min(began), last.max(until)),
            None => (began, until),
        });
        self.waits += 1;
        self.waited = more(self.waited);
        let source = event.stack_source();
        match self.stack(event.stack(), source) {
            Some(stack) => {
                stack.waits += 1;
                stack.waited = more(stack.waited);
            }
            None => {
                let (waits, sum) = self.left_out;
                self.left_out = (waits + 1, more(sum));
            }
        }
    }

    /// Puts the stacks that waited longest first. No event may be added after that.
    pub fn sort(&mut self) {
        self.numbers.close();
        self.stacks.sort_by(|a, b| b.waited.cmp(&a.waited).then(a.frames.cmp(&b.frames)));
    }

    /// The place of a stack; `None` if there are too many.
    fn stack(
        &mut self,
        stack: Option<Stack<'_>>,
        source: Option<StackSource>,
    ) -> Option<&mut ContendedStack> {
        match self.numbers.number(stack, source)? {
            StackNumber::Known(at) => self.stacks.get_mut(at),
            StackNumber::New(frames) => {
                self.stacks.push(ContendedStack { frames, source, ..ContendedStack::default() });
                self.stacks.last_mut()
            }
        }
    }
}
