use super::*;
use lookback_snapshot::wire::Level;
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

fn with(variables: &[(&str, &str)]) -> Result<Builder, Error> {
    let own = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    apply(Builder::default(), variables.iter().map(own))
}

fn refused(name: &str, value: &str) -> String {
    let error = with(&[(name, value)]).expect_err("it makes no sense").to_string();
    assert!(error.starts_with(&format!("{name} = \"")), "{error}");
    assert!(!error.contains('\n'), "{error}");
    error
}

/// The triggers in words.
fn triggers(list: &str) -> Vec<String> {
    let builder = with(&[("LOOKBACK_TRIGGERS", list)]).expect("it makes sense");
    builder.triggers.iter().map(|trigger| format!("{trigger:?}")).collect()
}

#[test]
fn every_variable_sets_what_it_says() {
    let builder = with(&[
        ("LOOKBACK_WINDOW", "1.5m"),
        ("LOOKBACK_MAX_BYTES", "64M"),
        ("LOOKBACK_GENERATION_PERIOD", "250ms"),
        ("LOOKBACK_NAME", "the shop"),
        ("LOOKBACK_SNAPSHOT_DIR", "/some where"),
        ("LOOKBACK_SNAPSHOT_FILES", "7"),
        ("LOOKBACK_SNAPSHOT_BYTES", " 2 GiB "),
        ("LOOKBACK_BLACK_BOX", "/dev/shm/shop"),
        ("LOOKBACK_BLACK_BOXES_KEPT", "0"),
        ("LOOKBACK_FATAL_SIGNALS", "off"),
        ("LOOKBACK_MAX_TEXT_BYTES", "200"),
        ("LOOKBACK_MAX_KEPT_FIELD_BYTES", "100 B"),
        ("LOOKBACK_MAX_FIELDS", "16"),
        ("LOOKBACK_TRIGGERS", "panic"),
        ("LOOKBACK_ENABLED", "on"),
        ("LOOKBACK_LEVEL", "debug"),
        ("LOOKBACK_FILTER", "hyper=warn,my_crate=trace"),
        ("PATH", "ignored"),
    ]);
    let builder = builder.unwrap();
    let bounds = builder.snapshot_bounds;
    assert_eq!((bounds.files, bounds.bytes, builder.triggers.len()), (7, 2 << 30, 1));
    assert_eq!(builder.limits, Limits { text: 200, kept: 100, fields: 16 });
    let settings = format!("{builder:?}");
    assert_eq!(builder.black_box.as_deref(), Some("/dev/shm/shop".as_ref()));
    assert_eq!((builder.black_boxes_kept, builder.fatal_signals), (0, false));
    for part in ["window: 90s", "max_bytes: 67108864", "Some(250ms)", "Some(\"/some where\")"] {
        assert!(settings.contains(part), "{part} in {settings}");
    }
}

#[test]
fn limits_beyond_what_there_is_room_for_are_refused() {
    let wrong = [
        ("LOOKBACK_MAX_TEXT_BYTES", "15", "16 to 1024 are possible"),
        ("LOOKBACK_MAX_TEXT_BYTES", "2k", "16 to 1024 are possible"),
        ("LOOKBACK_MAX_KEPT_FIELD_BYTES", "241", "16 to 240 are possible"),
        ("LOOKBACK_MAX_FIELDS", "0", "1 to 64 are possible"),
        ("LOOKBACK_MAX_FIELDS", "65", "1 to 64 are possible"),
        ("LOOKBACK_MAX_FIELDS", "8 B", "a number of fields like 16 is expected"),
    ];
    for (name, value, expected) in wrong {
        let error = refused(name, value);
        assert!(error.contains(expected), "{error}");
    }
    for (name, value) in [("LOOKBACK_MAX_TEXT_BYTES", "1k"), ("LOOKBACK_MAX_FIELDS", "64")] {
        assert!(with(&[(name, value)]).is_ok(), "{name}");
    }
}

