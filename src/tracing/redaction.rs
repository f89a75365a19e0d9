//! Values that must not get into a trace, told by the names of their fields.

/// Words that name secrets. A field whose name contains one of them is recorded without its value.
pub const SECRETS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "credential",
    "cookie",
    "session_id",
    "credit_card",
    "card_number",
    "cvv",
    "ssn",
];

/// What stands in the place of a value.
pub(super) const REDACTED: &str = "[redacted]";

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

    /// Whether a field is redacted. `is_secret` is what [`is_secret`] says of its name.
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

/// Whether a name is that of a secret: asked once a callsite. Hyphens and dots count as underscores.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '.'], "_");
    SECRETS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_names_of_secrets_are_known() {
        for name in ["password", "user.password", "API-Key", "x_auth_token", "Set-Cookie", "ssn"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["path", "status", "user", "pass", "key", "elapsed_ms"] {
            assert!(!is_secret(name), "{name}");
        }
    }

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
