//! Names of secrets, matched by whole words, so that `className` does not match `ssn`.
//!
//! A name is split at every character that is not a letter, and where a capital begins a word:
//! `user.apiKey2`, `API-Key` and `APIKey` all consist of the words `api`, `key`.

#![forbid(unsafe_code)]

/// Names of secrets: words, and sequences of words.
///
/// A word of five letters or more also matches at the end of a longer word, and a sequence also
/// matches when its words are joined: `userpassword`, `apikey`.
pub const SECRETS: &[&str] = &[
    // Passwords.
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "db pass",
    "user pass",
    "admin pass",
    "root pass",
    "login pass",
    "smtp pass",
    "ftp pass",
    "mysql pass",
    "redis pass",
    "pg pass",
    "http pass",
    "proxy pass",
    "salt",
    // Keys and tokens.
    "secret",
    "secrets",
    "token",
    "access tokens",
    "refresh tokens",
    "api tokens",
    "auth tokens",
    "session tokens",
    "bearer tokens",
    "device tokens",
    "reset tokens",
    "jwt",
    "jwts",
    "bearer",
    "auth",
    "oauth",
    "authorization",
    "authentication",
    "credential",
    "credentials",
    "creds",
    "api key",
    "api keys",
    "access key",
    "access keys",
    "account key",
    "app key",
    "client key",
    "consumer key",
    "decryption key",
    "encryption key",
    "hmac key",
    "license key",
    "master key",
    "private key",
    "private keys",
    "rsa key",
    "server key",
    "service key",
    "shared key",
    "signing key",
    "ssh key",
    "ssl key",
    "tls key",
    "hmac",
    "signature",
    "mnemonic",
    "seed phrase",
    "recovery phrase",
    // Sessions.
    "cookie",
    "cookies",
    "session id",
    "session ids",
    "session key",
    "sessid",
    "sid",
    "csrf",
    "xsrf",
    // Database addresses, which often contain the password.
    "dsn",
    "database url",
    "database uri",
    "db url",
    "db uri",
    "connection string",
    "connection str",
    "conn string",
    "conn str",
    // One-time codes.
    "otp",
    "totp",
    "hotp",
    "pin",
    "pins",
    "mfa code",
    "fa code",
    "sms code",
    "one time code",
    "verification code",
    "security code",
    "recovery code",
    "recovery codes",
    "backup code",
    "backup codes",
    "reset code",
    // Money and people.
    "credit card",
    "debit card",
    "card number",
    "cc number",
    "cvv",
    "cvc",
    "iban",
    "ssn",
    "social security",
];

/// A name that ends with one of these words says something *about* a secret, unless the word is
/// part of the secret's name: `token_count`, `auth_method`, `password_length`.
pub const ABOUT: &[&str] = &[
    "age",
    "alg",
    "algorithm",
    "at",
    "attempts",
    "budget",
    "bytes",
    "chars",
    "count",
    "counts",
    "disabled",
    "duration",
    "elapsed",
    "enabled",
    "endpoint",
    "error",
    "errors",
    "expiration",
    "expired",
    "expires",
    "expiry",
    "failed",
    "failure",
    "failures",
    "file",
    "handler",
    "host",
    "index",
    "invalid",
    "issuer",
    "kind",
    "latency",
    "len",
    "length",
    "limit",
    "limits",
    "method",
    "micros",
    "middleware",
    "millis",
    "missing",
    "mode",
    "ms",
    "name",
    "nanos",
    "ns",
    "offset",
    "path",
    "policy",
    "port",
    "position",
    "present",
    "provider",
    "rate",
    "remaining",
    "required",
    "retries",
    "scheme",
    "scope",
    "scopes",
    "seconds",
    "secs",
    "server",
    "service",
    "size",
    "state",
    "status",
    "strategy",
    "time",
    "total",
    "ttl",
    "type",
    "uri",
    "url",
    "us",
    "usage",
    "used",
    "user",
    "username",
    "valid",
    "version",
];

/// A name that begins with one of these says something about a secret, too: `has_password`,
/// `max_token`.
pub const ABOUT_FIRST: &[&str] = &[
    "count", "had", "has", "is", "max", "min", "needs", "no", "num", "requires", "total", "use",
    "uses",
];

