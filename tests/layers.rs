//! Folders are layers: each uses only the ones below it. The tables are those of `docs/design.md`, section 2.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From bottom to top. Modules in one line must not use each other either.
const RECORDER: &[&[&str]] = &[
    &["error", "fault", "sync"],
    &["macros", "text"],
    &["os", "redact"],
    &["protocol"],
    &["arena"],
    &["stack"],
    &["crash"],
    &["record"],
    &["heap", "lock"],
    &["generation"],
    &["snapshot"],
    &["remote"],
    &["recorder"],
    &["exports"],
];

/// The same for the format, its reader, and what is built on it.
const SNAPSHOT: &[&[&str]] = &[
    &["wire"],
    &["file", "format"],
    &["read"],
    &["analysis", "recover", "symbols"],
    &["export", "hangs"],
];

/// The same for the reader's own folders and files.
const READER: &[&[&str]] = &[
    &["error", "heap_totals", "limits", "system_reading", "thread_times"],
    &["container"],
    &["decode"],
    &["replay"],
    &["event_kind", "lock_holder", "stack"],
    &["event", "heap_stack", "open_range", "status", "task_type", "waiting"],
    &["generation"],
    &["trace"],
    &["text", "validate"],
];

#[test]
fn folders_of_the_recorder_use_only_what_is_below_them() {
    assert_layers("recorder/src", &[], RECORDER);
}

#[test]
fn folders_of_the_snapshot_use_only_what_is_below_them() {
    assert_layers("snapshot/src", &[], SNAPSHOT);
}

#[test]
fn folders_of_the_reader_use_only_what_is_below_them() {
    assert_layers("snapshot/src/read", &["read"], READER);
}

/// `root` is the module whose folder is `source`.
fn assert_layers(source: &str, root: &[&str], layers: &[&[&str]]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let layer = |name: &str| layers.iter().position(|layer| layer.contains(&name));
    let mut wrong = Vec::new();
    for file in files(&source) {
        let path = file.strip_prefix(&source).unwrap();
        let own = module(path);
        // The root names all of its modules; test helpers may use anything.
        let Some(top) = own.first().filter(|top| *top != "testing").cloned() else { continue };
        let Some(at) = layer(&top) else {
            wrong.push(format!("{}: `{top}` is in no layer", path.display()));
            continue;
        };
        for used in uses(&tokens(&fs::read_to_string(&file).unwrap()), &own, root) {
            match layer(&used) {
                _ if used == top => {}
                Some(below) if below < at => {}
                Some(_) => wrong.push(format!("{}: uses `{used}`", path.display())),
                // An item of the root: a macro, or an exported name.
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first segments of all paths that lead out of the top-level module (`own`) that contains this module.
fn uses(tokens: &[String], own: &[String], root: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // The brace depth at which each module in the file began: `super` counts from there.
    let (mut depth, mut inline) = (0_usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
            }
            "mod" if tokens.get(at + 2).is_some_and(|next| next == "{") => {
                inline.push(depth);
                // A test module may use anything.
                if tokens[at + 1] == "tests" {
                    at = end_of_group(tokens, at + 2);
                    inline.pop();
                }
            }
            "crate" if follows_path(tokens, at) => {
                let below = root.iter().enumerate().all(|(depth, name)| {
                    let part = at + 3 * (depth + 1);
                    tokens.get(part).is_some_and(|token| token == name)
                });
                if below {
                    heads(tokens, at + 3 * (root.len() + 1), &mut found);
                }
            }
            "super" if follows_path(tokens, at) => {
                let mut ups = 1;
                while tokens.get(at + 3).is_some_and(|next| next == "super") {
                    at += 3;
                    ups += 1;
                }
                if ups == own.len() + inline.len() {
                    heads(tokens, at + 3, &mut found);
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn follows_path(tokens: &[String], at: usize) -> bool {
    let colons = |at: usize| tokens.get(at).is_some_and(|token| token == ":");
    colons(at + 1) && colons(at + 2) && (at == 0 || tokens[at - 1] != ":")
}

/// The names at `at`: one, or those of a group.
fn heads(tokens: &[String], at: usize, into: &mut BTreeSet<String>) {
    if tokens.get(at).is_none_or(|token| token != "{") {
        into.extend(tokens.get(at).cloned());
        return;
    }
    let (mut depth, mut is_head) = (0, true);
    for token in &tokens[at..=end_of_group(tokens, at)] {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => is_head = true,
            name if depth == 1 && is_head => {
                into.insert(name.to_owned());
                is_head = false;
            }
            _ => {}
        }
    }
}

fn end_of_group(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// Identifiers and punctuation, without comments and literals.
fn tokens(source: &str) -> Vec<String> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        let c = rest.chars().next().unwrap();
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if let Some(hashes) = raw_string(rest) {
            let quote = format!("\"{}", "#".repeat(hashes));
            let open = rest.find('"').unwrap() + 1;
            at +=
                open + rest[open..].find(&quote).map_or(rest.len() - open, |end| end + quote.len());
        } else if c == '"' {
            at += quoted(rest);
        } else if c == '\'' && is_character(rest) {
            at += 1 + rest[1..]
                .char_indices()
                .find(|(index, c)| {
                    let escaped = rest[1..].starts_with('\\');
                    *c == '\'' && *index > usize::from(escaped)
                })
                .map_or(1, |(index, _)| index + 1);
        } else if c.is_alphanumeric() || c == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            at += end;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            at += c.len_utf8();
        }
    }
    tokens
}

/// The number of hashes of the raw string that begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let rest = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether a quotation mark begins a character rather than a lifetime.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    let first = chars.next();
    first == Some('\\') || chars.next() == Some('\'')
}

fn module(path: &Path) -> Vec<String> {
    let mut parts: Vec<_> =
        path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib" || last == "tests") {
        parts.pop();
    }
    parts
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_path_out_of_a_layer_is_found_however_it_is_written() {
    let own = ["os".to_owned(), "clock".to_owned()];
    let found =
        |source: &str| uses(&tokens(source), &own, &[]).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(found("use crate::arena::Arena;"), "arena");
    assert_eq!(found("use crate::{\n    arena::{Arena, block},\n    record,\n};"), "arena record");
    assert_eq!(found("fn f() { crate::record::emit(); }"), "record");
    assert_eq!(found("use super::super::record::slot;"), "record");
    assert_eq!(found("use super::barrier;"), "");
    assert_eq!(found("mod inner { use super::super::super::record; }"), "record");
    assert_eq!(
        found(
            "// crate::record\nlet c = '\"'; let s = \"crate::record\"; let r = r#\"crate::arena\"#;"
        ),
        ""
    );
    assert_eq!(
        found("#[cfg(test)] mod tests { use crate::record::slot; } use crate::arena;"),
        "arena"
    );
    assert_eq!(found("fn f<'a>(text: &'a str) { crate :: record :: slot }"), "record");
    let inner = uses(&tokens("use crate::read::decode::x; use crate::wire::y;"), &own, &["read"]);
    assert_eq!(inner.into_iter().collect::<Vec<_>>(), ["decode"]);
}
