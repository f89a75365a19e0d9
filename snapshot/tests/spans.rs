//! The rules of spans, one at a time.
#![cfg(feature = "read")]

mod written;

use lookback_snapshot::wire::Generation;
use lookback_snapshot::{EventKind, Trace};
use written::{assert_found, assert_one, complete, events, incomplete, trace};

const CALLSITES: &str = r#"
callsite id=1 name="request" file="src/http.rs" line=7 target="shop::http" level=3 fields=["path", "status"]
callsite id=2 name="query" file="src/db.rs" line=8 target="shop::db" level=3 fields=["rows"]
"#;

/// Two threads, in slots 1 and 2; `second` has the events of the second one.
fn threads(first: &str, second: &str) -> String {
    let thread = |number: u32| {
        format!(
            "block slot={number} thread={number}\n\
             @{number} thread_start thread={number} os_thread=4 name=\"t{number}\"\n"
        )
    };
    let other = if second.is_empty() { String::new() } else { thread(2) + second };
    format!("{}{CALLSITES}{first}\n{other}", thread(1))
}

#[track_caller]
fn assert_spans(first: &str, words: &[&str]) {
    assert_one(&threads(first, ""), words);
}

const CREATE: &str = "@10 span_create span=1 incarnation=1 site=1 fields={0: \"/cart\"}\n";

#[test]
fn a_span_lives_from_its_creation_to_its_end() {
    let life = format!(
        "{CREATE}@20 span_enter\n@21 span_create span=2 incarnation=1 site=2 fields={{}}\n\
         @22 span_enter\n@23 span_exit\n@24 span_close\n\
         @25 span_record span=1 incarnation=1 site=1 fields={{1: 200, 1: 503}}\n@26 span_exit\n\
         @27 span_create span=2 incarnation=2 parent=0 parent_incarnation=0 site=2 fields={{}}\n\
         @28 span_follows span=2 incarnation=2 from=1 from_incarnation=1\n\
         @29 span_enter span=2 incarnation=2\n\
         @30 log span=1 incarnation=1 level=4 site=1 message=\"slow\" fields={{1: 504}}\n\
         @31 log level=3 site=2 message=\"done\" fields={{0: 7}}\n\
         @32 span_exit span=2 incarnation=2\n@33 span_close span=1 incarnation=1\n\
         @34 span_close span=2 incarnation=2"
    );
    let text = complete(1, &threads(&life, ""));
    assert_found(&text, &[]);
    let expected = [
        "thread_start t1",
        "span_create 1",
        "span_enter 1",
        "span_create 2 in 1",
        "span_enter 2",
        "span_exit 2",
        "span_close 2",
        "span_record 1",
        "span_exit 1",
        "span_create 2.2",
        "span_follows 2.2 from 1",
        "span_enter 2.2",
        "log shop::http",
        "log shop::db",
        "span_exit 2.2",
        "span_close 1",
        "span_close 2.2",
    ];
    assert_eq!(events(&text), expected);
    let trace = trace(&text);
    let all: Vec<_> = trace.events().map(Result::unwrap).collect();
    let within: Vec<_> =
        all.iter().map(|event| event.span().map_or("-".to_owned(), |s| s.to_string())).collect();
    let expected =
        ["-", "-", "1", "1", "2", "2", "1", "1", "1", "-", "-", "2.2", "1", "2.2", "2.2", "-", "-"];
    assert_eq!(within, expected);
    assert_eq!((all[4].name(), all[7].name()), ("query", "request"));
    let fields = |at: usize| -> Vec<String> {
        all[at].fields().map(|(name, value)| format!("{name}={value}")).collect()
    };
    assert_eq!(fields(1), ["path=/cart"]);
    assert_eq!(fields(7), ["status=503"]);
    assert_eq!(fields(12), ["level=warn", "message=slow", "status=504"]);
}

