//! What a task waits for, by the innermost functions of its await chain: a lock, a message, a socket.
//!
//! The table knows modules of libraries that futures come from. A future is made of others, so several rows may fit a
//! chain; the one nearest to the service's own code says most: a channel's place to send to is a semaphore inside. What
//! only wraps a future (a time limit, a `select!`) has no row.

use super::Location;

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Awaited {
    /// A mutex of futures.
    Mutex,
    /// A lock of futures for readers and writers.
    RwLock,
    /// A permit of a semaphore.
    Permit,
    /// Something of a pool, such as a connection.
    Pooled,
    /// A message of a channel.
    Message,
    /// Room in a channel.
    Room,
    /// That nobody receives from a channel any more.
    Closed,
    /// The one message of a channel for one.
    Answer,
    /// A new value of a watched one.
    Change,
    /// A message of a channel with several receivers.
    Broadcast,
    /// To be notified.
    Notice,
    /// Other tasks at a barrier.
    Barrier,
    /// A value that is being made.
    Value,
    /// The end of a task.
    TaskEnd,
    /// A time.
    Time,
    /// Data of a socket, a pipe or a file.
    Data,
    /// That data can be written.
    Writable,
    /// Somebody to connect.
    Accept,
    /// A connection to be made.
    Connect,
    /// The end of a process.
    ProcessEnd,
    /// A signal.
    Signal,
    /// The answer to a request over HTTP.
    Response,
    /// The answer of a database.
    Query,
}

impl Awaited {
    /// In words: `waits for …`.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Mutex => "a Mutex",
            Self::RwLock => "an RwLock",
            Self::Permit => "a permit of a Semaphore",
            Self::Pooled => "something of a pool",
            Self::Message => "a message (mpsc)",
            Self::Room => "room in a channel",
            Self::Closed => "a channel to be closed",
            Self::Answer => "an answer (oneshot)",
            Self::Change => "a change (watch)",
            Self::Broadcast => "a message (broadcast)",
            Self::Notice => "a Notify",
            Self::Barrier => "others at a Barrier",
            Self::Value => "a OnceCell",
            Self::TaskEnd => "the end of a task",
            Self::Time => "a time",
            Self::Data => "data to read",
            Self::Writable => "leave to write",
            Self::Accept => "somebody to connect",
            Self::Connect => "a connection to be made",
            Self::ProcessEnd => "the end of a process",
            Self::Signal => "a signal",
            Self::Response => "a response (HTTP)",
            Self::Query => "a database",
        }
    }

    /// Whether some other task has it, which must give it back.
    #[must_use]
    pub const fn is_held_by_others(self) -> bool {
        matches!(self, Self::Mutex | Self::RwLock | Self::Permit | Self::Pooled)
    }

    /// By the functions of an await chain, the innermost first; `None` if none of them is known. What the service's own
    /// functions are called says nothing.
    #[must_use]
    pub fn of<'l>(chain: impl IntoIterator<Item = &'l Location>) -> Option<Self> {
        let foreign = chain.into_iter().take_while(|location| !location.is_of_service());
        // Only who sends asks for a permit in a channel; of an `async fn` without a name the file alone tells.
        let outer = |inner: Option<Self>, outer: Self| match (inner, outer) {
            (Some(Self::Permit | Self::Room), Self::Message) => Some(Self::Room),
            _ => Some(outer),
        };
        foreign.filter_map(row).fold(None, outer)
    }
}

