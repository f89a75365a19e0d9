//! The shape of a message: what messages have in common that one line of code writes.

use crate::wire::floor_char_boundary;

/// So many bytes of it are looked at.
const MOST: usize = 160;

/// Writes the message with `#` in place of every word that has a digit in it, such as numbers and ids. What stands in quotes
/// is one word.
pub(super) fn shape(message: &str, out: &mut String) {
    out.clear();
    let is_word = |character: char| character.is_alphanumeric() || "_-.:+%".contains(character);
    let first = message.lines().next().unwrap_or_default();
    let mut rest = &first[..floor_char_boundary(first, MOST)];
    while !rest.is_empty() {
        let word = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
        let (here, after) = rest.split_at(word);
        // The colon or the full stop behind a number is not part of it.
        let core = here.trim_end_matches([':', '.']);
        if core.contains(|character: char| character.is_ascii_digit()) {
            out.push('#');
            out.push_str(&here[core.len()..]);
        } else {
            out.push_str(here);
        }
        rest = after;
        let Some(between) = rest.chars().next() else { break };
        rest = &rest[between.len_utf8()..];
        out.push(between);
        if let ('"' | '`', Some(end)) = (between, rest.find(between))
            && rest[..end].contains(|character: char| character.is_ascii_digit())
        {
            out.push('#');
            out.push(between);
            rest = &rest[end + between.len_utf8()..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ids_do_not_count() {
        let of = |message: &str| {
            let mut out = String::new();
            shape(message, &mut out);
            out
        };
        assert_eq!(of("order 17 took 3.5ms: retried"), "order # took #: retried");
        assert_eq!(of("no card 5f3a-11 (id=7, \"a 1 b\")"), "no card # (id=#, \"#\")");
        assert_eq!(of("plain `words` stay\nthe first line"), "plain `words` stay");
        assert_eq!(of("größer als 5 €"), "größer als # €");
        assert_eq!(of(""), "");
        assert!(of(&"word ".repeat(1000)).len() < MOST + 8);
        assert!(of(&"w".repeat(100_000)).len() <= MOST);
    }
}