/// How a name relates to secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Not the name of a secret.
    Nothing,
    /// Says something about a secret.
    About,
    /// Contains a secret's name, followed by other words.
    Inside,
    /// Ends with a secret's name.
    Last,
}

impl Found {
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Inside | Self::Last)
    }
}

/// Classifies a name.
pub(super) fn find(name: &str) -> Found {
    let mut last: [&[u8]; 3] = [&[]; 3];
    let mut first: &[u8] = &[];
    // Whether a secret's name was found, and whether it ends with the word examined last.
    let mut found = (false, false);
    for word in words(name.as_bytes()) {
        if first.is_empty() {
            first = word;
        }
        last = [last[1], last[2], word];
        found.1 =
            may_end(word) && ending_like(word).any(|secret| ends_with(&last, secret.as_bytes()));
        found.0 |= found.1;
    }
    match found {
        (false, _) => Found::Nothing,
        _ if is_one_of(first, ABOUT_FIRST) => Found::About,
        (_, true) => Found::Last,
        _ if is_one_of(last[2], ABOUT) => Found::About,
        _ => Found::Inside,
    }
}

/// The words of a name.
pub(super) fn words(name: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut at = 0;
    std::iter::from_fn(move || {
        while name.get(at).is_some_and(|byte| !is_letter(*byte)) {
            at += 1;
        }
        let start = at;
        while let Some(byte) = name.get(at)
            && is_letter(*byte)
            && (at == start || !begins(name, at))
        {
            at += 1;
        }
        (at > start).then(|| &name[start..at])
    })
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 0x80
}

/// Whether a word begins at this letter, which follows another letter.
fn begins(name: &[u8], at: usize) -> bool {
    let next_is_small = name.get(at + 1).is_some_and(u8::is_ascii_lowercase);
    // `apiKey`, or the last capital of a run: `APIKey`. A plural's s begins no word: `APIs`.
    name[at].is_ascii_uppercase()
        && (!name[at - 1].is_ascii_uppercase() || (next_is_small && !is_plural(name, at)))
}

fn is_plural(name: &[u8], at: usize) -> bool {
    name.get(at + 1) == Some(&b's') && !name.get(at + 2).is_some_and(u8::is_ascii_lowercase)
}

/// Whether these words end with a secret's name.
fn ends_with(words: &[&[u8]; 3], secret: &[u8]) -> bool {
    let [.., last] = words;
    // The name's last word must match the end of the last word.
    let (mut at, mut rest) = (last.len(), secret.len());
    while rest > 0 && secret[rest - 1] != b' ' {
        if at == 0 || last[at - 1] | 0x20 != secret[rest - 1] {
            return false;
        }
        (at, rest) = (at - 1, rest - 1);
    }
    if rest == 0 {
        return at == 0 || secret.len() >= 5;
    }
    if at > 0 {
        // A name of several words, joined. All such names have at least five letters.
        return ends_joined(&last[..at], &secret[..rest]);
    }
    // Word by word, from the last one back.
    let mut ours = words.iter().rev().skip(1);
    let mut theirs = secret[..rest - 1].rsplit(|byte| *byte == b' ').peekable();
    while let Some(word) = theirs.next() {
        let Some(other) = ours.next() else { return false };
        // The name's first word, if long enough, need only match the end of its word.
        let is_first = theirs.peek().is_none();
        let matches =
            equals(other, word) || (is_first && word.len() >= 5 && ends_joined(other, word));
        if !matches {
            return false;
        }
    }
    true
}

/// Whether a word ends with these letters, ignoring blanks between them.
fn ends_joined(word: &[u8], letters: &[u8]) -> bool {
    let mut at = word.len();
    for letter in letters.iter().rev().filter(|letter| **letter != b' ') {
        if at == 0 || word[at - 1] | 0x20 != *letter {
            return false;
        }
        at -= 1;
    }
    true
}

/// Whether a word equals this lower-case one, ignoring case.
pub(super) fn equals(word: &[u8], small: &[u8]) -> bool {
    word.len() == small.len() && word.iter().zip(small).all(|(a, b)| a.to_ascii_lowercase() == *b)
}

