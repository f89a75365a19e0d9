use super::*;
use lookback_snapshot::wire::{CounterGroup, Level};
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

mod trigger_lists;

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
        ("LOOKBACK_STACKS", "off"),
        ("LOOKBACK_ASYNC_STACKS", "off"),
        ("LOOKBACK_CPU_HZ", "250"),
        ("LOOKBACK_LOCK_WAITS", "250us"),
        ("LOOKBACK_SYSTEM_COUNTERS", "memory, Cgroup"),
        ("LOOKBACK_ERROR_STACKS", "7"),
        ("LOOKBACK_SPAWN_STACKS", "1000"),
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
    assert!(!builder.stacks && Builder::default().stacks);
    assert!(!builder.async_stacks && Builder::default().async_stacks);
    assert_eq!((builder.cpu_samples, Builder::default().cpu_samples), (250, 0));
    assert_eq!(builder.lock_waits, Duration::from_micros(250));
    assert_eq!(Builder::default().lock_waits, Duration::from_millis(1));
    assert_eq!(with(&[("LOOKBACK_LOCK_WAITS", "off")]).unwrap().lock_waits, Duration::MAX);
    let groups: Vec<_> = builder.system_counters.iter().map(CounterGroup::name).collect();
    assert_eq!(groups, ["memory", "cgroup"]);
    assert_eq!(Builder::default().system_counters.iter().count(), CounterGroup::ALL.len());
    assert_eq!((builder.error_stacks, Builder::default().error_stacks), (7, 10));
    assert_eq!((builder.spawn_stacks, Builder::default().spawn_stacks), (1000, 0));
    for part in ["window: 90s", "max_bytes: 67108864", "Some(250ms)", "Some(\"/some where\")"] {
        assert!(settings.contains(part), "{part} in {settings}");
    }
}

#[test]
fn names_are_hidden_and_revealed_from_the_environment() {
    let rules = |text| with(&[("LOOKBACK_REDACT", text)]).expect("it is valid").redaction;
    let some = rules("email, customer_id; ! auth,");
    assert_eq!(
        (some.redact, some.reveal),
        (vec!["email".into(), "customer_id".into()], vec!["auth".into()])
    );
    assert!(rules("off").reveal_all && !rules("on").reveal_all && rules("on").redact.is_empty());
    let wrong = refused("LOOKBACK_REDACT", "email, ___");
    assert!(
        wrong.contains("`___`: a name must contain a letter")
            && wrong.contains("`email, customer_id, !auth`")
    );
}

#[test]
fn groups_of_counters_are_turned_on_by_name_and_all_together() {
    let count = |text| {
        let set = with(&[("LOOKBACK_SYSTEM_COUNTERS", text)]).expect("it is valid");
        set.system_counters.iter().count()
    };
    let all = CounterGroup::ALL.len();
    assert_eq!([count("all"), count("on"), count("none"), count("off")], [all, all, 0, 0]);
    assert_eq!(count("machine;network, machine,"), 2);
    let wrong = refused("LOOKBACK_SYSTEM_COUNTERS", "memory, disk");
    assert!(wrong.contains("disk") && wrong.contains("is no group of counters; expected all"));
}

#[test]
fn a_program_that_reveals_everything_reveals_nothing_if_the_environment_says_so() {
    for (text, reveals) in [("on", false), ("email", false), ("!auth", false), ("off", true)] {
        let variables = [("LOOKBACK_REDACT".into(), text.into())];
        let builder = apply(Builder::default().reveal_secrets(), variables.into_iter()).unwrap();
        assert_eq!(builder.redaction.reveal_all, reveals, "{text}");
    }
}

