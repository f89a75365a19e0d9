//! Tests what is hidden, what is not, and that scanning takes time proportional to the text.

use super::*;
use proptest::prelude::*;

/// The text as recorded.
fn recorded(text: &str) -> String {
    let mut room = TextBuf::new();
    let short = scrubbed(text, &mut room).to_owned();
    if text.len() < 900 {
        assert_eq!(short, scrubbed_string(text.to_owned()), "texts and strings are treated alike");
    }
    short
}

#[test]
fn names_of_secrets_are_known_by_their_words() {
    let hidden = "password passwd pwd passphrase secret token auth authorization bearer jwt dsn otp pin iban ssn \
        cookie set-cookie Set-Cookie database_url DATABASE_URL databaseUrl sessionId session_id SESSION-ID \
        accessKey access_key AWS_SECRET_ACCESS_KEY aws_access_key_id privateKey private_key apiKey api_key \
        APIKey API_KEY x-api-key apikey creditCard credit_card credit.card card_number cardNumber cvv cvv2 cvc \
        client_secret clientSecret credentials creds user.password db_password password2 newPassword \
        auth_token JWTToken jwtToken access_token accessToken id_token refreshToken accesstoken access_tokens \
        csrf_token csrf xsrf-token PHPSESSID JSESSIONID connect.sid proxy-authorization mysql_pwd \
        signing_key encryptionKey signature x-amz-signature customer_ssn user_pin pin_code otpCode \
        userpassword pgpassword PGPASSWORD connection_string conn_str db_pass smtpPass seed_phrase \
        social_security_number two_factor_2fa_code recovery_codes auth_header passwordHash password_hash \
        oauth oauth2 oauth_token hmac salt mnemonic session_key r#password";
    for name in hidden.split_whitespace() {
        assert!(hides(name), "{name} is a secret");
    }
    let shown = "className class_name processName businessName business_name lessname prompt_tokens max_tokens \
        completion_tokens total_tokens tokens token_count tokenCount tokens_used tokens_per_second n_tokens \
        author authors authority authored pinned spinner shipping opinion option options pinging monkey \
        keyboard key keys primary_key foreign_key partition_key cache_key public_key path status user pass \
        passed passing compass bypass elapsed_ms tokenizer tokenize secretary assign design signal \
        authenticated session sessions request_id card discard method route traceparent message \
        password_length passwordLength has_password is_secret auth_method auth_ms token_type tokenExpiresAt \
        token_ttl max_token private_key_path password_file secret_name jwt_issuer cookie_name passwordless \
        mission assn session_count hostname dsnap motopia pint bearers_ x err";
    for name in shown.split_whitespace() {
        assert!(!hides(name), "{name} is no secret");
    }
}

#[test]
fn a_counter_is_hidden_where_its_name_ends_with_a_secret() {
    for name in ["otp", "card_number", "user.pin", "password"] {
        assert!(hides_counter(name), "{name}");
    }
    for name in
        ["otp.sent", "auth.requests", "jwt_verified", "token_cache_entries", "tokens", "depth"]
    {
        assert!(!hides_counter(name), "{name}");
    }
}

