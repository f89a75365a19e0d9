//! Shortens the names of tasks for people: the full type of a future is hard to read at three in the morning.
//!
//! `shop::listener::Listener::run::{{closure}}::{{closure}}`, spawned in `src/listener.rs:42`, is
//! `run (src/listener.rs:42)`. Names that are not types stay as they are.

use std::fmt::{self, Display, Write};

/// The compiler's names for the types of async blocks and closures.
const CLOSURES: [&str; 2] = ["{{closure}}", "{closure"];

/// The type of a future or a closure, and where it was spawned, shortened for people.
#[derive(Clone, Copy, Debug)]
pub struct TypeName<'a> {
    name: &'a str,
    file: &'a str,
    line: u32,
}

impl<'a> TypeName<'a> {
    /// `None` if a person chose the name: then it stays as it is.
    #[must_use]
    pub fn new(name: &'a str, file: &'a str, line: u32) -> Option<Self> {
        let is_type = closure(name).is_some() || is_path_with_arguments(name);
        is_type.then_some(Self { name, file, line })
    }
}

impl Display for TypeName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match closure(self.name) {
            Some(at) => f.write_str(function(&self.name[..at]))?,
            None => without_paths(self.name, f)?,
        }
        match self.file {
            "" | "?" => Ok(()),
            file => write!(f, " ({}:{})", within(file), self.line),
        }
    }
}

/// Where the path segment of the first closure begins in the name.
fn closure(name: &str) -> Option<usize> {
    CLOSURES.iter().filter_map(|closure| name.find(closure)).min()
}

fn is_path_with_arguments(name: &str) -> bool {
    let is_of_type = |c: char| c.is_alphanumeric() || " _:<>,&()[]'+=;{}#*-".contains(c);
    name.contains("::") && name.contains('<') && name.chars().all(is_of_type)
}

/// The function in a closure's path.
fn function(path: &str) -> &str {
    let mut path = path.trim_end_matches("::");
    // Skips the arguments of a generic function.
    if path.ends_with('>') {
        let mut depth = 0;
        let opens = path.char_indices().rev().find(|(_, c)| {
            depth += match c {
                '>' => 1,
                '<' => -1,
                _ => 0,
            };
            depth == 0
        });
        path = opens.map_or("", |(at, _)| path[..at].trim_end_matches("::"));
    }
    let is_end = |c: char| !c.is_alphanumeric() && c != '_' && c != '#';
    let name = path.rfind(is_end).map_or(path, |at| &path[at + 1..]);
    if name.is_empty() || path.ends_with('}') {
        "async block"
    } else {
        name.trim_start_matches("r#")
    }
}

/// A type with only the last part of each path.
fn without_paths(name: &str, f: &mut impl Write) -> fmt::Result {
    let is_path = |c: char| c.is_alphanumeric() || "_:{}#".contains(c);
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_path(c) != is_path(first)).unwrap_or(rest.len());
        let (part, others) = rest.split_at(end);
        if is_path(first) {
            let mut last =
                part.rsplit("::").filter(|part| !part.starts_with('{') && !part.is_empty());
            f.write_str(last.next().unwrap_or("async block"))?;
        } else {
            f.write_str(part)?;
        }
        rest = others;
    }
    Ok(())
}

/// A source file without the directory of its package.
fn within(file: &str) -> &str {
    for (place, further) in [("/registry/src/", 1), ("/git/checkouts/", 2), ("/rustc/", 1)] {
        if let Some(at) = file.find(place) {
            let rest = &file[at + place.len()..];
            return rest.splitn(further + 1, '/').last().unwrap_or(rest);
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str) -> String {
        let file = "src/listener.rs";
        TypeName::new(name, file, 42).map_or_else(|| name.to_owned(), |name| name.to_string())
    }

    #[test]
    fn a_closure_is_told_by_its_function_and_place() {
        for name in [
            "shop::listener::Listener::run::{{closure}}::{{closure}}",
            "shop::run::{{closure}}",
            "shop::run<T>::{{closure}}",
            "shop::run<alloc::vec::Vec<u8>, T>::{{closure}}",
            "shop::Listener<S>::run::{{closure}}",
            "<shop::Listener as shop::Run>::run::{{closure}}",
            "shop::listener::<impl shop::Run for shop::Listener>::run::{{closure}}::{{closure}}",
            "tracing::instrument::Instrumented<shop::run::{{closure}}>",
            "tokio::time::timeout::Timeout<futures::Map<shop::run::{{closure}}, shop::f>>",
            "shop::r#run::{{closure}}",
            "shop::run::{closure#3}",
        ] {
            assert_eq!(said(name), "run (src/listener.rs:42)", "{name}");
        }
        assert_eq!(said("{{closure}}"), "async block (src/listener.rs:42)");
        assert_eq!(said("<{{closure}}"), "async block (src/listener.rs:42)");
    }

    #[test]
    fn a_type_is_told_without_its_paths() {
        let boxed = "core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = ()> + \
                     core::marker::Send>>";
        assert_eq!(said(boxed), "Pin<Box<dyn Future<Output = ()> + Send>> (src/listener.rs:42)");
        // One that was too long, and cut in the middle.
        assert_eq!(said("a::Join<b::C, d::run::{{clos"), "Join<C, run (src/listener.rs:42)");
    }

    #[test]
    fn a_name_that_somebody_gave_stays() {
        for name in ["flush", "cache::refresh", "a < b", "shop::Connection", "größer", "?", ""] {
            assert_eq!(said(name), name);
        }
    }

    #[test]
    fn where_a_package_lies_is_not_told() {
        assert_eq!(
            within("/root/.cargo/registry/src/index.x-1/hyper-1.0/src/a.rs"),
            "hyper-1.0/src/a.rs"
        );
        assert_eq!(within("/home/me/.cargo/git/checkouts/shop-1/abc/src/a.rs"), "src/a.rs");
        assert_eq!(within("/rustc/0123/library/std/src/a.rs"), "library/std/src/a.rs");
        assert_eq!(within("src/a.rs"), "src/a.rs");
    }

    #[test]
    fn no_name_is_too_odd() {
        for name in
            ["<>::{{closure}}", "::<", "{{closure}}{{closure}}", ">::{{closure}}", "a::b<{{"]
        {
            assert!(!said(name).contains("{{"), "{name}: {}", said(name));
        }
    }
}