#[test]
fn what_is_injected_for_a_service_that_is_named_lookback_is_not_ours() {
    // As the kubelet writes them, for a service `lookback` with a named port, for a service
    // `lookback-run`, for `lookback-window`, and for one with an IPv6 address.
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
    // Something only similar is a mistyped variable, and is reported.
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
        assert!(refused(name, value).contains("no such variable"), "{name}");
    }
    // And the recorder's own variables stay its own, whatever they hold.
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
fn a_switch_is_on_or_off() {
    let all = |texts: &[&str], said| texts.iter().all(|text| values::switch(text).ok() == said);
    assert!(all(&["on", "ON", " 1 ", "true", "yes"], Some(true)));
    assert!(all(&["off", "0", "False", "no"], Some(false)));
    assert!(all(&["", "2", "onoff"], None));
}

/// What one variable takes, and what it refuses.
struct Row {
    name: &'static str,
    /// Values that change what a recorder does unless it is told anything.
    taken: &'static [&'static str],
    /// Values out of range, then nonsense, with what is wrong with each.
    refused: &'static [(&'static str, &'static str)],
    /// What every error ends in: what would be right.
    right: &'static str,
}

const SWITCH: &str = "expected on or off";

/// All variables, in the order of the documentation.
const ROWS: &[Row] = &[
    Row {
        name: "WINDOW",
        taken: &["1ms", "30s", "1.5m", " 168 h "],
        refused: &[
            ("999us", "must be between 1ms and 168h"),
            ("169h", "must be between 1ms and 168h"),
            ("99999999999999h", "`99999999999999h` is too long"),
            ("10", "`10` has no unit of time"),
            ("-10s", "`-10s` is not a time"),
            ("10 seconds", "`seconds` is not a unit of time"),
        ],
        right: "expected a time like 10s, 500ms or 2m",
    },
    Row {
        name: "MAX_BYTES",
        taken: &["256KiB", "16GiB", "64M", "262144"],
        refused: &[
            ("255KiB", "must be between 256KiB and 16GiB"),
            ("17GiB", "must be between 256KiB and 16GiB"),
            ("99999999999G", "`99999999999G` is too large"),
            ("1.5G", "`1.5G` is not a whole number of bytes"),
            ("-1", "`-1` is not a whole number of bytes"),
            ("much", "`much` is not a whole number of bytes"),
            ("32Mb/s", "`Mb/s` is not a unit of bytes"),
        ],
        right: "expected a number of bytes like 33554432, 32MiB or 32M",
    },
    Row {
        name: "GENERATION_PERIOD",
        taken: &["1ms", "2s", "1h"],
        refused: &[
            ("1us", "must be between 1ms and 1h"),
            ("61m", "must be between 1ms and 1h"),
            ("1", "`1` has no unit of time"),
            ("often", "`often` is not a time"),
        ],
        right: "expected a time like 1s or 500ms",
    },
    Row {
        name: "NAME",
        taken: &["shop", "the shop, ümlauts and all"],
        refused: &[(LONG, "it has 201 bytes")],
        right: "expected a name of at most 200 bytes",
    },
    Row {
        name: "SNAPSHOT_DIR",
        taken: &["/var/lib/shop", "relative to where it starts"],
        refused: &[("a\0b", "a path must not contain NUL")],
        right: "expected the path of a directory",
    },
    Row {
        name: "SNAPSHOT_FILES",
        taken: &["1", "99999999999"],
        refused: &[
            ("0", "must be at least 1"),
            ("99999999999999999999", "`99999999999999999999` is too large"),
            ("-1", "`-1` is not a whole number"),
            ("a few", "`a few` is not a whole number"),
        ],
        right: "expected a number of files like 32",
    },
    Row {
        name: "SNAPSHOT_BYTES",
        taken: &["1", "2GiB"],
        refused: &[
            ("0", "must be at least 1"),
            ("99999999999G", "`99999999999G` is too large"),
            ("a lot", "`a lot` is not a whole number of bytes"),
        ],
        right: "expected a number of bytes like 500MiB or 1GiB",
    },
    Row {
        name: "BLACK_BOX",
        taken: &["/dev/shm/shop.lookback"],
        refused: &[("a\0b", "a path must not contain NUL")],
        right: "expected the path of a file, best on a tmpfs like /dev/shm",
    },
    Row {
        name: "BLACK_BOXES_KEPT",
        taken: &["0", "7"],
        refused: &[
            ("99999999999999999999", "`99999999999999999999` is too large"),
            ("all", "`all` is not a whole number"),
        ],
        right: "expected a number of files like 3",
    },
    Row { name: "FATAL_SIGNALS", taken: &["off", "0", "No"], refused: NO_SWITCH, right: SWITCH },
    Row {
        name: "STACKS",
        taken: &["off", "0", "False", "blocked", " Blocked "],
        refused: NO_SWITCH,
        right: "expected on, off, or blocked",
    },
    Row { name: "ASYNC_STACKS", taken: &["off", "0", "No"], refused: NO_SWITCH, right: SWITCH },
    Row {
        name: "CPU_HZ",
        taken: &["1", " 100 ", "1000"],
        refused: &[
            ("1001", "must be between 0 and 1000"),
            ("on", "`on` is not a whole number"),
            ("100Hz", "`100Hz` is not a whole number"),
        ],
        right: "expected how many a second, like 100, or off",
    },
    Row {
        name: "HEAP_SAMPLES",
        taken: &["1024", "64KiB", "off", "0"],
        refused: &[("1000", "must be between 1024 and 18446744073709551615")],
        right: "expected a number of bytes like 512KiB, or off",
    },
    Row {
        name: "LOCK_WAITS",
        taken: &["100us", "2s", "off"],
        refused: &[("1", "`1` has no unit of time"), ("long", "`long` is not a time")],
        right: "expected a time like 1ms or 100us, or off",
    },
    Row {
        name: "SYSTEM_COUNTERS",
        taken: &["none", "off", "memory", "memory, Cgroup;network"],
        refused: &[
            ("disk", "`disk` is no group of counters"),
            ("memory cgroup", "`memory cgroup` is no group of counters"),
        ],
        right: "expected all, none, or groups like `memory, cgroup`: memory, process, descriptors, storage, pressure, cgroup, \
            network, machine",
    },
    Row {
        name: "ERROR_STACKS",
        taken: &["off", "0", "100", "Off"],
        refused: &[("-1", "`-1` is not a whole number"), ("on", "`on` is not a whole number")],
        right: "expected a number a second like 10, or off",
    },
    Row {
        name: "SPAWN_STACKS",
        taken: &["1", "1000"],
        refused: &[("-1", "`-1` is not a whole number"), ("on", "`on` is not a whole number")],
        right: "expected a number a second like 1000, or off",
    },
    Row {
        name: "MAX_TEXT_BYTES",
        taken: &["16", "1023", "500 B"],
        refused: &[
            ("15", "must be between 16 and 1024"),
            ("1025", "must be between 16 and 1024"),
            ("none", "`none` is not a whole number of bytes"),
        ],
        right: "expected a number of bytes like 100 or 200",
    },
    Row {
        name: "MAX_KEPT_FIELD_BYTES",
        taken: &["16", "239"],
        refused: &[
            ("15", "must be between 16 and 240"),
            ("241", "must be between 16 and 240"),
            ("none", "`none` is not a whole number of bytes"),
        ],
        right: "expected a number of bytes like 100 or 200",
    },
    Row {
        name: "MAX_FIELDS",
        taken: &["1", "63"],
        refused: &[
            ("0", "must be between 1 and 64"),
            ("65", "must be between 1 and 64"),
            ("8 B", "`8 B` is not a whole number"),
        ],
        right: "expected a number of fields like 16",
    },
    Row {
        name: "REDACT",
        taken: &["off", "email", "email, customer_id; !auth"],
        refused: &[("email, 77", "`77`: a name must contain a letter, and have at most 128 bytes")],
        right: "expected on, off, or names like `email, customer_id, !auth`",
    },
    Row {
        name: "TRIGGERS",
        taken: &["panic", "log=ERROR,cool_down=1s", "none"],
        refused: &[
            ("stalled_poll=1us", "`stalled_poll` needs at least 1ms"),
            ("sometimes", "unknown trigger `sometimes`"),
        ],
        right: "expected a list like `panic; log=ERROR; slow_span=request,500ms; \
            stalled_poll=100ms,cool_down=30s; signal=SIGUSR2`, or `none`",
    },
    Row { name: "ENABLED", taken: &["off", "false"], refused: NO_SWITCH, right: SWITCH },
    Row {
        name: "LEVEL",
        taken: &["off", "WARN", "5", "info,hyper=warn"],
        refused: &[
            ("6", "`6` is not a level"),
            ("wran", "`wran` is not a level"),
            ("my_crate=debug", "it contains no level that applies to all targets"),
        ],
        right: "expected off, error, warn, info, debug or trace",
    },
    Row {
        name: "FILTER",
        taken: &["warn", "hyper=warn", "info,my_crate"],
        refused: &[
            ("hyper=9", "`hyper=9`: `9` is not a level"),
            ("in fo", "`in fo` is neither a level nor a target"),
            ("[span]=info", "`[span]=info`: filtering by spans or fields is not supported"),
            (" , ", "it contains no directive"),
        ],
        right: "expected levels like info, or info,hyper=warn,my_crate=trace (off, error, warn, info, debug, trace)",
    },
];

