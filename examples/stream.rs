//! Streams everything that is recorded to a file or to a socket while the program runs:
//!
//! ```text
//! cargo run --example stream -- all.lbk
//! nc -l 7000 > all.lbk & cargo run --example stream -- 127.0.0.1:7000
//! lookback summary all.lbk
//! ```

use lookback::Recorder;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::TcpStream;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stream(&std::env::args().nth(1).ok_or("where to: a file, or HOST:PORT?")?)
}

/// Records a thousand steps to a file, or to a socket.
pub fn stream(to: &str) -> Result<(), Box<dyn std::error::Error>> {
    let out: Box<dyn Write + Send> = match to.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => Box::new(TcpStream::connect(to)?),
        _ => Box::new(File::create(to)?),
    };
    let recorder = Recorder::builder()
        .generation_period(Duration::from_millis(100))
        .stream_to(BufWriter::new(out))
        .start()?;
    for number in 0..1000 {
        let _region = lookback::region!("work");
        lookback::event!("step", number = number);
        std::thread::sleep(Duration::from_millis(1));
    }
    // The stream ends with the recording; what it was too slow for is counted.
    let stats = recorder.stats();
    recorder.stop()?;
    match stats.sink_error {
        Some(error) => Err(format!("{to}: {error}").into()),
        None => {
            eprintln!("{} generations were lost", stats.sink_lost);
            Ok(())
        }
    }
}
