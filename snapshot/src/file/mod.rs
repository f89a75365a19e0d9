//! The container: a series of zstd frames, and its writer.
