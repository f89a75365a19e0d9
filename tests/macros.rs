//! The macros compile and record the same in any scope, and accept what `tracing`'s accept.

mod common;

use common::alone;
use lookback::read::{Event, Trace, Value};
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::num::{NonZero, Wrapping};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A scope in which no name has its usual meaning.
#[no_implicit_prelude]
#[allow(dead_code, unused_macros, reason = "all of it is there to be in the way")]
mod hostile {
    mod core {}
    mod std {}
    mod alloc {}
    mod lookback {}
    mod lookback_recorder {}
    struct Some;
    struct None;
    struct Ok;
    struct Err;
    struct Result;
    struct Option;
    struct String;
    struct Vec;
    struct Box;
    struct Site;
    struct Level;
    #[allow(non_camel_case_types, reason = "that is what is in the way")]
    struct str;
    #[allow(non_camel_case_types, reason = "that is what is in the way")]
    struct u8;
    macro_rules! file {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! line {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! stringify {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! concat {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! format_args {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! format {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! event {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! log {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! __event {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! __site {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }
    macro_rules! __field_name {
        ($($any:tt)*) => {
            ::core::compile_error!("captured")
        };
    }

    const SITE: &::core::primitive::str = "site of my own";
    const NAME: &::core::primitive::str = "name of my own";
    const FIELD: ::core::primitive::u64 = 7;
    static LENGTH: ::core::primitive::u64 = 8;

    pub fn record() {
        let _guard = ::lookback::region!(SITE);
        ::lookback::event!(SITE, FIELD, length = LENGTH, r#type = %"t", debug = ?NAME, "a b" = 1, c.d = 2,);
        ::lookback::event!(NAME);
        ::lookback::log!(SITE, "{} of {NAME}", FIELD);
        ::lookback::log!(WARN, NAME, "plain");
        ::lookback::counter!(NAME, FIELD);
    }
}

#[derive(Debug)]
struct Failure(&'static str, Option<Box<Failure>>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|source| source as _)
    }
}

fn recorded(work: impl FnOnce()) -> Trace {
    let recorder = common::start_with(4 << 20, Duration::from_secs(3600));
    work();
    common::stop(recorder)
}

fn event(trace: &Trace, name: &str) -> Event {
    common::events(trace).find(|event| event.name() == name).expect("the event is there")
}

/// An event's fields with their types, as they were recorded.
fn fields(event: &Event) -> Vec<(String, String)> {
    event.fields().map(|(name, value)| (name.to_owned(), format!("{value:?}"))).collect()
}

#[track_caller]
fn assert_fields(event: &Event, expected: &[(&str, Value<'_>)]) {
    let expected: Vec<_> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), format!("{value:?}"))).collect();
    assert_eq!(fields(event), expected);
}

fn text(text: &str) -> Value<'_> {
    Value::Text(lookback::read::Text { text, cut: false })
}

fn error(text: &str) -> Value<'_> {
    Value::Error(lookback::read::Text { text, cut: false })
}

#[test]
fn the_macros_mean_the_same_in_a_scope_where_nothing_is_called_as_usual() {
    alone("the_macros_mean_the_same_in_a_scope_where_nothing_is_called_as_usual", || {
        let trace = recorded(hostile::record);
        let own = "site of my own";
        let names: Vec<_> = common::events(&trace)
            .filter(|event| event.site().is_some())
            .map(|event| format!("{} {}", event.kind_name(), event.name()))
            .collect();
        let expected = [
            "region_begin site of my own",
            "event site of my own",
            "event name of my own",
            "log site of my own",
            "log name of my own",
            "counter name of my own",
            "region_end site of my own",
        ];
        assert_eq!(names, expected);
        let typed = common::events(&trace)
            .find(|event| event.kind_name() == "event" && event.name() == own)
            .expect("it is there");
        let expected = [
            ("FIELD", Value::Unsigned(7)),
            ("length", Value::Unsigned(8)),
            ("type", text("t")),
            ("debug", text("\"name of my own\"")),
            ("a b", Value::Signed(1)),
            ("c.d", Value::Signed(2)),
        ];
        assert_fields(&typed, &expected);
        assert!(typed.site().is_some_and(|site| site.file == file!() && site.line > 30));
    });
}

#[test]
fn fields_are_written_as_for_tracing() {
    alone("fields_are_written_as_for_tracing", || {
        struct User {
            name: &'static str,
            id: u8,
        }
        let trace = recorded(|| {
            let (k, user) = (1_u8, User { name: "ann", id: 9 });
            let v = Some(true);
            let r#fn = 2_u8;
            lookback::event!("short", k, ?v, %k, user.name, ?user.id, %user.id, r#fn);
            lookback::event!("long", a = %k, b = ?v, a.b = 3_u8, user.r#type = 4_u8, "x y" = %k, "z" = ?v,);
            lookback::event!("mixed", k, a = k + 1, %k, b = if k > 0 { "yes" } else { "no" }, v);
            lookback::event!("bare",);
        });
        let expected = [
            ("k", Value::Unsigned(1)),
            ("v", text("Some(true)")),
            ("k", text("1")),
            ("user.name", text("ann")),
            ("user.id", text("9")),
            ("user.id", text("9")),
            ("fn", Value::Unsigned(2)),
        ];
        assert_fields(&event(&trace, "short"), &expected);
        let expected = [
            ("a", text("1")),
            ("b", text("Some(true)")),
            ("a.b", Value::Unsigned(3)),
            ("user.type", Value::Unsigned(4)),
            ("x y", text("1")),
            ("z", text("Some(true)")),
        ];
        assert_fields(&event(&trace, "long"), &expected);
        let expected = [
            ("k", Value::Unsigned(1)),
            ("a", Value::Unsigned(2)),
            ("k", text("1")),
            ("b", text("yes")),
            ("v", Value::Bool(true)),
        ];
        assert_fields(&event(&trace, "mixed"), &expected);
        assert_fields(&event(&trace, "bare"), &[]);
    });
}

#[test]
fn every_type_of_value_is_read_back_as_it_was() {
    alone("every_type_of_value_is_read_back_as_it_was", || {
        let trace = recorded(|| {
            for _ in 0..3 {
                numbers();
                texts();
                absent();
            }
            // Recurring texts are references.
            errors();
            errors();
        });
        let expected = [
            ("wide", Value::Wide(u128::MAX)),
            ("small", Value::Wide(7)),
            ("least", Value::WideSigned(i128::MIN)),
            ("minus", Value::WideSigned(-1)),
            ("non_zero", Value::Unsigned(255)),
            ("non_zero_signed", Value::Signed(-9)),
            ("non_zero_wide", Value::Wide(1 << 100)),
            ("wrapping", Value::Unsigned(250)),
            ("size", Value::Unsigned(u64::MAX)),
            ("offset", Value::Signed(i64::MIN)),
            ("took", Value::Duration(Duration::from_micros(1500))),
            ("for_ever", Value::Duration(Duration::MAX)),
        ];
        let numbers: Vec<_> = common::events(&trace).filter(|e| e.name() == "numbers").collect();
        assert_eq!(numbers.len(), 3);
        numbers.iter().for_each(|event| assert_fields(event, &expected));
        let expected = [
            ("string", text("s")),
            ("reference", text("s")),
            ("cow", text("c")),
            ("boxed", text("b")),
            ("shared", text("a")),
            ("local", text("r")),
            ("letter", text("🦀")),
            ("bytes", text("[00 ff]")),
            ("arguments", text("1-2")),
        ];
        let texts: Vec<_> = common::events(&trace).filter(|e| e.name() == "texts").collect();
        assert_eq!(texts.len(), 3);
        texts.iter().for_each(|event| assert_fields(event, &expected));
        let expected = [
            ("there", Value::Unsigned(5)),
            ("text", text("t")),
            ("took", Value::Duration(Duration::from_secs(2))),
            ("twice", Value::Signed(-1)),
            ("wide", Value::Wide(3)),
        ];
        let absent: Vec<_> = common::events(&trace).filter(|e| e.name() == "absent").collect();
        assert_eq!(absent.len(), 3);
        absent.iter().for_each(|event| assert_fields(event, &expected));
        let expected = [
            ("one", error("outer: middle: inner")),
            ("boxed", error("outer: middle: inner")),
            ("told", error("inner is said: said")),
            ("maybe", error("inner")),
        ];
        let errors: Vec<_> = common::events(&trace).filter(|e| e.name() == "errors").collect();
        assert_eq!(errors.len(), 2);
        errors.iter().for_each(|event| assert_fields(event, &expected));
    });
}

fn numbers() {
    lookback::event!(
        "numbers",
        wide = u128::MAX,
        small = 7_u128,
        least = i128::MIN,
        minus = -1_i128,
        non_zero = NonZero::new(255_u8),
        non_zero_signed = NonZero::new(-9_i64).expect("it is not zero"),
        non_zero_wide = NonZero::new(1_u128 << 100).expect("it is not zero"),
        wrapping = Wrapping(251_u8) - Wrapping(1),
        size = usize::MAX,
        offset = isize::MIN,
        took = Duration::from_micros(1500),
        for_ever = &Duration::MAX,
    );
}

fn texts() {
    let (string, cow) = (String::from("s"), Cow::Borrowed("c"));
    let (boxed, shared, local): (Box<str>, Arc<str>, Rc<str>) =
        ("b".into(), "a".into(), "r".into());
    lookback::event!(
        "texts",
        string,
        reference = &&string,
        cow,
        boxed,
        shared,
        local,
        letter = '🦀',
        bytes = &[0_u8, 255][..],
        arguments = format_args!("{}-{}", 1, 2),
    );
}

fn absent() {
    lookback::event!(
        "absent",
        none = None::<u64>,
        there = Some(5_u8),
        nothing = None::<&str>,
        text = Some("t"),
        never = None::<Option<u8>>,
        took = Some(Duration::from_secs(2)),
        nested = Some(None::<i8>),
        twice = Some(Some(-1_i8)),
        wide = Some(3_u128),
        last = None::<String>,
    );
}

fn errors() {
    let inner = || Failure("inner", None);
    let outer = Failure("outer", Some(Box::new(Failure("middle", Some(Box::new(inner()))))));
    let boxed: Box<dyn Error + Send + Sync> =
        Box::new(Failure("outer", Some(Box::new(Failure("middle", Some(Box::new(inner())))))));
    // Its own message ends with those of its sources.
    let told = Failure("inner is said: said", Some(Box::new(Failure("said", None))));
    lookback::event!(
        "errors",
        one = &outer as &dyn Error,
        boxed,
        told = &told as &dyn Error,
        maybe = Some(&inner() as &(dyn Error + 'static)),
    );
}
