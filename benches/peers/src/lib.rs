//! What lookback costs beside its peers: the parts that the three programs share.
//!
//! A program (`tasks`, `spans`, `echo`) is a driver that starts itself as a child, one process for
//! each candidate and round, in turn. So each candidate has the process to itself, with its own
//! global subscriber and its own threads, and a machine whose speed drifts drifts for all alike.
//!
//! In the order in which one reads them: [`options`], what a program was asked to do; [`report`],
//! what a child tells its driver; [`rounds`], the children in turn; [`figures`] and [`table`],
//! what comes of it; [`candidates`], the ways to run a task; [`clock`], the floor of every figure.

pub mod candidates;
pub mod clock;
pub mod figures;
pub mod options;
pub mod report;
pub mod rounds;
pub mod table;
pub mod versions;
