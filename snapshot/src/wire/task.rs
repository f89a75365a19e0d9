//! Statuses of tasks: their states, and the list of tasks that no event mentioned.

use super::varint::{get_varint, put_varint};

/// The state of a task. The code in a status is this, plus 4 if it was woken for its next poll before the
/// generation began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TaskState {
    /// It waits to be polled again.
    Idle = 1,
    /// It is being polled.
    Running = 2,
}

/// The bit of a status for a task that was woken.
pub const TASK_WOKEN: u64 = 4;

/// The name of a task that is recorded only by its runtime's hooks: its future's type is unknown, and so are
/// its wakers.
pub const HOOKED_TASK: &str = "(task)";

impl TaskState {
    /// The state of a status's code, and whether the task was woken. `None` if there is none.
    #[must_use]
    pub const fn from_code(code: u64) -> Option<(Self, bool)> {
        let state = match code & 3 {
            1 => Self::Idle,
            2 => Self::Running,
            _ => return None,
        };
        if code > 7 { None } else { Some((state, code & TASK_WOKEN != 0)) }
    }

    /// The code in a status.
    #[must_use]
    pub const fn code(self, woken: bool) -> u64 {
        self as u64 | if woken { TASK_WOKEN } else { 0 }
    }

    /// Its name, such as `idle`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
        }
    }
}

/// One task of a `task_list`. Tasks are in the order of their indexes. Each begins with a varint:
///
/// | bits | meaning |
/// |---|---|
/// | 0 | it is running |
/// | 1 | it was woken |
/// | 2 | its site is that of the previous task in the list; otherwise the site's id follows (a varint) |
/// | 3 | its incarnation is that of the previous task; otherwise it follows, after the site (a varint) |
/// | 4 and up | its index, minus that of the previous task |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskListItem {
    /// Its index.
    pub task: u32,
    /// Its incarnation.
    pub incarnation: u32,
    /// The id of its site.
    pub site: u32,
    /// Whether it is running.
    pub running: bool,
    /// Whether it was woken.
    pub woken: bool,
}

/// The most bytes that one item takes.
pub const MAX_TASK_LIST_ITEM: usize = 6 + 4 + 5;

impl TaskListItem {
    /// Appends this item as a difference from `before`, which is the [`default`](Self::default) for the first
    /// one.
    pub fn put(&self, before: &Self, out: &mut Vec<u8>) {
        let gap = u64::from(self.task.wrapping_sub(before.task));
        let (same_site, same_incarnation) =
            (self.site == before.site, self.incarnation == before.incarnation);
        let bits = u64::from(self.running)
            | u64::from(self.woken) << 1
            | u64::from(same_site) << 2
            | u64::from(same_incarnation) << 3;
        put_varint(out, gap << 4 | bits);
        if !same_site {
            put_varint(out, u64::from(self.site));
        }
        if !same_incarnation {
            put_varint(out, u64::from(self.incarnation));
        }
    }

    /// Reads the item that follows `before` from the front of `bytes`: the item, and its length in bytes.
    /// `None` if it is cut off or invalid.
    #[must_use]
    pub fn get(before: &Self, bytes: &[u8]) -> Option<(Self, usize)> {
        let (word, mut length) = get_varint(bytes)?;
        let mut number = || -> Option<u32> {
            let (value, more) = get_varint(&bytes[length..])?;
            length += more;
            u32::try_from(value).ok()
        };
        let site = if word & 4 != 0 { before.site } else { number()? };
        let incarnation = if word & 8 != 0 { before.incarnation } else { number()? };
        let task = u32::try_from(u64::from(before.task) + (word >> 4)).ok()?;
        let item = Self { task, incarnation, site, running: word & 1 != 0, woken: word & 2 != 0 };
        Some((item, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn states_have_codes() {
        for state in [TaskState::Idle, TaskState::Running] {
            for woken in [false, true] {
                assert_eq!(TaskState::from_code(state.code(woken)), Some((state, woken)));
            }
        }
        for code in [0, 3, 4, 7, 8, 9, u64::MAX] {
            assert_eq!(TaskState::from_code(code), None);
        }
    }

    proptest! {
        #[test]
        fn a_list_is_read_as_it_was_written(
            items in proptest::collection::vec((1_u32..9, 0_u32..3, 0_u32..3, any::<[bool; 2]>()), 0..50)
        ) {
            let mut task = 0;
            let items: Vec<_> = items
                .into_iter()
                .map(|(gap, incarnation, site, [running, woken])| {
                    task += gap;
                    TaskListItem { task, incarnation, site, running, woken }
                })
                .collect();
            let (mut bytes, mut before) = (Vec::new(), TaskListItem::default());
            for item in &items {
                item.put(&before, &mut bytes);
                before = *item;
            }
            let (mut rest, mut before, mut read) = (&bytes[..], TaskListItem::default(), Vec::new());
            while !rest.is_empty() {
                let (item, length) = TaskListItem::get(&before, rest).unwrap();
                read.push(item);
                before = item;
                rest = &rest[length..];
            }
            prop_assert_eq!(read, items);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, task: u32) {
            let before = TaskListItem { task, ..TaskListItem::default() };
            if let Some((_, length)) = TaskListItem::get(&before, &bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
