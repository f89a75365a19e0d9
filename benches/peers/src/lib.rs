//! What lookback costs compared with its peers: the parts that the four programs share.
//!
//! A program (`tasks`, `spans`, `echo`, `web`) is a driver that starts itself as a child, one process for
//! each candidate and round, in turn. So each candidate has the process to itself, with its own
//! global subscriber and its own threads, and a machine whose speed drifts drifts for all alike.
//!
//! In reading order: [`options`], a program's arguments; [`report`], what a child tells its driver;
//! [`rounds`], the children in turn; [`compare`], services under load, with [`load`], their clients, [`service`], and [`serving`], the inside of one;
//! [`figures`] and [`table`], the results; [`candidates`], the ways to run a task; [`clock`], the floor of every figure.

pub mod candidates;
pub mod clock;
pub mod compare;
pub mod figures;
pub mod load;
pub mod options;
pub mod report;
pub mod rounds;
pub mod service;
pub mod serving;
pub mod table;
pub mod versions;
