//! The journal: one task writes what all requests note.

use crate::faults::fault;
use lookback::tokio;
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Clone)]
pub enum Journal {
    Bounded(mpsc::Sender<Entry>),
    Unbounded(mpsc::UnboundedSender<Entry>),
}

pub struct Entry {
    text: Vec<u8>,
}

impl Journal {
    pub fn start() -> Self {
        if fault("unbounded_queue") {
            let (sender, mut entries) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                while let Some(entry) = entries.recv().await {
                    write(entry).await;
                }
            });
            return Self::Unbounded(sender);
        }
        let (sender, mut entries) = mpsc::channel(8);
        tokio::spawn(async move {
            // truth: writer
            while let Some(entry) = entries.recv().await {
                write(entry).await; // truth: write
            }
        });
        Self::Bounded(sender)
    }

    pub async fn note(&self, id: i64) {
        let entry = Entry { text: vec![id as u8; 64 << 10] }; // truth: entry
        match self {
            // Nobody reads a journal that is closed.
            Self::Bounded(sender) => drop(sender.send(entry).await), // truth: note
            Self::Unbounded(sender) => drop(sender.send(entry)),
        }
    }
}

async fn write(entry: Entry) {
    // A disk that has become slow.
    let pause = if fault("unbounded_queue") || fault("slow_writer") { 100 } else { 0 };
    if pause > 0 {
        tokio::time::sleep(Duration::from_millis(pause)).await; // truth: slow_write
    }
    drop(entry.text);
}
