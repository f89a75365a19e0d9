//! Another service, which has the covers.

use crate::faults::fault;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[derive(Clone)]
pub struct Covers {
    address: SocketAddr,
}

impl Covers {
    pub fn new() -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self { address: std::env::var("COVERS")?.parse()? })
    }

    pub async fn of(&self, id: i64) -> Result<(), Box<dyn Error + Send + Sync>> {
        if fault("retry_storm") {
            // "It will answer at some time."
            loop {
                let asked = timeout(Duration::from_millis(50), self.ask(id)).await; // truth: retry
                if asked.is_ok_and(|asked| asked.is_ok()) {
                    return Ok(());
                }
            }
        }
        self.ask(id).await?;
        Ok(())
    }

    async fn ask(&self, id: i64) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.address).await?; // truth: connect
        stream.write_all(&id.to_le_bytes()).await?;
        stream.read_exact(&mut [0]).await?; // truth: answer
        Ok(())
    }
}
