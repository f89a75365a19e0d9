//! Wraps texts to lines that fit the terminal.

use crate::format::{escape, seconds};
use crate::terminal::is_unlimited;
use console::{measure_text_width, truncate_str};
use lookback::read::analysis::Moment;

/// Wraps a text to lines of at most this width. A longer word is broken; a number stays with its unit.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_unit =
            ["ns", "µs", "ms", "s", "%"].contains(&word.trim_end_matches([',', ';', ':']));
        match words.last_mut() {
            Some(number) if is_unit && number.ends_with(|c: char| c.is_ascii_digit()) => {
                *number += &format!(" {word}");
            }
            _ => words.push(word.to_owned()),
        }
    }
    for word in &words {
        let needs = measure_text_width(word);
        if used > 0 && used + 1 + needs > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        } else if used > 0 {
            line.push(' ');
            used += 1;
        }
        if needs <= width {
            line += word;
            used += needs;
            continue;
        }
        for character in word.chars() {
            let wide = measure_text_width(character.encode_utf8(&mut [0; 4]));
            if used + wide > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(character);
            used += wide;
        }
    }
    lines.push(line);
    lines
}

/// The text, padded or cut to this width; not cut if the width has no limit.
pub fn fit(text: &str, wide: usize) -> String {
    let most = if is_unlimited() { usize::MAX } else { wide };
    let text = truncate_str(&escape(text), most, "…").into_owned();
    let pad = wide.saturating_sub(measure_text_width(&text));
    format!("{text}{:pad$}", "")
}

/// `+1.234567`, `-0.200000`: seconds since the first event.
pub fn moment(at: Moment) -> String {
    let sign = if at.0 < 0 { '-' } else { '+' };
    format!("{sign}{}", seconds(at.0.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_wider_than_asked() {
        let text = "a task that has averyveryverylongname kept the worker busy";
        let lines = wrap(text, 12);
        assert!(lines.iter().all(|line| measure_text_width(line) <= 12), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        assert_eq!(wrap("", 20), [""]);
        assert_eq!(wrap("so so", 20), ["so so"]);
        assert_eq!(wrap("for about 312 ms, or so", 12), ["for about", "312 ms, or", "so"]);
    }

    #[test]
    fn moments_have_a_sign() {
        assert_eq!(moment(Moment(1_234_567_890)), "+1.234567");
        assert_eq!(moment(Moment(-200_000_000)), "-0.200000");
    }
}
