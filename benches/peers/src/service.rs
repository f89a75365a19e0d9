//! A service as a process, seen from the driver.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A service that runs until it is stopped, or its driver ends.
#[derive(Debug)]
pub struct Service {
    child: Child,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl Service {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not print its port.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("its output is not ours")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let port = line.trim().parse().with_context(|| format!("no port: {line:?}"))?;
        Ok(Self { child, port })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// It reported an error.
    pub fn stop(mut self) -> Result<()> {
        // It ends when its input does.
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "a service: {status}");
        Ok(())
    }
}
