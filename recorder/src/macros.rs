//! The macros that a service calls.
//!
//! They expand in foreign scopes. Whatever a program calls its own modules, macros, constants and
//! types, the expansion refers to everything through `$crate`, and the only static that it defines
//! has a name that nothing else uses.

#![forbid(unsafe_code)]

/// Defines the static of a site. Used by the other macros.
#[doc(hidden)]
#[macro_export]
macro_rules! __site {
    ($name:expr $(, $field:expr)*) => {{
        static __LOOKBACK_SITE: $crate::__private::Site = $crate::__private::Site::new(
            $name,
            &[$($field),*],
            $crate::__private::core::file!(),
            $crate::__private::core::line!(),
        );
        &__LOOKBACK_SITE
    }};
}

/// The name of a field in `tracing`'s form: `a.b` without blanks, `r#type` without `r#`. Used by
/// the other macros.
#[doc(hidden)]
#[macro_export]
macro_rules! __field_name {
    ($name:literal) => {
        $name
    };
    ($($part:tt)+) => {{
        const __LOOKBACK_RAW: &$crate::__private::core::primitive::str =
            $crate::__private::core::stringify!($($part)+);
        const __LOOKBACK_NAME: [$crate::__private::core::primitive::u8;
            $crate::__private::name_length(__LOOKBACK_RAW)] =
            $crate::__private::name_bytes(__LOOKBACK_RAW);
        $crate::__private::name_of(&__LOOKBACK_NAME)
    }};
}

/// Records the stack of the place, at most so many times a second. Used by the other macros.
#[doc(hidden)]
#[macro_export]
macro_rules! __stack {
    ($a_second:expr) => {{
        static __LOOKBACK_RATE: $crate::__private::StackRate =
            $crate::__private::StackRate::new($a_second);
        __LOOKBACK_RATE.record();
    }};
}

/// Begins a region: a named stretch of time on this thread, which ends when the guard is dropped.
///
/// ```
/// fn parse(input: &str) -> usize {
///     let _guard = lookback_recorder::region!("parse");
///     input.len()
/// }
/// # parse("");
/// ```
#[macro_export]
macro_rules! region {
    ($name:expr $(,)?) => {
        $crate::__private::begin_region($crate::__site!($name))
    };
}

/// Begins a range: a named stretch of time of the whole process, such as a compaction or a reload, which ends when the guard
/// is dropped, on whatever thread. Use [`region!`] for what one thread does.
///
/// ```
/// let _guard = lookback_recorder::range!("compaction");
/// ```
#[macro_export]
macro_rules! range {
    ($name:expr $(,)?) => {
        $crate::__private::begin_range($crate::__site!($name))
    };
}

/// Records a message with a category, formatted as by [`format!`]. A level may come first: `TRACE`,
/// `DEBUG`, `INFO` (the default), `WARN` or `ERROR`. Nothing is formatted while tracing is off.
///
/// ```
/// lookback_recorder::log!("cache", "evicted {} keys", 3);
/// lookback_recorder::log!(WARN, "cache", "full");
/// ```
///
/// With `stack:` and a number in front, the thread's stack is recorded with it, at this place in the source at most so
/// many times a second. Messages of level ERROR have stacks anyway: see
/// [`Builder::error_stacks`](crate::Builder::error_stacks).
///
/// ```
/// lookback_recorder::log!(stack: 5, WARN, "cache", "full");
/// ```
#[macro_export]
macro_rules! log {
    (stack: $a_second:expr, $($rest:tt)+) => {
        if $crate::is_recording() {
            $crate::log!($($rest)+);
            $crate::__stack!($a_second);
        }
    };
    (@ $level:ident $category:expr, $($message:tt)+) => {
        if $crate::is_recording() {
            $crate::__private::log(
                $crate::__site!($category),
                $crate::Level::$level,
                $crate::__private::core::format_args!($($message)+),
            );
        }
    };
    (TRACE, $($rest:tt)+) => { $crate::log!(@ Trace $($rest)+) };
    (DEBUG, $($rest:tt)+) => { $crate::log!(@ Debug $($rest)+) };
    (INFO, $($rest:tt)+) => { $crate::log!(@ Info $($rest)+) };
    (WARN, $($rest:tt)+) => { $crate::log!(@ Warn $($rest)+) };
    (ERROR, $($rest:tt)+) => { $crate::log!(@ Error $($rest)+) };
    ($category:expr, $($message:tt)+) => { $crate::log!(@ Info $category, $($message)+) };
}