/// Of a module, and of functions whose names have one of these parts, if there are any: what they wait for. The first
/// that fits counts.
type Row = (&'static str, &'static [&'static str], Awaited);

const ANY: &[&str] = &[];

/// The modules of libraries, as their source files are called.
const ROWS: &[Row] = &[
    ("tokio/sync/mutex", ANY, Awaited::Mutex),
    ("tokio/sync/rwlock", ANY, Awaited::RwLock),
    ("tokio/sync/semaphore", ANY, Awaited::Permit),
    ("tokio/sync/batch_semaphore", ANY, Awaited::Permit),
    ("tokio/sync/mpsc", &["closed"], Awaited::Closed),
    ("tokio/sync/mpsc", &["send", "reserve", "Sender", "Permit"], Awaited::Room),
    ("tokio/sync/mpsc", ANY, Awaited::Message),
    ("tokio/sync/oneshot", ANY, Awaited::Answer),
    ("tokio/sync/watch", ANY, Awaited::Change),
    ("tokio/sync/broadcast", ANY, Awaited::Broadcast),
    ("tokio/sync/notify", ANY, Awaited::Notice),
    ("tokio/sync/barrier", ANY, Awaited::Barrier),
    ("tokio/sync/once_cell", ANY, Awaited::Value),
    ("tokio/sync/set_once", ANY, Awaited::Value),
    ("tokio/runtime/task/join", ANY, Awaited::TaskEnd),
    ("tokio/task/join_set", ANY, Awaited::TaskEnd),
    ("tokio/runtime/time", ANY, Awaited::Time),
    ("tokio/time/sleep", ANY, Awaited::Time),
    ("tokio/time/interval", ANY, Awaited::Time),
    ("tokio/process", ANY, Awaited::ProcessEnd),
    ("tokio/signal", ANY, Awaited::Signal),
    ("tokio/net/tcp/listener", ANY, Awaited::Accept),
    ("tokio/net/unix/listener", ANY, Awaited::Accept),
    ("tokio/net", &["connect"], Awaited::Connect),
    ("tokio/net", &["write", "send", "flush", "shutdown"], Awaited::Writable),
    ("tokio/net", &["read", "recv", "peek"], Awaited::Data),
    ("tokio/io/util/write", ANY, Awaited::Writable),
    ("tokio/io/util/flush", ANY, Awaited::Writable),
    ("tokio/io/util/shutdown", ANY, Awaited::Writable),
    ("tokio/io/util/read", ANY, Awaited::Data),
    ("tokio/io/util/fill_buf", ANY, Awaited::Data),
    ("tokio/io/util/lines", ANY, Awaited::Data),
    ("tokio/io/poll_evented", &["write"], Awaited::Writable),
    ("tokio/io/poll_evented", &["read"], Awaited::Data),
    ("tokio/fs", ANY, Awaited::Data),
    ("tokio_util/sync/cancellation_token", ANY, Awaited::Notice),
    ("futures_util/lock/mutex", ANY, Awaited::Mutex),
    ("futures_channel/oneshot", ANY, Awaited::Answer),
    ("futures_channel/mpsc", &["Sender", "poll_ready", "poll_flush"], Awaited::Room),
    ("futures_channel/mpsc", ANY, Awaited::Message),
    ("futures_util/sink", ANY, Awaited::Room),
    ("async_lock/mutex", ANY, Awaited::Mutex),
    ("async_lock/rwlock", ANY, Awaited::RwLock),
    ("async_lock/semaphore", ANY, Awaited::Permit),
    ("async_lock/barrier", ANY, Awaited::Barrier),
    ("async_channel", &["Send"], Awaited::Room),
    ("async_channel", ANY, Awaited::Message),
    ("flume", &["Send"], Awaited::Room),
    ("flume", ANY, Awaited::Message),
    ("async_io", &["Timer"], Awaited::Time),
    ("async_task", ANY, Awaited::TaskEnd),
    // What it has done by a thread: a query, after the connection was got.
    ("deadpool_sync", ANY, Awaited::TaskEnd),
    ("deadpool_runtime", ANY, Awaited::TaskEnd),
    ("deadpool", ANY, Awaited::Pooled),
    ("bb8", ANY, Awaited::Pooled),
    ("mobc", ANY, Awaited::Pooled),
    ("r2d2", ANY, Awaited::Pooled),
    ("sqlx_core/pool", ANY, Awaited::Pooled),
    ("sqlx_core", ANY, Awaited::Query),
    ("sqlx_postgres", ANY, Awaited::Query),
    ("sqlx_mysql", ANY, Awaited::Query),
    ("sqlx_sqlite", ANY, Awaited::Query),
    ("tokio_postgres", ANY, Awaited::Query),
    ("redis", ANY, Awaited::Query),
    ("mongodb", ANY, Awaited::Query),
    ("hyper_util/client", ANY, Awaited::Response),
    ("hyper/client", ANY, Awaited::Response),
    ("reqwest", ANY, Awaited::Response),
    ("tonic/client", ANY, Awaited::Response),
];

/// A part of the name of what connects, where that is inlined into a function of another library.
const CONNECTS: &str = "::connect_mio";

fn row(location: &Location) -> Option<Awaited> {
    let module = module_of(location)?;
    let name = location.function.whole();
    if name.contains(CONNECTS) {
        return Some(Awaited::Connect);
    }
    let is_it = |(of, parts, _): &&Row| {
        let rest = module.strip_prefix(of);
        // `mutex`, `mutex/guard`, and of a file that begins so: `read_exact`.
        let is_of = rest.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(['/', '_', '.']) || of.contains("/io/util/")
        });
        is_of && (parts.is_empty() || parts.iter().any(|part| name.contains(part)))
    };
    ROWS.iter().find(is_it).map(|(.., awaited)| *awaited)
}

