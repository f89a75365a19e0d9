//! Generations: how one ends while threads go on writing, and the next begins.
//!
//! [`advance`] has the sequence of steps, [`statedump`] states everything that lives but was silent in a
//! generation, and [`pace`] decides how large a generation may become.

pub(crate) mod advance;
pub(crate) mod noted;
pub(crate) mod pace;
pub(crate) mod statedump;
pub(crate) mod system_counters;
pub(crate) mod thread_times;
pub(crate) mod timing;
