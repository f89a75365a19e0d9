//! A service, seen from inside.
#![forbid(unsafe_code)]

use crate::candidates::Tasks;
use anyhow::Result;
use std::io::Read;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// Serves on 127.0.0.1, with two workers, until the standard input ends. The first line of the output is the port.
/// `accept` is called inside the runtime, and makes the task that accepts connections.
///
/// # Errors
///
/// The candidate or the runtime does not start, or no port can be had.
pub fn serve<T, F>(
    tasks: T,
    accept: impl FnOnce(T, TcpListener) -> F + Send + 'static,
) -> Result<()>
where
    T: Tasks,
    F: Future<Output = ()> + Send + 'static,
{
    let recorder = tasks.start()?;
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    let runtime = tasks.runtime(&recorder, builder)?;

    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    tasks.block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        drop(tasks.spawn(accept(tasks, listener)));
        std::io::Result::Ok(())
    })?;

    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(runtime);
    tasks.stop(recorder)
}
