//! Places in the source without their lines, which differ from build to build.

/// `src/pay.rs:17` without `:17`, wherever it stands in the text.
pub(super) fn without_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(".rs:") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let digits = after[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len() - 1);
        rest = if digits > 0 { &after[1 + digits..] } else { after };
        if digits == 0 {
            out.push(':');
            rest = &rest[1..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::without_lines;

    #[test]
    fn lines_go_and_all_else_stays() {
        assert_eq!(without_lines("serve (src/server.rs:79)"), "serve (src/server.rs)");
        assert_eq!(without_lines("a.rs:1 b.rs:22:5 c.rs: d"), "a.rs b.rs:5 c.rs: d");
        assert_eq!(without_lines("no place"), "no place");
        assert_eq!(without_lines("x.rs:"), "x.rs:");
    }
}