#[test]
fn names_are_hidden_and_revealed_from_the_environment() {
    let rules = |text| with(&[("LOOKBACK_REDACT", text)]).expect("it makes sense").redaction;
    let some = rules("email, customer_id; ! auth,");
    assert_eq!((some.redact, some.reveal), (vec!["email".into(), "customer_id".into()], vec!["auth".into()]));
    assert!(rules("off").reveal_all && !rules("on").reveal_all && rules("on").redact.is_empty());
    let wrong = refused("LOOKBACK_REDACT", "email, ___");
    assert!(wrong.contains("`___`: a name has a letter") && wrong.contains("`email, customer_id, !auth`"));
}

#[test]
fn what_is_injected_for_a_service_that_is_named_lookback_is_not_ours() {
    // As the kubelet writes them, of a service `lookback` with a port that has a name, of one `lookback-run`, of
    // one `lookback-window`, and of one with an address of version 6.
    let injected = [
        ("LOOKBACK_SERVICE_HOST", "10.0.0.1"),
        ("LOOKBACK_SERVICE_PORT", "80"),
        ("LOOKBACK_SERVICE_PORT_HTTP_ADMIN", "80"),
        ("LOOKBACK_PORT", "tcp://10.0.0.1:80"),
        ("LOOKBACK_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("LOOKBACK_PORT_80_TCP_PROTO", "tcp"),
        ("LOOKBACK_PORT_80_TCP_PORT", "80"),
        ("LOOKBACK_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("LOOKBACK_PORT_53_UDP", "udp://10.0.0.1:53"),
        ("LOOKBACK_RUN_PORT", "tcp://10.0.0.2:9100"),
        ("LOOKBACK_WINDOW_SERVICE_HOST", "fd00::1"),
        ("LOOKBACK_WINDOW_PORT", "tcp://[fd00::1]:80"),
        ("LOOKBACK_WINDOW_PORT_80_TCP", "tcp://fd00::1:80"),
        ("LOOKBACK_WINDOW_PORT_80_TCP_ADDR", "fd00::1"),
    ];
    let untouched = format!("{:?}", Builder::default());
    assert_eq!(format!("{:?}", with(&injected).expect("none is ours")), untouched);
    for (name, value) in injected {
        assert!(distrust([(name.into(), value.into())].into_iter()).is_ok(), "{name}");
    }
    // What only looks a bit like one is mistyped, and said.
    let mistyped = [
        ("LOOKBACK_PORT", "9100"),
        ("LOOKBACK_PORT", "http://10.0.0.1:80"),
        ("LOOKBACK_SERVICE_HOST", "shop"),
        ("LOOKBACK_SERVICE_PORT", "http"),
        ("LOOKBACK_PORT_80_TCP", "80"),
        ("LOOKBACK_PORT_X_TCP_PORT", "80"),
        ("LOOKBACK_TCP", "tcp://10.0.0.1:80"),
        ("LOOKBACK_SERVICE", "10.0.0.1"),
    ];
    for (name, value) in mistyped {
        assert!(refused(name, value).contains("there is no such variable"), "{name}");
    }
    // And one of ours stays one, whatever is in it.
    refused("LOOKBACK_WINDOW", "tcp://10.0.0.1:80");
}

#[test]
fn a_program_that_runs_as_another_user_trusts_no_variable() {
    let distrust = |name: &str, value: &str| distrust([(name.into(), value.into())].into_iter());
    assert!(distrust("PATH", "/bin").is_ok() && distrust("LOOKBACK_BLACK_BOX", "").is_ok());
    let error = distrust("LOOKBACK_BLACK_BOX", "/etc/cron.d/x").unwrap_err().to_string();
    assert!(
        error.starts_with("LOOKBACK_BLACK_BOX = \"/etc/cron.d/x\": the program runs as another")
    );
    assert!(!rights::are_raised(), "this one does not");
}

#[test]
fn what_is_not_set_stays_as_code_has_it() {
    let builder = Builder::default().window(Duration::from_secs(3)).snapshot_limits(5, 6);
    let variables = [("LOOKBACK_SNAPSHOT_FILES", "9"), ("LOOKBACK_WINDOW", "")];
    let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
    let builder = apply(builder, variables).unwrap();
    assert!(format!("{builder:?}").contains("window: 3s"));
    assert_eq!((builder.snapshot_bounds.files, builder.snapshot_bounds.bytes), (9, 6));
}

#[test]
fn times_and_bytes_have_the_usual_units() {
    let nanos = |text| duration(text).map(|duration| duration.as_nanos());
    let expected = [
        ("10s", 10_000_000_000),
        ("500ms", 500_000_000),
        ("2m", 120_000_000_000),
        ("2 min", 120_000_000_000),
        ("1.25h", 4_500_000_000_000),
        ("0.0000000001s", 0),
        ("7us", 7_000),
        ("7µs", 7_000),
        ("0ns", 0),
    ];
    expected.iter().for_each(|(text, nanos_of)| assert_eq!(nanos(text), Ok(*nanos_of), "{text}"));
    for wrong in ["", "s", "10", "-1s", "1..2s", ".s", "1.s", "1e3s", "10S", "99999999999h"] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
    let of = [("33554432", 32 << 20), ("1k", 1024), ("1kB", 1000), ("3GiB", 3 << 30), ("5 b", 5)];
    of.iter().for_each(|(text, bytes_of)| assert_eq!(bytes(text), Ok(*bytes_of), "{text}"));
    for wrong in
        ["", "MiB", "-1", "1.5G", "1TB", "0x10", "99999999999999G", "9".repeat(40).as_str()]
    {
        assert!(bytes(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_trigger_has_its_words() {
    let second = Duration::from_secs(1);
    let said = |trigger: crate::Trigger| format!("{trigger:?}");
    use crate::Trigger as T;
    let expected = [
        ("panic", T::panic()),
        ("error,per_hour=3", T::error().per_hour(3)),
        ("log=ERROR", T::log(Level::Error)),
        ("log=warn,target=shop::pay", T::log(Level::Warn).target("shop::pay")),
        ("slow_span=request,500ms", T::slow_span("request", second / 2)),
        ("slow_region = parse , 20ms", T::slow_region("parse", second / 50)),
        (
            "stalled_poll=100ms,cool_down=30s,per_hour=5,delay=1s",
            T::stalled_poll(second / 10).cool_down(second * 30).per_hour(5).delay(second),
        ),
        ("signal", T::signal()),
        ("signal=SIGUSR2", T::signal_number(libc::SIGUSR2)),
        ("signal=hup", T::signal_number(libc::SIGHUP)),
        ("signal=40", T::signal_number(40)),
    ];
    for (text, trigger) in &expected {
        assert_eq!(triggers(text), [said(trigger.clone())], "{text}");
    }
    let list: Vec<_> = expected.iter().map(|(text, _)| *text).collect();
    assert_eq!(triggers(&format!(" ;{} ; ", list.join(";"))).len(), expected.len());
    assert!(triggers("none").is_empty() && triggers(" ; ").is_empty());
}

#[test]
fn a_switch_is_on_or_off() {
    let all = |texts: &[&str], said| texts.iter().all(|text| values::switch(text).ok() == said);
    assert!(all(&["on", "ON", " 1 ", "true", "yes"], Some(true)));
    assert!(all(&["off", "0", "False", "no"], Some(false)));
    assert!(all(&["", "2", "onoff"], None));
}

#[test]
fn signals_that_have_a_name_can_be_used() {
    for (name, number) in triggers::SIGNALS {
        assert!(crate::Trigger::signal_number(number).check(Duration::MAX).is_ok(), "{name}");
    }
}

#[test]
fn none_takes_away_what_code_has_set() {
    let builder = Builder::default().trigger(crate::Trigger::error()).snapshot_dir("x");
    let variables = [("LOOKBACK_TRIGGERS".into(), "none; signal".into())];
    let builder = apply(builder, variables.into_iter()).unwrap();
    assert_eq!(builder.triggers.len(), 1);
    assert!(format!("{:?}", builder.triggers).contains("Signal"));
}

#[test]
fn what_is_not_understood_is_told_in_words() {
    let expected = [
        ("WINDOW", "10", "`10` has no unit of time; a time like 10s"),
        ("WINDOW", "10x", "`x` is no unit of time; a time like"),
        ("WINDOW", "soon", "`soon` is no time; "),
        ("WINDOW", "0s", "1ms to 168h make sense"),
        ("GENERATION_PERIOD", "2h", "1ms to 1h make sense"),
        ("MAX_BYTES", "10", "256KiB to 16GiB make sense; a number of bytes like"),
        ("MAX_BYTES", "many", "`many` is no number of bytes"),
        ("MAX_BYTES", "1PiB", "`PiB` is no unit of bytes"),
        ("SNAPSHOT_FILES", "0", "1 at least"),
        ("SNAPSHOT_FILES", "few", "`few` is no whole number; a number of files like 32"),
        ("SNAPSHOT_BYTES", "0", "1 at least"),
        ("BLACK_BOXES_KEPT", "all", "`all` is no whole number"),
        ("FATAL_SIGNALS", "maybe", "`maybe` is neither on nor off; on or off is expected"),
        ("TRIGGERS", "painc", "there is no trigger `painc`; a list like `panic;"),
        ("TRIGGERS", "panic; none", "`none` must be the first"),
        ("TRIGGERS", "panic=1", "`panic` has nothing behind a `=`"),
        ("TRIGGERS", "log", "`log` needs a level"),
        ("TRIGGERS", "log=LOUD", "no level `LOUD`; there are ERROR, WARN"),
        ("TRIGGERS", "slow_span=request", "`slow_span` needs a time after the name"),
        ("TRIGGERS", "slow_span=request,fast", "`fast` is no time"),
        ("TRIGGERS", "slow_span,1s", "`slow_span` needs a name"),
        ("TRIGGERS", "slow_region=parse,0s", "a limit of nothing"),
        ("TRIGGERS", "stalled_poll=1us", "1ms at least"),
        ("TRIGGERS", "signal=SIGKILL", "`SIGKILL` is no signal that can be used"),
        ("TRIGGERS", "signal=11", "`11` is no signal"),
        ("TRIGGERS", "panic,cooldown=1s", "`panic` has no `cooldown`; there are cool_down,"),
        ("TRIGGERS", "panic,cool_down=1", "cool_down: `1` has no unit of time"),
        ("TRIGGERS", "panic,per_hour=-1", "per_hour: `-1` is no whole number"),
        ("TRIGGERS", "panic,target=shop", "`panic` has no target; `log` has"),
        ("TRIGGERS", ",", "nothing before the `,`"),
        ("WINDWO", "10s", "no such variable; LOOKBACK_WINDOW is the nearest"),
        ("window", "10s", "no such variable; LOOKBACK_WINDOW is the nearest"),
        ("MAXBYTES", "10", "LOOKBACK_MAX_BYTES is the nearest"),
    ];
    for (name, value, reason) in expected {
        let error = refused(&format!("LOOKBACK_{name}"), value);
        assert!(error.contains(reason), "{error}\nlacks {reason}");
    }
    let long = refused("LOOKBACK_WINDOW", &"\n".repeat(10_000));
    assert!(long.len() < 500, "{long}");
}

#[test]
fn what_is_not_utf_8_is_refused() {
    let variables = [("LOOKBACK_NAME".into(), OsString::from_vec(b"\xff\xfe".to_vec()))];
    let error = apply(Builder::default(), variables.into_iter()).unwrap_err().to_string();
    assert!(error.starts_with("LOOKBACK_NAME = ") && error.contains("not UTF-8"), "{error}");
}

#[test]
fn variables_of_others_are_let_be() {
    let variables = [
        ("LOOKBACK_RUN_SOCKET", "x"),
        ("LOOKBACK_TEST_ALONE", "x"),
        ("LOOKBACK_LONG", "1"),
        ("LOOKBACK_GO", "/go"),
        ("LOOKBACK_GO_REQUIRED", "1"),
        ("LOOKBACK_UNKNOWN_BUT_EMPTY", ""),
        ("LOOKBACKWARDS", "x"),
    ];
    assert!(with(&variables).is_ok());
}

#[test]
fn the_documentation_has_every_variable() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/environment.md");
    let page = std::fs::read_to_string(path).expect("it lies beside the sources");
    for variable in VARIABLES {
        assert!(page.contains(&format!("`{}`", variable.name)), "{}", variable.name);
    }
    let documented = page.lines().filter(|line| line.starts_with("| `LOOKBACK_")).count();
    assert_eq!(documented, VARIABLES.len());
}

fn any_name() -> impl Strategy<Value = OsString> {
    prop_oneof![
        prop::sample::select(VARIABLES.iter().map(|v| v.name).collect::<Vec<_>>())
            .prop_map(OsString::from),
        "LOOKBACK_[A-Z_]{0,20}".prop_map(OsString::from),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| { OsString::from_vec([PREFIX.as_bytes(), &bytes].concat()) }),
    ]
}

fn any_value() -> impl Strategy<Value = OsString> {
    let words = "(panic|error|log|slow_span|slow_region|stalled_poll|signal|none|target|cool_down|\
        per_hour|delay|ERROR|SIGHUP|[0-9]{1,30}|[.]|s|ms|h|G|MiB|=|,|;| ){0,12}";
    prop_oneof![
        words.prop_map(OsString::from),
        ".{0,60}".prop_map(OsString::from),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(OsString::from_vec),
    ]
}

#[test]
fn what_fuzzing_began_with_and_found_is_refused_in_one_line_or_taken() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/environment");
    let mut taken = 0;
    for entry in std::fs::read_dir(corpus).expect("it lies beside the sources") {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        let lines = input.split(|byte| *byte == b'\n').filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'=')?;
            let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            Some((text(&line[..at]), text(&line[at + 1..])))
        });
        match apply(Builder::default(), lines) {
            Ok(_) => taken += 1,
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
    assert!(taken > 0);
}

/// Each of them makes sense alone.
#[test]
fn a_window_and_a_period_that_do_not_go_together_are_an_error_at_the_start() {
    let of = |window: &str| {
        let pair = [("LOOKBACK_WINDOW", window), ("LOOKBACK_GENERATION_PERIOD", "1s")];
        apply(Builder::default(), pair.into_iter().map(|(name, value)| (name.into(), value.into())))
    };
    let error = of("1h").unwrap().start().expect_err("it does not start").to_string();
    assert!(error.starts_with("generation_period = 1s with window = 3600s: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_set_is_understood_or_named(
        variables in prop::collection::vec((any_name(), any_value()), 0..4)
    ) {
        if let Err(error) = apply(Builder::default(), variables.iter().cloned()) {
            let Error::Environment { variable, .. } = &error else {
                panic!("another error: {error}");
            };
            let names = |(name, _): &(OsString, OsString)| {
                front(&name.to_string_lossy(), 100) == *variable
            };
            prop_assert!(variables.iter().any(names), "{error}");
            let text = error.to_string();
            prop_assert!(text.starts_with(variable.as_str()));
            prop_assert!(!text.contains(['\n', '\r', '\0']), "{text:?}");
        }
    }
}
