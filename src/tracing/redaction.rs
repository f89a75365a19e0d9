//! Decides by a field's name whether its value must stay out of the trace.

pub(super) use lookback_recorder::integration::REDACTED;
pub use lookback_recorder::integration::SECRETS;

/// Which fields are redacted.
#[derive(Clone, Debug)]
pub(super) struct Redaction {
    secrets: bool,
    words: Vec<String>,
}

impl Default for Redaction {
    fn default() -> Self {
        Self { secrets: true, words: Vec::new() }
    }
}

impl Redaction {
    pub(super) fn none() -> Self {
        Self { secrets: false, words: Vec::new() }
    }

    pub(super) fn add<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.words.extend(words.into_iter().map(str::to_ascii_lowercase));
    }

    /// Whether a field is redacted. `is_secret` is the verdict of the recorder's rules on its name.
    #[inline(always)]
    pub(super) fn covers(&self, name: &str, is_secret: bool) -> bool {
        (self.secrets && is_secret) || (!self.words.is_empty() && self.has_word(name))
    }

    #[cold]
    fn has_word(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.words.iter().any(|word| name.contains(word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_ones_own_add_to_them() {
        let mut redaction = Redaction::default();
        redaction.add(["Email"]);
        assert!(redaction.covers("customer_email", false));
        assert!(redaction.covers("x", true));
        assert!(!redaction.covers("x", false));
        assert!(!Redaction::none().covers("password", true));
    }
}
