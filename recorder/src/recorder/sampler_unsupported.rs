//! The sampler on a system where nobody gets at a stack: there is none.

#![forbid(unsafe_code)]

/// See the module.
pub(crate) struct Sampler;

impl Sampler {
    pub(crate) fn new(_: u32) -> Option<Self> {
        None
    }

    pub(crate) fn look_after(&mut self) {}
}

pub(crate) fn state() -> (u32, u32, Option<String>) {
    (0, 0, None)
}