/// Texts in which `<` and `>` enclose what must not be recorded.
const TEXTS: &[&str] = &[
    // Names and values.
    "password=<hunter2>",
    "login user=ann password=<hunter2> from=10.0.0.1",
    "user=ann&password=<hunter2>&next=/home",
    "password = <hunter2>, user = ann",
    "password: <hunter2>",
    "Password:<hunter2>",
    "otp=<1>",
    "pin: <1234>, name: x",
    "password=\"<correct horse \\\" battery>\" user=ann",
    "password='<correct horse>' user=ann",
    "secret => <x1>",
    "token == <x1>",
    "DB_PASSWORD=<a,b;c&d> next",
    "Server=db;User Id=ann;Password=<ab;cd>;Timeout=3",
    "(password=<abc>) done",
    "credit card: <4111111111111111>",
    "a[password]=<hunter2>&b=1",
    "params['token'] = '<abc>'",
    "token%3D<abc>%26x%3D1",
    "password=<größe>",
    "größe password=<öäü> größe",
    "token=<eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1>",
    // Structures as `Debug` and JSON write them.
    "Config { user: \"ann\", password: \"<hunter2>\", retries: 3 }",
    "Config { password: <Some(\"hunter2\")>, retries: 3 }",
    "Config { password: <Secret { inner: \"a } b\" }>, retries: 3 }",
    "Config { token: <[104, 117, 110]>, retries: 3 }",
    "Config { token: <b\"hunter2\">, retries: 3 }",
    "{\"user\":\"ann\",\"password\":\"<hunter2>\",\"x\":1}",
    "{\"pin\":<1234>,\"x\":1}",
    "{\"tokens\":3,\"access_token\": \"<a\\\\>\", \"x\": \"y\"}",
    "\"{\\\"password\\\":\\\"<hunter2>\\\",\\\"x\\\":1}\"",
    "\"{\\\"password\\\":\\\"<hun\\\\\\\"ter2>\\\",\\\"x\\\":1}\"",
    "{\"authorization\": \"<Bearer abc def>\", \"host\": \"x\"}",
    "{\"cookie\": \"<a=b; c=d>\", \"host\": \"x\"}",
    "[(\"password\", \"<hunter2>\"), (\"host\", \"x\")]",
    "{\n    \"password\": \"<hunter2>\",\n    \"x\": 1,\n}",
    "password: <Some(\n    \"hunter2\",\n)>,\n",
    // Headers.
    "Authorization: <Bearer abc.def>",
    "GET / HTTP/1.1\r\nAuthorization: <Basic dXNlcjpwYXNz>\r\nHost: x",
    "\"GET / HTTP/1.1\\r\\nCookie: <a=b; c=d>\\r\\nHost: x\\r\\n\"",
    "Set-Cookie: <sid=abc; Path=/; HttpOnly>\nX: y",
    "Authorization: <Digest username=\"u\", realm=\"r\", response=\"abc\">",
    "curl -H \"Authorization: <Bearer abc>\" https://host/",
    "[\"-H\", \"Authorization: <Bearer abc>\", \"https://host/\"]",
    "x-api-key: <abc>",
    "auth=<Bearer abcdef> next",
    "sent Bearer <abcdef0123> to it",
    "sent bearer <secretword> to it",
    "sent Basic <dXNlcjpwYXNz> to it",
    "got <eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc> there",
    "-----BEGIN RSA PRIVATE KEY-----<\nMIIEpAIBAAKCAQEA\nabc=\n>-----END RSA PRIVATE KEY-----\n",
    // URLs.
    "connecting to postgres://ann:<hunter2>@db.example:5432/shop?sslmode=off",
    "postgres://ann:<p@ss>@db/shop",
    "postgres://ann:<p/s?s>@db/shop",
    "redis://:<hunter2>@cache:6379/0",
    "https://<ghp_abcdef>@github.com/x/y",
    "\"mongodb://u:<p,w>@h1,h2/db\"",
    "GET https://host/p?access_token=<abc>&x=1#f",
    "GET /p?x=1&key=<AIza>&y=2",
    "/p?sig=<abc%2B>&se=1",
    "url=postgres://ann:<hunter2>@db/shop next",
    // Command lines.
    "mysql --user ann --password <hunter2> --host db",
    "mysql --password=<hunter2> db",
    "[\"mysql\", \"--password\", \"<hunter 2>\", \"db\"]",
    "\"mysql\" \"--password\" \"<hunter2>\" \"db\"",
];

#[test]
fn secrets_in_texts_are_hidden_and_the_rest_is_shown() {
    for marked in TEXTS {
        // The markers, not characters of the text: these texts have no other `<`, and one `=>`.
        let plain = marked.replace("=>", "=\u{1}").replace(['<', '>'], "").replace('\u{1}', ">");
        let guarded = marked.replace("=>", "=\u{1}");
        let mut expected = String::new();
        for part in guarded.split('<') {
            match part.split_once('>') {
                Some((_, rest)) => expected.extend([REDACTED, rest]),
                None => expected.push_str(part),
            }
        }
        let expected = expected.replace('\u{1}', ">");
        assert_eq!(recorded(&plain), expected, "of {plain}");
        assert_eq!(recorded(&expected), expected, "what was hidden stays as it is");
    }
}

#[test]
fn texts_without_secrets_are_recorded_as_they_are() {
    let texts = [
        "evicted 3 keys of 17",
        "listening on http://127.0.0.1:8080/",
        "http://localhost:8080/users/ann@example.com",
        "ssh://git@github.com/x/y",
        "error: no such file (os error 2) at src/main.rs:12:5",
        "std::auth::token::parse failed",
        "auth::login took 3 ms",
        "bearer token expired",
        "Bearer authentication failed",
        "basic authentication",
        "prompt_tokens=12 completion_tokens: 7",
        "token_count=3, className: Foo",
        "{\"className\": \"x\", \"author\": \"ann\"}",
        "token:",
        "password= ",
        "password=\"\" x",
        "a -- b --verbose c",
        "12:30:45 started",
        "[::1]:8080 http://[::1]:8080/a@b",
        "key=5 code=7 sig=9 pass=1",
        "GET /items/:id",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "a, b, c; d = e",
        "",
        "=",
        "::",
    ];
    for text in texts {
        assert_eq!(recorded(text), text);
    }
}