/// `tokio/sync/mutex`, by the source file or, without one, by the name.
fn module_of(location: &Location) -> Option<String> {
    let by_file = |file: &str| {
        let (before, within) = file.rsplit_once("/src/")?;
        let krate = before.rsplit_once('/').map_or(before, |(_, krate)| krate);
        // `tokio-1.54.1`, `async-channel-2.5.0-rc.1`.
        let version = krate.match_indices('-').map(|(at, _)| at);
        let is_version = |at: &usize| krate[at + 1..].starts_with(|c: char| c.is_ascii_digit());
        let krate = version.clone().find(is_version).map_or(krate, |at| &krate[..at]);
        let within = within.strip_suffix(".rs")?;
        let within = within.strip_suffix("/mod").unwrap_or(within);
        Some(format!("{}/{within}", krate.replace('-', "_")))
    };
    let by_name = || {
        let name = location.function.whole();
        let path = name.trim_start_matches(['<', '&']);
        let path = path.split([' ', '<', '>']).next()?.replace("::", "/");
        path.contains('/').then_some(path)
    };
    let file = location.place.as_ref().map(|(file, _)| file.as_str());
    file.and_then(by_file).or_else(by_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::FunctionName;

    fn location(name: &str, file: &str) -> Location {
        let place = (!file.is_empty()).then(|| (file.to_owned(), 7));
        Location { function: FunctionName::new(name), place, is_inlined: false }
    }

    /// In the sources of this crate.
    fn of(krate: &str, file: &str, name: &str) -> Location {
        location(name, &format!("/home/a/.cargo/registry/src/index.crates.io-1/{krate}/src/{file}"))
    }

    fn awaited(chain: &[Location]) -> Option<Awaited> {
        let own = location("shop::cart::add", "/home/a/shop/src/cart.rs");
        // Beyond the service's own functions nothing counts.
        let beyond = location("tokio::time::sleep::Sleep::poll", "");
        Awaited::of(chain.iter().chain([&own, &beyond]))
    }

    #[test]
    fn each_kind_is_known_by_the_files_of_its_functions_and_by_their_names() {
        let tokio = |file: &str, name: &str| of("tokio-1.54.1", file, name);
        for (file, name, kind) in [
            ("sync/mutex.rs", "tokio::sync::mutex::Mutex<T>::lock", Awaited::Mutex),
            ("sync/rwlock.rs", "tokio::sync::rwlock::RwLock<T>::read", Awaited::RwLock),
            ("sync/semaphore.rs", "tokio::sync::semaphore::Semaphore::acquire", Awaited::Permit),
            ("sync/mpsc/bounded.rs", "tokio::sync::mpsc::bounded::Sender<T>::send", Awaited::Room),
            (
                "sync/mpsc/bounded.rs",
                "tokio::sync::mpsc::bounded::Receiver<T>::recv",
                Awaited::Message,
            ),
            (
                "sync/oneshot.rs",
                "<tokio::sync::oneshot::Receiver<T> as core::future::future::Future>::poll",
                Awaited::Answer,
            ),
            ("sync/watch.rs", "tokio::sync::watch::Receiver<T>::changed", Awaited::Change),
            ("sync/broadcast.rs", "tokio::sync::broadcast::Receiver<T>::recv", Awaited::Broadcast),
            ("sync/notify.rs", "tokio::sync::notify::Notified::poll_notified", Awaited::Notice),
            ("sync/barrier.rs", "tokio::sync::barrier::Barrier::wait", Awaited::Barrier),
            (
                "sync/once_cell.rs",
                "tokio::sync::once_cell::OnceCell<T>::get_or_init",
                Awaited::Value,
            ),
            (
                "runtime/task/join.rs",
                "<tokio::runtime::task::join::JoinHandle<T> as core::future::future::Future>::poll",
                Awaited::TaskEnd,
            ),
            ("time/sleep.rs", "tokio::time::sleep::Sleep::poll_elapsed", Awaited::Time),
            ("process/mod.rs", "tokio::process::Child::wait", Awaited::ProcessEnd),
            ("signal/mod.rs", "tokio::signal::RxFuture::recv", Awaited::Signal),
            (
                "net/tcp/listener.rs",
                "tokio::net::tcp::listener::TcpListener::accept",
                Awaited::Accept,
            ),
            ("net/tcp/stream.rs", "tokio::net::tcp::stream::TcpStream::connect", Awaited::Connect),
            (
                "net/tcp/stream.rs",
                "<tokio::net::tcp::stream::TcpStream as tokio::io::async_read::AsyncRead>::poll_read",
                Awaited::Data,
            ),
            (
                "net/tcp/stream.rs",
                "<tokio::net::tcp::stream::TcpStream as tokio::io::async_write::AsyncWrite>::poll_write",
                Awaited::Writable,
            ),
        ] {
            assert_eq!(awaited(&[tokio(file, name)]), Some(kind), "{file}");
            assert_eq!(awaited(&[location(name, "")]), Some(kind), "{name}");
            // With line tables alone, inlined functions have no path.
            if !matches!(kind, Awaited::Room | Awaited::Connect | Awaited::Data | Awaited::Writable)
            {
                assert_eq!(awaited(&[tokio(file, "{async_fn#0}")]), Some(kind), "{file}");
            }
        }
        assert_eq!(awaited(&[tokio("io/util/read_exact.rs", "poll")]), Some(Awaited::Data));
        assert_eq!(awaited(&[tokio("io/util/write_all.rs", "poll")]), Some(Awaited::Writable));
        let others = [
            (of("futures-util-0.3.34", "lock/mutex.rs", "poll"), Awaited::Mutex),
            (of("async-channel-2.5.0", "lib.rs", "poll"), Awaited::Message),
            (of("deadpool-0.12.1", "managed/mod.rs", "get"), Awaited::Pooled),
            (of("deadpool-sync-0.1.4", "lib.rs", "interact"), Awaited::TaskEnd),
            (of("sqlx-core-0.8.2", "pool/inner.rs", "acquire"), Awaited::Pooled),
            (of("sqlx-core-0.8.2", "net/socket/mod.rs", "read"), Awaited::Query),
            (of("reqwest-0.12.9", "async_impl/client.rs", "poll"), Awaited::Response),
        ];
        for (location, kind) in others {
            assert_eq!(awaited(std::slice::from_ref(&location)), Some(kind), "{location:?}");
        }
    }

    #[test]
    fn what_is_nearest_to_the_service_counts_and_what_only_wraps_it_does_not() {
        let semaphore = of("tokio-1.54.1", "sync/batch_semaphore.rs", "poll");
        let acquire = of("tokio-1.54.1", "sync/semaphore.rs", "acquire");
        let pool = of("bb8-0.9.0", "inner.rs", "get");
        let limit = of("tokio-1.54.1", "time/timeout.rs", "poll");
        let chain = [semaphore.clone(), acquire, limit.clone()];
        assert_eq!(awaited(&chain), Some(Awaited::Permit));
        assert_eq!(awaited(&[&chain[..], &[pool]].concat()), Some(Awaited::Pooled));
        let send = of("tokio-1.54.1", "sync/mpsc/bounded.rs", "reserve_inner");
        assert_eq!(awaited(&[semaphore.clone(), send]), Some(Awaited::Room));
        // With line tables alone, who sends has no name.
        let unnamed = of("tokio-1.54.1", "sync/mpsc/bounded.rs", "{async_fn#0}");
        assert_eq!(awaited(&[semaphore, unnamed.clone(), unnamed.clone()]), Some(Awaited::Room));
        assert_eq!(awaited(&[unnamed]), Some(Awaited::Message));
        // As a compiler writes it where all is inlined.
        let poll_fn = "poll<core::result::Result<(), std::io::error::Error>, \
                       tokio::net::tcp::stream::{impl#0}::connect_mio::{async_fn#0}::{closure_env#0}>";
        let connects = location(poll_fn, "/rustc/1/library/core/src/future/poll_fn.rs");
        let unnamed = of("tokio-1.54.1", "net/tcp/stream.rs", "{async_fn#0}");
        assert_eq!(awaited(&[connects, unnamed]), Some(Awaited::Connect));
        assert_eq!(awaited(&[limit]), None);
        assert_eq!(awaited(&[of("shop-1.0.0", "sync/mutex.rs", "poll")]), None);
    }
}