#[test]
fn a_span_that_nobody_stated_does_not_exist() {
    let unknown = ["span 7: it has no status and was not created"];
    assert_spans("@20 span_enter span=7 incarnation=1\n@21 span_exit", &unknown);
    assert_spans("@20 span_record span=7 incarnation=1 site=1 fields={}", &unknown);
    assert_spans("@20 span_close span=7 incarnation=1", &unknown);
    assert_spans("@20 log span=7 incarnation=1 level=3 site=1 message=\"x\" fields={}", &unknown);
    // Nothing but the name of a parent need be known.
    assert_spans(
        "@20 span_create span=1 incarnation=1 parent=9 parent_incarnation=4 site=1 fields={}",
        &[],
    );
    let stated =
        "span_status#57 span=7 incarnation=1 parent=0 parent_incarnation=0 ago=5 site=1 fields={}";
    assert_spans(&format!("{stated}\n@20 span_enter span=7 incarnation=1\n@21 span_exit"), &[]);
}

/// A thread that opened its block before another one created the span cannot say when it began.
#[test]
fn of_two_statuses_the_one_that_knows_the_begin_counts() {
    let named = |slot: u32, base: u64, ago: u64| {
        format!(
            "block slot={slot} thread={slot} base={base}\n\
             @1 thread_start thread={slot} os_thread=4 name=\"t\"\n\
             span_status span=7 incarnation=1 parent=0 parent_incarnation=0 ago={ago} site=1 fields={{}}\n\
             @9 span_enter span=7 incarnation=1\n@10 span_exit\n"
        )
    };
    let (early, late) = (named(1, 0, 0), named(2, 100, 20));
    for text in [format!("{early}{CALLSITES}{late}"), format!("{late}{CALLSITES}{early}")] {
        let text = complete(1, &text);
        assert_found(&text, &[]);
        let trace = trace(&text);
        let generation = trace.generation(Generation(1)).unwrap();
        let began: Vec<_> = generation.spans().map(|status| status.began.0).collect();
        // A tick is 5 ns.
        assert_eq!(began, [(written::PERIOD + 80) * 5]);
    }
    // A statement that it began earlier than another one knows is wrong.
    let earlier = complete(1, &format!("{}{CALLSITES}{late}", named(1, 0, 3)));
    assert_found(&earlier, &["span 7 has two statuses that differ"]);
    let later = complete(1, &format!("{}{CALLSITES}{late}", named(1, 90, 0)));
    assert_found(&later, &["span 7 has two statuses that differ"]);
}

#[test]
fn a_thread_leaves_what_it_is_inside_of() {
    let of_none = "the thread leaves a span, and is inside of none";
    assert_spans("@20 span_exit", &[of_none]);
    assert_spans(
        &format!("{CREATE}@20 span_exit span=1 incarnation=1"),
        &["span 1: the thread leaves it, and is not inside of it"],
    );
    assert_spans(
        &format!(
            "{CREATE}@20 span_enter\n@21 span_create span=2 incarnation=1 site=2 fields={{}}\n\
             @22 span_enter\n@23 span_exit span=1 incarnation=1\n@24 span_exit\n@25 span_close\n\
             @26 span_close span=1 incarnation=1"
        ),
        &[],
    );
    assert_spans("@20 span_enter", &["it refers to a span of the thread that there is none of"]);
    assert_spans("@20 span_close", &["it refers to a span of the thread that there is none of"]);
    // A span may be entered many times, on many threads.
    let second = "@30 span_enter span=1 incarnation=1\n@31 span_enter span=1 incarnation=1\n@33 span_exit\n@34 span_exit";
    let first = format!("{CREATE}@20 span_enter\n@32 span_exit\n@40 span_close");
    assert_one(&threads(&first, second), &[]);
}

#[test]
fn nothing_happens_to_a_span_behind_its_end() {
    let over = format!("{CREATE}@20 span_close span=1 incarnation=1\n");
    assert_spans(&format!("{over}@21 span_close span=1 incarnation=1"), &["span 1: it is over"]);
    assert_spans(
        &format!("{over}@21 span_enter span=1 incarnation=1\n@22 span_exit"),
        &["span 1: it ends, and 1 events that name it are to come"],
    );
    assert_spans(
        &format!("{CREATE}@20 span_enter\n@21 span_close span=1 incarnation=1\n@22 span_exit"),
        &["span 1: it ends, and a thread is inside of it"],
    );
    assert_spans(
        &format!("{CREATE}@21 span_create span=1 incarnation=2 site=1 fields={{}}"),
        &["span 1.2: it is there already"],
    );
    assert_spans(
        &format!("{over}@21 span_create span=1 incarnation=3 site=1 fields={{}}"),
        &["span 1.3: incarnation 3; 2 was to come"],
    );
}

