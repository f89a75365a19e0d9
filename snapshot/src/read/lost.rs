//! Events that were lost, by cause.

use crate::wire::Loss;
use std::borrow::Cow;

/// How many events were lost for one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The cause's code; see [`Loss`].
    pub code: u64,
    /// How many.
    pub count: u64,
}

impl Lost {
    /// The name of the cause, as tools print it: `arena_full`, say.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        match Loss::from_code(self.code) {
            Some(cause) => Cow::Borrowed(cause.name()),
            None => Cow::Owned(format!("cause_{}", self.code)),
        }
    }

    /// Adds to the count of a cause. Of causes that no version has, only so many are told apart.
    pub(super) fn add(list: &mut Vec<Self>, code: u64, count: u64) {
        if count == 0 {
            return;
        }
        let code = code.min(u64::from(u8::MAX));
        match list.iter_mut().find(|lost| lost.code == code) {
            Some(lost) => lost.count = lost.count.saturating_add(count),
            None => list.push(Self { code, count }),
        }
    }

    pub(super) fn list(pairs: &[(u64, u64)]) -> Vec<Self> {
        let mut list = Vec::new();
        for (code, count) in pairs {
            Self::add(&mut list, *code, *count);
        }
        list
    }
}
