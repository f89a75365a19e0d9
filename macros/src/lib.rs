#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod options;

use options::Options;
use proc_macro::{Delimiter, Group, Span, TokenStream, TokenTree};

/// Runs an `async` function on a Tokio runtime of its own: `#[tokio::main]` with
/// [recorded](https://docs.rs/lookback/latest/lookback/tokio/fn.instrument.html) workers and a recorded first
/// task. It takes the options of `#[tokio::main]`:
///
/// * `flavor = "multi_thread"`, the default, which needs Tokio's feature `rt-multi-thread`; or
///   `"current_thread"`
/// * `worker_threads = 4`
/// * `start_paused = true`, which needs Tokio's feature `test-util`
/// * `crate = "path"`, if `lookback` has another name
///
/// It does not start a recorder: start one in the function, or before. Tasks that began earlier are recorded
/// from their next poll on.
///
/// ```ignore
/// #[lookback::main]
/// async fn main() -> Result<(), lookback::Error> {
///     let _recorder = lookback::Recorder::from_env()?;
///     lookback::spawn(async {}).await.unwrap();
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments, item, false)
}

/// Like [`macro@main`], for tests: on one thread unless `flavor` or `worker_threads` says otherwise.
///
/// ```ignore
/// #[lookback::test]
/// async fn six_times_seven() {
///     assert_eq!(lookback::spawn(async { 6 * 7 }).await.unwrap(), 42);
/// }
/// ```
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments, item, true)
}

fn expand(arguments: TokenStream, item: TokenStream, is_test: bool) -> TokenStream {
    let expanded = Options::parse(arguments, is_test)
        .and_then(|options| wrapped(item.clone(), &options, is_test));
    // Keep the function beside an error, so that its uses are not errors, too.
    expanded.unwrap_or_else(|wrong| {
        let mut out = wrong.into_tokens();
        out.extend(item);
        out
    })
}

/// An error and its place.
struct Wrong(Span, String);

impl Wrong {
    fn new(span: Span, text: impl Into<String>) -> Self {
        Self(span, text.into())
    }

    fn into_tokens(self) -> TokenStream {
        let error: TokenStream = format!("::core::compile_error!({:?});", self.1)
            .parse()
            .expect("a macro and a literal");
        error.into_iter().map(|token| at(token, self.0)).collect()
    }
}

fn at(token: TokenTree, span: Span) -> TokenTree {
    let mut token = match token {
        TokenTree::Group(group) => {
            let inside = group.stream().into_iter().map(|token| at(token, span)).collect();
            TokenTree::Group(Group::new(group.delimiter(), inside))
        }
        token => token,
    };
    token.set_span(span);
    token
}

/// The function without `async`, its body running on a runtime.
fn wrapped(item: TokenStream, options: &Options, is_test: bool) -> Result<TokenStream, Wrong> {
    let mut tokens: Vec<TokenTree> = item.into_iter().collect();
    let is = |token: Option<&TokenTree>, word: &str| matches!(token, Some(TokenTree::Ident(ident)) if ident.to_string() == word);
    let Some(function) = (0..tokens.len()).find(|&index| is(tokens.get(index), "fn")) else {
        return Err(Wrong::new(Span::call_site(), "this attribute is for an `async fn`"));
    };
    let span = tokens[function].span();
    let is_body = |group: &Group| group.delimiter() == Delimiter::Brace;
    let Some(TokenTree::Group(body)) =
        tokens.pop().filter(|token| matches!(token, TokenTree::Group(group) if is_body(group)))
    else {
        return Err(Wrong::new(span, "the function has no body"));
    };
    // `async` comes right before `fn`, or before `unsafe fn`.
    let Some(keyword) =
        (function.saturating_sub(2)..function).rev().find(|&index| is(tokens.get(index), "async"))
    else {
        return Err(Wrong::new(span, "the function must be `async`"));
    };
    tokens.remove(keyword);
    let mut out = TokenStream::new();
    if is_test {
        out.extend(text("#[::core::prelude::v1::test]"));
    }
    out.extend(tokens);
    // The body keeps its own tokens, so that errors point into it.
    let path = &options.path;
    let mut arguments = text("&mut builder, async move");
    arguments.extend([TokenTree::Group(body)]);
    let mut run = text(&format!("{} {path}::tokio::run", options.builder()));
    run.extend([TokenTree::Group(Group::new(Delimiter::Parenthesis, arguments))]);
    out.extend([TokenTree::Group(Group::new(Delimiter::Brace, run))]);
    Ok(out)
}

fn text(source: &str) -> TokenStream {
    source.parse().expect("it is Rust")
}