pub(super) fn is_one_of(word: &[u8], list: &[&str]) -> bool {
    list.iter().any(|other| equals(word, other.as_bytes()))
}

/// Whether this may be the name of a secret, judged by the last letters of its words: a quick test,
/// because most names are not.
pub(super) fn may_name(name: &[u8]) -> bool {
    name.windows(3).enumerate().any(|(at, letters)| {
        let next = name.get(at + 3);
        let ends = next.is_none_or(|byte| !byte.is_ascii_lowercase());
        ends && is_ending(letters)
    })
}

/// Whether a word may be the last word of a secret's name.
fn may_end(word: &[u8]) -> bool {
    equals(word, b"id") || (word.len() >= 3 && is_ending(&word[word.len() - 3..]))
}

fn is_ending(letters: &[u8]) -> bool {
    let place = |byte: &u8| usize::from((byte | 0x20).wrapping_sub(b'a'));
    let [a, b, c] = [0, 1, 2].map(|index| place(&letters[index]));
    let index = (a * 26 + b) * 26 + c;
    // `id` is the only last word of two letters.
    if letters[1] | 0x20 == b'i' && letters[2] | 0x20 == b'd' {
        return true;
    }
    a < 26 && b < 26 && c < 26 && ENDINGS[index / 64] >> (index % 64) & 1 != 0
}

/// The names that end with the same two letters as this word: only a few need comparing.
fn ending_like(word: &[u8]) -> impl Iterator<Item = &'static str> {
    let chain = match word {
        [.., a, b] => FIRST_OF_CHAIN[chain(*a, *b)],
        _ => 0,
    };
    let next = |at: &u8| Some(NEXT_OF_CHAIN[usize::from(*at) - 1]).filter(|next| *next != 0);
    std::iter::successors(Some(chain).filter(|first| *first != 0), next)
        .map(|at| SECRETS[usize::from(at) - 1])
}

const fn chain(a: u8, b: u8) -> usize {
    ((a | 0x20) as usize * 7 + (b | 0x20) as usize) % CHAINS
}

const CHAINS: usize = 64;

/// Chains of indices + 1 of the names whose last two letters are equal.
const FIRST_OF_CHAIN: [u8; CHAINS] = CHAINED.0;
const NEXT_OF_CHAIN: [u8; SECRETS.len()] = CHAINED.1;
const CHAINED: ([u8; CHAINS], [u8; SECRETS.len()]) = {
    assert!(SECRETS.len() < 256);
    let (mut first, mut next) = ([0; CHAINS], [0; SECRETS.len()]);
    let mut index = 0;
    while index < SECRETS.len() {
        let secret = SECRETS[index].as_bytes();
        let chain = chain(secret[secret.len() - 2], secret[secret.len() - 1]);
        let (mut letters, mut at) = (0, 0);
        while at < secret.len() {
            letters += (secret[at] != b' ') as usize;
            at += 1;
        }
        assert!(letters >= 5 || letters == secret.len(), "see `ends_with`");
        next[index] = first[chain];
        first[chain] = index as u8 + 1;
        index += 1;
    }
    (first, next)
};

/// The last three letters of every name, one bit for each possible triple.
const ENDINGS: [u64; 26 * 26 * 26 / 64 + 1] = {
    let mut endings = [0; 26 * 26 * 26 / 64 + 1];
    let mut index = 0;
    while index < SECRETS.len() {
        let secret = SECRETS[index].as_bytes();
        let end = secret.len();
        index += 1;
        if secret[end - 3] == b' ' {
            assert!(
                secret[end - 2] == b'i' && secret[end - 1] == b'd',
                "two letters, and not `id`"
            );
            continue;
        }
        let [a, b, c] = [secret[end - 3], secret[end - 2], secret[end - 1]];
        let [a, b, c] = [(a - b'a') as usize, (b - b'a') as usize, (c - b'a') as usize];
        let place = (a * 26 + b) * 26 + c;
        endings[place / 64] |= 1 << (place % 64);
    }
    endings
};
