//! Clients, over sockets on the loopback device. Each ends by itself.

use anyhow::Context;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Clients that ask again and again, until it is dropped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts so many clients. Each calls `connect` for a connection, and then `ask` with it and the number of the call;
    /// if either fails it begins anew.
    pub fn start<C>(
        clients: u64,
        pause: Duration,
        connect: impl Fn() -> anyhow::Result<C> + Clone + Send + 'static,
        ask: impl Fn(&mut C, u64) -> anyhow::Result<()> + Clone + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|client| {
            let (stop, connect, ask) = (stop.clone(), connect.clone(), ask.clone());
            thread::spawn(move || {
                let mut call = client << 32;
                while !stop.load(Relaxed) {
                    let Ok(mut connection) = connect() else {
                        thread::sleep(Duration::from_millis(50));
                        continue;
                    };
                    while !stop.load(Relaxed) && ask(&mut connection, call).is_ok() {
                        call += 1;
                        thread::sleep(pause);
                    }
                }
            })
        });
        let clients = clients.collect();
        Self { stop, clients }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked has printed why.
            let _ = client.join();
        }
    }
}

/// A connection that gives up after half a minute, as clients do that nobody has told otherwise.
pub fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A client of a Redis server.
pub struct Redis(BufReader<TcpStream>);

impl Redis {
    /// Connects.
    pub fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(BufReader::new(connect(address)?)))
    }

    /// Sends a command, and reads one answer.
    pub fn ask(&mut self, words: &[&str]) -> anyhow::Result<()> {
        let mut frame = format!("*{}\r\n", words.len());
        for word in words {
            frame.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(frame.as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").context("the answer ends early")?;
        let length = line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok());
        if let Some(length) = length {
            self.0.read_exact(&mut vec![0; length + 2])?;
        }
        Ok(())
    }
}

/// `GET` of a path, on a connection that stays open; the status that came back.
pub fn get(stream: &mut TcpStream, path: &str) -> anyhow::Result<u16> {
    request(stream, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// An HTTP request as it is sent, on a connection that stays open; the status that came back.
pub fn request(stream: &mut TcpStream, text: &str) -> anyhow::Result<u16> {
    stream.write_all(text.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (mut line, mut status, mut length) = (String::new(), None, 0);
    while reader.read_line(&mut line)? > 2 {
        if status.is_none() {
            status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length])?;
    status.context("no status came back")
}

/// A service elsewhere that answers each request, one byte, after this long.
pub fn slow_service(answer_after: Duration) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut request = [0; 1024];
                while stream.read(&mut request).is_ok_and(|length| length > 0) {
                    thread::sleep(answer_after);
                    if stream.write_all(b"!").is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// A peer that accepts connections into its queue, and never takes one: when the queue is full, connecting hangs.
pub fn deaf_service() -> anyhow::Result<(SocketAddr, Vec<TcpStream>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    // SAFETY: a system call without memory, on a descriptor that is open.
    unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) };
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        queued.push(stream);
    }
    // It stays for as long as this process.
    std::mem::forget(listener);
    Ok((address, queued))
}

/// A client of an MQTT broker, version 3.1.1.
pub struct Mqtt(TcpStream);

impl Mqtt {
    /// Connects, and waits until the broker says that it did.
    pub fn connect(address: SocketAddr, name: &str) -> anyhow::Result<Self> {
        let mut client = Self(connect(address)?);
        // Protocol and version; a name, a password, a clean session; a minute to keep it alive.
        let mut body = b"\x00\x04MQTT\x04\xc2\x00\x3c".to_vec();
        for text in [name, "user", "password"] {
            body.extend(text_of(text));
        }
        client.packet(0x10, &body)?;
        client.answer()?;
        Ok(client)
    }

    /// Subscribes to a topic.
    pub fn subscribe(&mut self, topic: &str) -> anyhow::Result<()> {
        let mut body = vec![0, 1];
        body.extend(text_of(topic));
        body.push(0);
        self.packet(0x82, &body)?;
        self.answer()
    }

    /// Publishes a message, and waits until the broker has it.
    pub fn publish(&mut self, topic: &str, message: &[u8]) -> anyhow::Result<()> {
        let mut body = text_of(topic);
        body.extend([0, 1]);
        body.extend(message);
        self.packet(0x32, &body)?;
        self.answer()
    }

    /// Reads one packet, whatever it is.
    pub fn answer(&mut self) -> anyhow::Result<()> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        let (mut length, mut shift) = (0, 0);
        loop {
            self.0.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        Ok(self.0.read_exact(&mut vec![0; length])?)
    }

    fn packet(&mut self, kind: u8, body: &[u8]) -> anyhow::Result<()> {
        let mut packet = vec![kind];
        let mut length = body.len();
        while length >= 0x80 {
            packet.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        packet.push(length as u8);
        packet.extend(body);
        Ok(self.0.write_all(&packet)?)
    }
}

/// A text, behind its length.
fn text_of(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