const NO_SWITCH: &[(&str, &str)] =
    &[("2", "`2` is neither on nor off"), ("maybe", "`maybe` is neither on nor off")];
const LONG: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

#[test]
fn each_variable_is_taken_or_refused_in_a_line_that_names_it_its_value_and_what_would_be_right() {
    let names = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>();
    assert_eq!(
        names(&mut ROWS.iter().map(|row| format!("{PREFIX}{}", row.name))),
        names(&mut VARIABLES.iter().map(|variable| variable.name.to_owned())),
        "each variable has a row"
    );
    let untouched = format!("{:?}", Builder::default());
    assert_eq!(format!("{:?}", with(&[]).unwrap()), untouched);
    for row in ROWS {
        let name = format!("{PREFIX}{}", row.name);
        assert_eq!(format!("{:?}", with(&[(&name, "")]).unwrap()), untouched, "{name}, empty");
        for value in row.taken {
            let set = with(&[(&name, value)]);
            let set = set.unwrap_or_else(|error| panic!("{name} = {value}: {error}"));
            assert_ne!(format!("{set:?}"), untouched, "{name} = {value} changes something");
        }
        for (value, wrong) in row.refused {
            let shown = front(value, 100);
            let expected = format!("{name} = \"{shown}\": {wrong}; {}", row.right);
            assert_eq!(refused(&name, value), expected);
        }
        let not_a_text = [((&name).into(), OsString::from_vec(b"\xff".to_vec()))];
        let error = apply(Builder::default(), not_a_text.into_iter()).unwrap_err().to_string();
        assert_eq!(error, format!("{name} = \"\u{fffd}\": it is not UTF-8; {}", row.right));
    }
}

/// Each place that reads the environment is known, so no variable can be forgotten here.
#[test]
fn nothing_else_reads_the_environment() {
    fn look(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, found);
                continue;
            }
            // What tests read is theirs.
            if path.ends_with("tests.rs") {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            if source.lines().filter(is_code).any(|line| line.contains("env::var")) {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "../src", "../snapshot/src"] {
        look(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    found.sort_unstable();
    // The variables of this module; the socket of `lookback run`; a switch of this crate's tests.
    assert_eq!(found, ["fd_handoff.rs", "mod.rs", "testing.rs"]);
}

#[test]
fn variables_of_others_are_let_be() {
    let variables = [
        ("LOOKBACK_RUN_SOCKET", "x"),
        ("LOOKBACK_TEST_ALONE", "x"),
        ("LOOKBACK_LONG", "1"),
        ("LOOKBACK_GO", "/go"),
        ("LOOKBACK_GO_REQUIRED", "1"),
        ("LOOKBACK_PERFETTO", "/perfetto"),
        ("LOOKBACK_PERFETTO_REQUIRED", "1"),
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

/// Each value is valid on its own.
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
