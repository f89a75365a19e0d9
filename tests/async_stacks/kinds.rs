//! What tasks wait for: everything that Tokio and `futures` have for that.

use crate::common::alone;
use crate::{Kept, LONG, assert_at_lines, common, once, runtime, socket, spawn, start, waits};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use lookback::RecordExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{self, broadcast, mpsc, oneshot, watch};

const FILE: &str = "tests/async_stacks/kinds.rs";

async fn sleeps() {
    waits!("sleep", tokio::time::sleep(LONG).await);
}

async fn outer_sleep() {
    middle_sleep().await;
}

async fn middle_sleep() {
    inner_sleep().await;
}

async fn inner_sleep() {
    waits!("nested", tokio::time::sleep(LONG).await);
}

async fn two_awaits() {
    tokio::time::sleep(Duration::from_millis(1)).await;
    waits!("two awaits", tokio::time::sleep(LONG).await);
}

async fn receives(mut from: mpsc::Receiver<u32>) {
    waits!("mpsc", from.recv().await);
}

async fn sends(to: mpsc::Sender<u32>) {
    to.send(1).await.unwrap();
    let _ = waits!("mpsc, full", to.send(2).await);
}

async fn locks(lock: Arc<sync::Mutex<u32>>) {
    let _held = waits!("Mutex", lock.lock().await);
}

async fn reads_locked(lock: Arc<sync::RwLock<u32>>) {
    let _held = waits!("RwLock", lock.read().await);
}

async fn acquires(permits: Arc<sync::Semaphore>) {
    let _permit = waits!("Semaphore", permits.acquire().await);
}

async fn answered(from: oneshot::Receiver<u32>) {
    let _ = waits!("oneshot", from.await);
}

async fn watches(mut from: watch::Receiver<u32>) {
    let _ = waits!("watch", from.changed().await);
}

async fn listens(mut from: broadcast::Receiver<u32>) {
    let _ = waits!("broadcast", from.recv().await);
}

async fn is_notified(by: Arc<sync::Notify>) {
    waits!("Notify", by.notified().await);
}

async fn meets(others: Arc<sync::Barrier>) {
    waits!("Barrier", others.wait().await);
}

async fn ticks() {
    let mut interval = tokio::time::interval(LONG);
    interval.tick().await;
    waits!("interval", interval.tick().await);
}

async fn reads_byte(from: &mut TcpStream) {
    let _ = waits!("TcpStream", from.read_u8().await);
}

async fn connection(mut from: TcpStream) {
    reads_byte(&mut from).await;
}

async fn reads_line(from: TcpStream) {
    let mut lines = tokio::io::BufReader::new(from).lines();
    let _ = waits!("lines", lines.next_line().await);
}

async fn accepts(from: TcpListener) {
    let _ = waits!("accept", from.accept().await);
}

async fn joins(other: tokio::task::JoinHandle<()>) {
    let _ = waits!("JoinHandle", other.await);
}

async fn joins_set() {
    let mut set = tokio::task::JoinSet::new();
    set.spawn(std::future::pending::<()>());
    waits!("JoinSet", set.join_next().await);
}

async fn joins_blocking(until: std::sync::mpsc::Receiver<()>) {
    let blocking = tokio::task::spawn_blocking(move || until.recv());
    let _ = waits!("spawn_blocking", blocking.await);
}

async fn times_out(from: oneshot::Receiver<u32>) {
    let waits = async { waits!("timeout", from.await) };
    let _ = tokio::time::timeout(LONG, waits).await;
}

fn boxed(depth: u32) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        match depth {
            0 => waits!("boxed", tokio::time::sleep(LONG).await),
            _ => boxed(depth - 1).await,
        }
    })
}

trait Waits {
    fn wait(&self) -> BoxFuture<'static, ()>;
}

struct Sleeper;

impl Waits for Sleeper {
    fn wait(&self) -> BoxFuture<'static, ()> {
        Box::pin(async { waits!("dyn", tokio::time::sleep(LONG).await) })
    }
}

async fn dynamic(of: Box<dyn Waits + Send + Sync>) {
    of.wait().await;
}

async fn locks_of_futures(lock: Arc<futures::lock::Mutex<u32>>) {
    let _held = waits!("futures Mutex", lock.lock().await);
}

async fn receives_of_futures(mut from: futures::channel::mpsc::Receiver<u32>) {
    waits!("stream", from.next().await);
}

async fn child() {
    waits!("child", tokio::time::sleep(LONG).await);
}

async fn unordered() {
    let mut all = FuturesUnordered::new();
    all.push(child().recorded("child"));
    all.push(child().recorded("child"));
    waits!("FuturesUnordered", all.next().await);
}