#[test]
fn a_secret_that_a_text_is_cut_in_is_hidden() {
    for before in 900..1100 {
        let text = format!("{} postgres://ann:hunter2@db/x", "x".repeat(before));
        let kept = recorded(&text);
        assert!(!cut(&kept, MAX_TEXT).contains(":h"), "{before}");
        let text = text.replace("hunter2", "1234567");
        assert!(!cut(&recorded(&text), MAX_TEXT).contains(":1"), "{before}");
    }
    let text = format!("password={} tail {}", "x".repeat(1000), "y".repeat(5000));
    let short = recorded(&text);
    assert!(short.starts_with("password=[redacted] tail yyy") && short.len() > MAX_TEXT);
    let text = format!("password={}", "x".repeat(9000));
    let short = recorded(&text);
    assert!(short.starts_with("password=[redacted] ") && short.len() > MAX_TEXT, "seen to be cut");
}

#[test]
fn the_command_lines_arguments_are_looked_at_one_after_the_other() {
    let given = [
        "shop",
        "--password",
        "hunter2",
        "--token=abc",
        "-v",
        "--pin",
        "--port",
        "80",
        "API_KEY=x",
        "postgres://a:b@h/d",
        "--secret-file",
        "/run/x",
        "--no-auth",
        "y",
    ];
    let kept = [
        "shop",
        "--password",
        "[redacted]",
        "--token=[redacted]",
        "-v",
        "--pin",
        "--port",
        "80",
        "API_KEY=[redacted]",
        "postgres://a:[redacted]@h/d",
        "--secret-file",
        "/run/x",
        "--no-auth",
        "y",
    ];
    let mut arguments = Arguments::default();
    let scrubbed: Vec<_> = given.iter().map(|a| arguments.scrubbed((*a).to_owned())).collect();
    assert_eq!(scrubbed, kept);
}

/// Fragments of texts with secrets that are hard to tell apart.
fn adversarial() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "password",
        "token",
        "authorization",
        "cookie",
        "Bearer ",
        "Basic ",
        "--password",
        "://",
        "@",
        ":",
        "=",
        "\"",
        "\\",
        "\\\"",
        "'",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ",",
        ";",
        "&",
        "?",
        " ",
        "\n",
        "%3D",
        "eyJ",
        ".",
        "-----BEGIN PRIVATE KEY-----",
        "-----END",
        "ü",
        "😀",
        "x",
        "1",
        "[redacted]",
        "Some(",
        "\\r\\n",
        "\0",
        "credit card",
        "http",
    ]);
    prop::collection::vec(parts, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn whatever_the_text_is_what_is_hidden_is_whole_in_order_and_stays_hidden(text in adversarial()) {
        let mut from = 0;
        for found in text::Secrets::new(&text, text.len() % 2 == 0) {
            prop_assert!(found.start >= from && found.end > found.start);
            prop_assert!(text.get(found.clone()).is_some(), "{found:?} is not of whole characters");
            from = found.end;
        }
        recorded(&text);
    }

    #[test]
    fn any_text_is_taken(text: String) {
        recorded(&text);
    }

    #[test]
    fn a_value_without_blanks_is_never_shown(value in "[a-zA-Z0-9$!*+/~^#?<-]{1,40}", tail in "( [a-z]{0,9})?") {
        for text in [format!("password={value}{tail}"), format!("a \"token\": \"{value}\"{tail}")] {
            let kept = recorded(&text);
            prop_assert!(!kept.contains(&value) || value.len() < 3 || "[redacted] password token".contains(&value), "{kept}");
        }
    }
}

/// A quarter of a MiB takes milliseconds; quadratic time would be minutes.
#[test]
fn the_scan_is_linear_in_the_text() {
    let parts = [
        "password=",
        "a:b@",
        "x://",
        "a://b:x/",
        "://a:b",
        "\"",
        "\\",
        "\\\"",
        "--password ",
        "Bearer ",
        "token: [",
        "a,b,c,",
        "a;",
        "password,",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "%3D",
        "a ",
        "(\"a\",",
        "x",
        "credit card ",
        "((",
        "=\"",
        "cookie: ",
        "\\r\\n",
        "?key=&",
        " ",
    ];
    for part in parts {
        let text = part.repeat((1 << 18) / part.len());
        let began = std::time::Instant::now();
        std::hint::black_box(text::Secrets::new(&text, true).count());
        assert!(began.elapsed().as_secs() < 30, "{part:?} takes {:?}", began.elapsed());
    }
}
