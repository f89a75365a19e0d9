//! The macros that a service calls.

#![forbid(unsafe_code)]

/// Makes the static of a site; for the other macros.
#[doc(hidden)]
#[macro_export]
macro_rules! __site {
    ($name:expr $(, $field:expr)*) => {{
        static SITE: $crate::__private::Site =
            $crate::__private::Site::new($name, &[$($field),*], file!(), line!());
        &SITE
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
    ($name:expr) => {
        $crate::__private::begin_region($crate::__site!($name))
    };
}

/// Records a message of a category, formatted as by [`format!`]. A level may come first: `TRACE`,
/// `DEBUG`, `INFO` (the default), `WARN` or `ERROR`. Nothing is formatted while tracing is off.
///
/// ```
/// lookback_recorder::log!("cache", "evicted {} keys", 3);
/// lookback_recorder::log!(WARN, "cache", "full");
/// ```
#[macro_export]
macro_rules! log {
    (@ $level:ident $category:expr, $($message:tt)+) => {
        if $crate::is_recording() {
            $crate::__private::log(
                $crate::__site!($category),
                $crate::Level::$level,
                format_args!($($message)+),
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

/// Records a typed event: a name and up to twelve named values, each an integer, a float, a `bool`
/// or a string. The values are not evaluated while tracing is off.
///
/// ```
/// let (keys, bytes) = (12, 4096_u64);
/// lookback_recorder::event!("evict", keys = keys, bytes = bytes);
/// lookback_recorder::event!("tick");
/// ```
#[macro_export]
macro_rules! event {
    ($name:expr $(, $field:ident = $value:expr)* $(,)?) => {
        if $crate::is_recording() {
            $crate::__private::typed_event(
                $crate::__site!($name $(, stringify!($field))*),
                ($($crate::__private::encoded(&$value),)*),
            );
        }
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
