//! Exports: a snapshot in the words of other tools. `docs/export.md` says what becomes of what, and
//! what is lost on the way.

pub mod go;
