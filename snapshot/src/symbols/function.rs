//! Names of functions, and the crates they belong to.

use std::fmt;

/// The name of a function. `Display` shows it as the source has it, without what the compiler adds for
/// closures and the bodies of async functions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionName {
    whole: String,
    said: String,
    /// The crate, if the name lacks it and it is known otherwise.
    within: Option<String>,
}

/// The compiler's names for closures and the bodies of async functions.
const INNER: [&str; 4] = ["{{closure}}", "{closure#", "{async_fn#", "{async_block#"];

/// Crates that services are built on and whose code is seldom of interest: the language's, executors,
/// servers.
const FOREIGN: [&str; 40] = [
    "__rustc",
    "addr2line",
    "alloc",
    "async_std",
    "axum",
    "axum_core",
    "bytes",
    "core",
    "crossbeam_channel",
    "futures",
    "futures_channel",
    "futures_core",
    "futures_executor",
    "futures_util",
    "gimli",
    "h2",
    "hashbrown",
    "http_body",
    "http_body_util",
    "hyper",
    "hyper_util",
    "lookback",
    "lookback_recorder",
    "miniz_oxide",
    "mio",
    "parking_lot",
    "parking_lot_core",
    "lock_api",
    "rayon",
    "rayon_core",
    "rustc_demangle",
    "smol",
    "std",
    "test",
    "tokio",
    "tokio_util",
    "tonic",
    "tower",
    "tower_http",
    "tracing",
];

impl FunctionName {
    /// The name in a symbol.
    pub(crate) fn new(symbol: &str) -> Self {
        let whole = match addr2line::demangle(symbol, gimli_language()) {
            Some(name) => name,
            None => symbol.to_owned(),
        };
        Self::demangled(without_hash(&whole).to_owned(), None)
    }

    /// The whole name, and the crate that it belongs to if the name lacks that.
    pub(super) fn demangled(whole: String, within: Option<String>) -> Self {
        let said = said(&whole);
        Self { whole, said, within }
    }

    /// The crate that it was said to be within.
    pub(super) fn within(&self) -> Option<&str> {
        self.within.as_deref()
    }

    /// The compiler's full name, including closures.
    #[must_use]
    pub fn whole(&self) -> &str {
        &self.whole
    }

    /// Whether the name says which crate the function belongs to.
    pub(super) fn has_path(&self) -> bool {
        self.krate().is_some()
    }

    /// The crate that the function belongs to, if that is known.
    pub(super) fn krate(&self) -> Option<&str> {
        krate(&self.whole).or(self.within.as_deref())
    }

    /// Says which crate it belongs to, as its name does not.
    pub(super) fn is_within(&mut self, krate: &str) {
        self.within = Some(krate.to_owned());
    }

    /// Whether it belongs to a crate that services are built on (`std`, `tokio`, `hyper`, …), not to the
    /// service; or to no crate, like C functions.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        match self.krate() {
            // The demo of the command is a service.
            Some("lookback") if path(&self.whole).starts_with("lookback::demo::") => false,
            Some(name) => FOREIGN.contains(&name) || name.starts_with("tracing_"),
            None => true,
        }
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

fn gimli_language() -> addr2line::gimli::DwLang {
    addr2line::gimli::DW_LANG_Rust
}

/// `shop::cart::add::h0123456789abcdef` without its last part.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((rest, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            rest
        }
        _ => name,
    }
}

/// Removes the last part of `shop::cart::add::{{closure}}` as long as it is a closure.
fn said(whole: &str) -> String {
    let is_inner = |part: &str| INNER.iter().any(|inner| part.starts_with(inner));
    let mut name = whole;
    while let Some((rest, last)) = name.rsplit_once("::") {
        if !is_inner(last) {
            break;
        }
        name = rest;
    }
    match INNER.iter().position(|inner| name.starts_with(inner)) {
        // Nothing says in which function it is.
        Some(0 | 1) => "(closure)".to_owned(),
        Some(2) => "(async fn)".to_owned(),
        Some(_) => "(async block)".to_owned(),
        None => name.to_owned(),
    }
}

/// The crate of a function; for a trait method, that of the type: `<shop::Cart as Drop>::drop`.
fn krate(name: &str) -> Option<&str> {
    let (first, _) = path(name).split_once("::")?;
    let is_name = first.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_name && !first.is_empty()).then_some(first)
}

/// The path in a name: `shop::Cart as Drop>::drop` of `<&mut shop::Cart as Drop>::drop`.
fn path(name: &str) -> &str {
    let path = name.trim_start_matches(['<', '&', '(', '[', '*', ' ']);
    let words = ["mut ", "const ", "dyn "];
    words.iter().fold(path, |path, word| path.strip_prefix(word).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_said_as_they_are_written() {
        let name = FunctionName::new(
            "_ZN4shop4cart3add28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
        );
        assert_eq!(name.whole(), "shop::cart::add::{{closure}}");
        assert_eq!(name.to_string(), "shop::cart::add");
        assert!(!name.is_foreign());
        assert_eq!(FunctionName::new("{async_fn#0}").to_string(), "(async fn)");
        let name = FunctionName::new("_RNCNvNtCs1234_4shop4cart3add0B5_");
        assert_eq!(name.to_string(), "shop::cart::add");
    }

    #[test]
    fn what_services_are_built_on_is_foreign_and_so_is_c() {
        for name in [
            "tokio::runtime::task::raw::poll",
            "<core::pin::Pin<P> as core::future::future::Future>::poll",
            // What the standard library prints a backtrace with.
            "<gimli::read::abbrev::Attributes>::push",
            "clone3",
            "epoll_wait",
            "__libc_start_main",
        ] {
            assert!(FunctionName::new(name).is_foreign(), "{name}");
        }
        for name in [
            "shop::main",
            "lookback::demo::shop::item",
            "<shop::Cart as core::ops::drop::Drop>::drop",
            "<&mut shop::A>::b",
        ] {
            assert!(!FunctionName::new(name).is_foreign(), "{name}");
        }
    }
}