/// Waits for all of them at once, in lines that the tests name.
async fn joined(mut from: mpsc::Receiver<u32>, answer: oneshot::Receiver<u32>) {
    let receives = async { waits!("join!", from.recv().await) };
    let answered = async { waits!("join!", answer.await) };
    let sleeps = async { waits!("join!", tokio::time::sleep(LONG).await) };
    let _ = tokio::join!(receives, answered, sleeps);
}

async fn selected(mut from: mpsc::Receiver<u32>, answer: oneshot::Receiver<u32>) {
    let receives = async { waits!("select!", from.recv().await) };
    let answered = async { waits!("select!", answer.await) };
    tokio::select! { _ = receives => {}, _ = answered => {} }
}

async fn spawn_all(kept: &mut Kept) {
    spawn("sleep", sleeps());
    spawn("nested", outer_sleep());
    spawn("two awaits", two_awaits());
    let (tx, rx) = mpsc::channel(1);
    kept.push(Box::new(tx));
    spawn("mpsc", receives(rx));
    let (tx, rx) = mpsc::channel(1);
    kept.push(Box::new(rx));
    spawn("mpsc, full", sends(tx));
    let lock = Arc::new(sync::Mutex::new(0));
    kept.push(Box::new(Arc::clone(&lock).lock_owned().await));
    spawn("Mutex", locks(lock));
    let lock = Arc::new(sync::RwLock::new(0));
    kept.push(Box::new(Arc::clone(&lock).write_owned().await));
    spawn("RwLock", reads_locked(lock));
    spawn("Semaphore", acquires(Arc::new(sync::Semaphore::new(0))));
    let (tx, rx) = oneshot::channel();
    kept.push(Box::new(tx));
    spawn("oneshot", answered(rx));
    let (tx, rx) = watch::channel(0);
    kept.push(Box::new(tx));
    spawn("watch", watches(rx));
    let (tx, rx) = broadcast::channel(1);
    kept.push(Box::new(tx));
    spawn("broadcast", listens(rx));
    spawn("Notify", is_notified(Arc::new(sync::Notify::new())));
    spawn("Barrier", meets(Arc::new(sync::Barrier::new(2))));
    spawn("interval", ticks());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    spawn("TcpStream", connection(socket(&listener, kept).await));
    spawn("lines", reads_line(socket(&listener, kept).await));
    spawn("accept", accepts(TcpListener::bind("127.0.0.1:0").await.unwrap()));
    spawn("JoinHandle", joins(tokio::spawn(std::future::pending())));
    spawn("JoinSet", joins_set());
    let (tx, rx) = std::sync::mpsc::channel();
    kept.push(Box::new(tx));
    spawn("spawn_blocking", joins_blocking(rx));
    let (tx, rx) = oneshot::channel();
    kept.push(Box::new(tx));
    spawn("timeout", times_out(rx));
    spawn("boxed", boxed(3));
    spawn("dyn", dynamic(Box::new(Sleeper)));
    let lock = Arc::new(futures::lock::Mutex::new(0));
    kept.push(Box::new(Arc::clone(&lock).lock_owned().await));
    spawn("futures Mutex", locks_of_futures(lock));
    let (tx, rx) = futures::channel::mpsc::channel(1);
    kept.push(Box::new(tx));
    spawn("stream", receives_of_futures(rx));
    spawn("FuturesUnordered", unordered());
    let ((tx, rx), (tell, answer)) = (mpsc::channel(1), oneshot::channel());
    kept.push(Box::new((tx, tell)));
    spawn("join!", joined(rx, answer));
    let ((tx, rx), (tell, answer)) = (mpsc::channel(1), oneshot::channel());
    kept.push(Box::new((tx, tell)));
    spawn("select!", selected(rx, answer));
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "optimised code of two places may be one, with one line"
)]
fn each_task_waits_at_its_line() {
    alone("kinds::each_task_waits_at_its_line", || {
        let recorder = start();
        let (runtime, mut kept) = (runtime(), Vec::new());
        runtime.block_on(spawn_all(&mut kept));
        let found = once(&recorder, FILE, 29);
        // It is polled again at once, and keeps the waker that it has.
        assert_at_lines(&found, &["timeout"], &["FuturesUnordered"]);
        assert_eq!(found["child"].len(), 2);
        let [nested] = &found["nested"][0][..] else { panic!() };
        assert_eq!(nested.own.len(), 3, "the three functions: {nested:#?}");
        runtime.shutdown_background();
        common::stop(recorder);
    });
}