/// Records a typed event: a name and up to twelve named values; see [`Value`](crate::Value) for the
/// supported types. The values are not evaluated while tracing is off.
///
/// Fields are written as in `tracing`: `name = value`, `a.b = value`, `"any name" = value`;
/// `?value` and `%value` are formatted by `Debug` and `Display`; a variable by itself is a field of
/// the same name.
///
/// ```
/// let (keys, bytes) = (12, 4096_u64);
/// let (path, took) = (std::path::Path::new("/tmp"), std::time::Duration::from_millis(3));
/// lookback_recorder::event!("evict", keys, cache.bytes = bytes, took);
/// lookback_recorder::event!("open", path = %path.display(), ?took, "user id" = Some(7));
/// lookback_recorder::event!("tick");
/// ```
///
/// With `stack:` and a number in front, the thread's stack is recorded with it, at this place in the source at most so
/// many times a second; `lookback stacks` shows them. A stack costs microseconds.
///
/// ```
/// lookback_recorder::event!(stack: 5, "pool exhausted", waiting = 17);
/// ```
///
/// More than twelve fields do not compile:
///
/// ```compile_fail
/// lookback_recorder::event!("x", a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8, i = 9,
///     j = 10, k = 11, l = 12, m = 13);
/// ```
#[macro_export]
macro_rules! event {
    (stack: $a_second:expr, $($rest:tt)+) => {
        if $crate::is_recording() {
            $crate::event!($($rest)+);
            $crate::__stack!($a_second);
        }
    };
    ($name:expr $(, $($fields:tt)*)?) => {
        if $crate::is_recording() {
            $crate::__event!(($name) [] [] $($($fields)*)?);
        }
    };
}

/// Takes the fields of an event one by one; for [`event!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __event {
    // All fields are taken.
    (($name:expr) [$($field:expr,)*] [$($value:expr,)*]) => {
        $crate::__private::typed_event(
            $crate::__site!($name $(, $field)*),
            ($($crate::__private::encoded(&$value),)*),
        )
    };
    // A field with an explicit name.
    ($name:tt [$($f:tt)*] [$($v:tt)*] $field:literal = % $value:expr $(, $($rest:tt)*)?) => {
        $crate::__event!($name [$($f)* $field,]
            [$($v)* $crate::__private::display(&$value),] $($($rest)*)?)
    };
    ($name:tt [$($f:tt)*] [$($v:tt)*] $field:literal = ? $value:expr $(, $($rest:tt)*)?) => {
        $crate::__event!($name [$($f)* $field,]
            [$($v)* $crate::__private::debug(&$value),] $($($rest)*)?)
    };
    ($name:tt [$($f:tt)*] [$($v:tt)*] $field:literal = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__event!($name [$($f)* $field,] [$($v)* $value,] $($($rest)*)?)
    };
    ($name:tt [$($f:tt)*] [$($v:tt)*] $($k:ident).+ = % $value:expr $(, $($rest:tt)*)?) => {
        $crate::__event!($name [$($f)* $crate::__field_name!($($k).+),]
            [$($v)* $crate::__private::display(&$value),] $($($rest)*)?)
    };
    ($name:tt [$($f:tt)*] [$($v:tt)*] $($k:ident).+ = ? $value:expr $(, $($rest:tt)*)?) => {
        $crate::__event!($name [$($f)* $crate::__field_name!($($k).+),]
            [$($v)* $crate::__private::debug(&$value),] $($($rest)*)?)
    };
    ($name:tt [$($f:tt)*] [$($v:tt)*] $($k:ident).+ = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__event!($name [$($f)* $crate::__field_name!($($k).+),]
            [$($v)* $value,] $($($rest)*)?)
    };
    // A field named by its variable.
    ($name:tt [$($f:tt)*] [$($v:tt)*] % $($k:ident).+ $(, $($rest:tt)*)?) => {
        $crate::__event!($name [$($f)* $crate::__field_name!($($k).+),]
            [$($v)* $crate::__private::display(&$($k).+),] $($($rest)*)?)
    };
    ($name:tt [$($f:tt)*] [$($v:tt)*] ? $($k:ident).+ $(, $($rest:tt)*)?) => {
        $crate::__event!($name [$($f)* $crate::__field_name!($($k).+),]
            [$($v)* $crate::__private::debug(&$($k).+),] $($($rest)*)?)
    };
    ($name:tt [$($f:tt)*] [$($v:tt)*] $($k:ident).+ $(, $($rest:tt)*)?) => {
        $crate::__event!($name [$($f)* $crate::__field_name!($($k).+),]
            [$($v)* $($k).+,] $($($rest)*)?)
    };
}

/// Records the value of a counter at this instant: an integer or a float.
///
/// ```
/// lookback_recorder::counter!("queue_depth", 17);
/// ```
#[macro_export]
macro_rules! counter {
    ($name:expr, $value:expr $(,)?) => {
        if $crate::is_recording() {
            $crate::__private::counter($crate::__site!($name), &$value);
        }
    };
}