const STATED: &str = "span_status span=1 incarnation=1 parent=0 parent_incarnation=0 ago=999990 site=1 fields={0: \"/cart\", 1: 200}";

fn second(status: &str, entered: &str) -> String {
    complete(
        2,
        &format!(
            "block slot=0\n{CALLSITES}thread_status thread=1 os_thread=4 name=\"t1\"\n{entered}\n{status}"
        ),
    )
}

#[test]
fn spans_of_a_generation_are_those_that_the_one_before_left() {
    let body = format!(
        "{CREATE}@20 span_record span=1 incarnation=1 site=1 fields={{1: 200}}\n@30 span_enter"
    );
    let first = complete(1, &threads(&body, ""));
    let entered = "span_entered span=1 incarnation=1";
    let found = |status: &str, entered: &str, words: &[&str]| {
        assert_found(&format!("{first}{}", second(status, entered)), words);
        assert_found(&second(status, entered), &[]);
    };
    found(STATED, entered, &[]);
    found(&STATED.replace(", 1: 200", ""), entered, &[]);
    let part = STATED.replace("span_status", "span_status#57");
    found(&part.replace("{0: \"/cart\", 1: 200}", "{}"), entered, &[]);
    found(&part.replace("200", "404"), entered, &[]);
    found(&STATED.replace("\"/cart\"", "\"/c\"…"), entered, &[]);
    let other = "another value of status than generation 1 left it with";
    found(&STATED.replace("200", "404"), entered, &[other]);
    found(&STATED.replace("parent=0", "parent=4"), entered, &["span 1 is stated as a child of 4"]);
    found(
        &STATED.replace("site=1", "site=2").replace(", 1: 200", ""),
        entered,
        &["span 1 is stated with the name query; generation 1 left it with request"],
    );
    found(
        "",
        "",
        &[
            "thread 1 is stated inside of no spans; generation 1 left it inside of spans 1",
            "span 1 (request) is still open, and has no status",
        ],
    );
    let more = format!("{STATED}\n{}", STATED.replace("span=1", "span=3"));
    found(&more, entered, &["span 3 (request) has a status; generation 1 left none of it"]);
    // A thread may restate a span twice, but must say the same.
    found(&format!("{STATED}\n{STATED}"), entered, &[]);
    assert_found(
        &second(&format!("{STATED}\n{}", STATED.replace("parent=0", "parent=4")), entered),
        &["span 1 has two statuses that differ"],
    );
    // By name, or without it if there is no room for it.
    for omitted in ["omitted_of what=3 site=1 count=1", "omitted what=3 count=1"] {
        let omitted = format!("{omitted}\n{entered}");
        assert_found(&format!("{first}{}", second("", &omitted)), &[]);
    }
    let fields = format!("omitted_of what=4 site=1 count=1\n{entered}");
    let is_open = "span 1 (request) is still open, and has no status";
    assert_found(&format!("{first}{}", second("", &fields)), &[is_open]);
}

