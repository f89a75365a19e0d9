//! Parses the options in the parentheses of the attribute.

use crate::Wrong;
use proc_macro::{Span, TokenStream, TokenTree};

/// How to build the runtime.
pub struct Options {
    is_multi_thread: bool,
    worker_threads: Option<String>,
    start_paused: Option<String>,
    /// The path of `lookback`.
    pub path: String,
}

impl Options {
    /// Parses `name = literal, …`.
    pub fn parse(arguments: TokenStream, is_test: bool) -> Result<Self, Wrong> {
        let mut options = Self {
            is_multi_thread: !is_test,
            worker_threads: None,
            start_paused: None,
            path: "::lookback".to_owned(),
        };
        let mut flavor = None;
        let mut tokens = arguments.into_iter();
        while let Some(token) = tokens.next() {
            let (name, span) = (token.to_string(), token.span());
            let (equals, value) = (tokens.next(), tokens.next());
            let (Some(TokenTree::Punct(equals)), Some(value)) = (equals, value) else {
                return Err(Wrong::new(span, format!("`{name}` needs a value: `{name} = …`")));
            };
            if equals.as_char() != '=' {
                return Err(Wrong::new(equals.span(), "`=` is expected here"));
            }
            let (value, at) = (value.to_string(), value.span());
            match name.as_str() {
                "flavor" => {
                    options.is_multi_thread = flavor_of(&value, at)?;
                    flavor = Some(options.is_multi_thread);
                }
                "worker_threads" => options.worker_threads = Some(value),
                "start_paused" => options.start_paused = Some(value),
                "crate" => options.path = value.trim_matches('"').to_owned(),
                _ => {
                    let known = "`flavor`, `worker_threads`, `start_paused` and `crate`";
                    let text = format!("there is no option `{name}`; there are {known}");
                    return Err(Wrong::new(span, text));
                }
            }
            match tokens.next() {
                None => {}
                Some(TokenTree::Punct(comma)) if comma.as_char() == ',' => {}
                Some(other) => return Err(Wrong::new(other.span(), "`,` is expected here")),
            }
        }
        if options.worker_threads.is_some() {
            if flavor == Some(false) {
                let text = "`worker_threads` needs `flavor = \"multi_thread\"`";
                return Err(Wrong::new(Span::call_site(), text));
            }
            options.is_multi_thread = true;
        }
        Ok(options)
    }

    /// Statements that create a `builder`.
    pub fn builder(&self) -> String {
        let path = &self.path;
        let new = if self.is_multi_thread { "new_multi_thread" } else { "new_current_thread" };
        let mut out = format!("let mut builder = {path}::tokio::runtime::Builder::{new}();");
        if let Some(threads) = &self.worker_threads {
            out += &format!("builder.worker_threads({threads});");
        }
        if let Some(paused) = &self.start_paused {
            out += &format!("builder.start_paused({paused});");
        }
        out
    }
}

/// Whether the flavour is multi-threaded.
fn flavor_of(value: &str, at: Span) -> Result<bool, Wrong> {
    match value {
        "\"multi_thread\"" => Ok(true),
        "\"current_thread\"" => Ok(false),
        _ => Err(Wrong::new(at, "the flavor is \"multi_thread\" or \"current_thread\"")),
    }
}