/// A list says the same as a status for each span.
#[test]
fn spans_that_nobody_named_may_stand_in_a_list() {
    let entered = "span_entered span=1 incarnation=1";
    let listed = |spans: &str| second(&format!("span_list spans=[{spans}]"), entered);
    let body = format!(
        "{CREATE}@20 span_record span=1 incarnation=1 site=1 fields={{1: 200}}\n@30 span_enter"
    );
    let first = complete(1, &threads(&body, ""));
    let found = |spans: &str, words: &[&str]| {
        assert_found(&format!("{first}{}", listed(spans)), words);
    };
    let whole = "1.1 ago 999990 site 1 {0: \"/cart\", 1: 200}";
    found(whole, &[]);
    found("1.1 ago 999990 site 1 part {}", &[]);
    let other = "another value of status than generation 1 left it with";
    found(&whole.replace("200", "404"), &[other]);
    found(
        &format!("{whole}, 2.1 in 1.1 ago 7 site 2"),
        &["span 2 (query) has a status; generation 1 left none of it"],
    );
    let spans = "1.1 ago 999990 site 1 {0: \"/a\", 1: 200}, 2.1 in 1.1 ago 7 site 2, \
                 4.1 ago 5 site 1 {0: \"/a\", 1: 404}, 5.9 in 4.1 ago 5 site 1 {0: \"/a\", 1: 404}, \
                 7.9 in 4.1 ago 3 site 1 part {0: \"/a\"…}, 9.9 ago 0 site 2";
    let one_by_one = [
        (1, 1, (0, 0), 999_990, 1, "", "{0: \"/a\", 1: 200}"),
        (2, 1, (1, 1), 7, 2, "", "{}"),
        (4, 1, (0, 0), 5, 1, "", "{0: \"/a\", 1: 404}"),
        (5, 9, (4, 1), 5, 1, "", "{0: \"/a\", 1: 404}"),
        (7, 9, (4, 1), 3, 1, "#57", "{0: \"/a\"…}"),
        (9, 9, (0, 0), 0, 2, "", "{}"),
    ]
    .map(|(span, incarnation, (parent, of), ago, site, code, fields)| {
        format!(
            "span_status{code} span={span} incarnation={incarnation} parent={parent} \
             parent_incarnation={of} ago={ago} site={site} fields={fields}"
        )
    });
    let told = |text: &str| {
        let trace = trace(text);
        let generation = trace.generation(Generation(2)).unwrap();
        let part: Vec<_> = generation.spans().map(|span| span.is_part()).collect();
        (open(&trace, 2), part)
    };
    let expected = told(&second(&one_by_one.join("\n"), entered));
    assert_eq!(expected.0.len(), 6);
    assert_eq!(told(&listed(spans)), expected);
}

/// Meaningless bytes cost the rest of their block.
#[test]
fn a_list_of_spans_that_makes_no_sense_is_damage() {
    for (bytes, what) in [
        // A parent and a site that the record is too short for; fields like those of a previous span; a value
        // like that of a previous span; a type that no value has.
        ("0x0c", "a list of spans cannot be read"),
        ("0x10010200", "a list of spans cannot be read"),
        ("0x20010200010105", "a list of spans cannot be read"),
        ("0x2001020001000fff", "a list of spans cannot be read"),
    ] {
        let trace = trace(&second(&format!("span_list spans={bytes}"), ""));
        let damage: Vec<_> = trace.events().filter_map(Result::err).collect();
        let told = damage.first().expect("damage is told").to_string();
        assert!(told.contains(what), "{bytes}: {told}");
    }
}

fn open(trace: &Trace, generation: u64) -> Vec<String> {
    let generation = trace.generation(Generation(generation)).unwrap();
    let spans = generation.spans().map(|span| {
        let fields: Vec<_> = span.fields().map(|(name, value)| format!("{name}={value}")).collect();
        let parent = span.parent.map_or(String::new(), |parent| format!(" in {parent}"));
        format!("{} {}{parent} {} {}", span.site.name, span.span, span.began, fields.join(" "))
    });
    spans.collect()
}

#[test]
fn an_incomplete_generation_has_the_spans_that_were_left_to_it() {
    let body = format!(
        "{CREATE}@20 span_record span=1 incarnation=1 site=1 fields={{1: 200}}\n@30 span_enter\n\
         @31 span_create span=2 incarnation=1 site=2 fields={{}}"
    );
    let first = complete(1, &threads(&body, ""));
    let last = incomplete(
        2,
        &format!(
            "block slot=1 thread=1\n{CALLSITES}thread_status thread=1 os_thread=4 name=\"t1\"\n\
             span_entered span=1 incarnation=1\n@5 span_exit\n@6 span_close"
        ),
    );
    let text = format!("{first}{last}");
    assert_found(&text, &[]);
    let (one, two) = (5_000_050, 5_000_155);
    let expected =
        [format!("request 1 {one} path=/cart status=200"), format!("query 2 in 1 {two} ")];
    let trace = trace(&text);
    assert_eq!(open(&trace, 2), expected);
    let closed = trace.events().last().unwrap().unwrap();
    let EventKind::SpanClose { span } = closed.kind() else { panic!("{closed:?}") };
    assert_eq!((span.to_string().as_str(), closed.name()), ("1", "request"));
    let generation = trace.generation(Generation(2)).unwrap();
    let inside: Vec<_> = generation.statuses().flat_map(|state| state.spans()).collect();
    assert_eq!(inside, [span]);
}
