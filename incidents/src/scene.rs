//! One run of a service: its process, its snapshots, and what the load needs of it.

use crate::incident::{Capture, Incident};
use crate::services::Workshop;
use anyhow::{Context, bail, ensure};
use std::any::Any;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A service that runs.
pub struct Scene {
    /// Where it listens.
    pub address: SocketAddr,
    /// The folder of this incident.
    pub folder: PathBuf,
    executable: PathBuf,
    child: Child,
    /// Whether the child is `lookback run`, and the service its child.
    is_run: bool,
    lookback: PathBuf,
    /// Other processes of the incident, which end with it.
    companions: Vec<Child>,
    /// Clients and connections that stay until the snapshot is taken.
    kept: Vec<Box<dyn Any>>,
    is_crowded: bool,
}

impl Scene {
    /// Starts the incident's service, and waits until it listens.
    pub fn start(
        incident: &Incident,
        workshop: &Workshop,
        env: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let folder = workshop.target().join("incidents").join(incident.name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let service = incident.service;
        let port = match service.port {
            Some(port) => port,
            None => free_port()?,
        };
        if let Some(config) = service.config {
            let text = fs::read_to_string(
                workshop.root.join("services").join(service.package).join(config),
            )?;
            fs::write(folder.join(config), text.replace("PORT", &port.to_string()))?;
        }
        if let Some(prepare) = service.prepare {
            prepare(&folder, port)?;
        }
        let executable = workshop.executable(service);
        let is_run = incident.capture == Capture::Run;
        let resolver = incident.env.iter().find(|(name, _)| *name == "RESOLVER");
        let mut command = match resolver {
            _ if is_run => {
                let mut run = Command::new(&workshop.lookback);
                run.args(["run", "-o"]).arg(&folder).arg("--").arg(&executable);
                run
            }
            Some((_, resolver)) => with_resolver(resolver, &folder, &executable)?,
            None => Command::new(&executable),
        };
        command.args(
            service.arguments.iter().map(|argument| argument.replace("PORT", &port.to_string())),
        );
        command.env("PORT", port.to_string()).env("FAULT", incident.fault);
        // What a container with some more cores than this machine may have would give.
        command.env("TOKIO_WORKER_THREADS", "4");
        if incident.capture == Capture::Trigger {
            command.env("LOOKBACK_SNAPSHOT_DIR", &folder);
        }
        command
            .envs(incident.env.iter().copied())
            .envs(env.iter().map(|(name, value)| (name, value)));
        let log = File::create(folder.join("service.log"))?;
        command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).current_dir(&folder);
        let child = command.spawn().with_context(|| service.binary)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let lookback = workshop.lookback.clone();
        let mut scene = Self {
            address,
            folder,
            executable,
            child,
            is_run,
            lookback,
            companions: Vec::new(),
            kept: Vec::new(),
            is_crowded: false,
        };
        scene.until("the service listens", |scene| {
            if let Some(status) = scene.child.try_wait()? {
                bail!(
                    "the service ended: {status}; see {}",
                    scene.folder.join("service.log").display()
                );
            }
            Ok(TcpStream::connect(scene.address).is_ok())
        })?;
        Ok(scene)
    }

    /// The service's executable.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// The process of the service itself.
    pub fn pid(&self) -> anyhow::Result<libc::pid_t> {
        let child = self.child.id();
        if !self.is_run {
            return Ok(child.try_into()?);
        }
        let children = fs::read_to_string(format!("/proc/{child}/task/{child}/children"))?;
        let first = children.split_whitespace().next().context("`lookback run` has no child")?;
        Ok(first.parse()?)
    }

    /// Sends the service a signal.
    pub fn signal(&self, signal: libc::c_int) -> anyhow::Result<()> {
        // SAFETY: a system call without memory; the process is a child that nobody has waited for.
        ensure!(unsafe { libc::kill(self.pid()?, signal) } == 0, "the service cannot be signalled");
        Ok(())
    }

    /// How much of its memory is resident, in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid()?))?;
        let pages: u64 =
            statm.split_whitespace().nth(1).context("statm has two numbers")?.parse()?;
        Ok(pages * 4096)
    }

    /// Starts a process that ends with the incident; its id.
    pub fn companion(&mut self, command: &mut Command) -> anyhow::Result<libc::pid_t> {
        let log =
            File::create(self.folder.join(format!("companion-{}.log", self.companions.len())))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        let pid = child.id().try_into()?;
        self.companions.push(child);
        Ok(pid)
    }

    /// Has processes take the machine's cores, for as long as the incident lasts. That others had them is then no excuse, but
    /// what happened.
    pub fn crowd(&mut self, processes: u32) -> anyhow::Result<()> {
        self.is_crowded = true;
        for _ in 0..processes {
            self.companion(Command::new("sh").args(["-c", "while :; do :; done"]))?;
        }
        Ok(())
    }

    /// Whether the incident is that others have the cores.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Keeps clients and connections until the snapshot is taken.
    pub fn keep(&mut self, thing: impl Any) {
        self.kept.push(Box::new(thing));
    }

    /// Waits until something is so; that it is not so after half a minute is an error.
    pub fn until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while !is_so(self)? {
            ensure!(began.elapsed() < Duration::from_secs(30), "it took too long until {what}");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The snapshot, as this incident comes to one.
    pub fn capture(&mut self, capture: Capture) -> anyhow::Result<PathBuf> {
        if capture == Capture::Outside {
            let file = self.folder.join("outside.lbk");
            let mut command = Command::new(&self.lookback);
            command.arg("snapshot").arg(self.pid()?.to_string()).arg("-o").arg(&file);
            let output = command.output()?;
            ensure!(file.exists(), "no snapshot: {}", String::from_utf8_lossy(&output.stderr));
            return Ok(file);
        }
        let mut found = None;
        self.until("a snapshot was saved", |scene| {
            found = snapshot_in(&scene.folder)?;
            Ok(found.is_some())
        })?;
        found.context("there is a snapshot")
    }

    /// Ends the service, and all that belongs to it.
    pub fn end(mut self) -> anyhow::Result<()> {
        if let Ok(pid) = self.pid() {
            // SAFETY: as above.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        for companion in &mut self.companions {
            companion.kill()?;
            companion.wait()?;
        }
        let status = self.child.wait()?;
        if let Some(signal) = status.signal().filter(|signal| *signal != libc::SIGKILL) {
            eprintln!("  the service had been ended by signal {signal}");
        }
        Ok(())
    }
}

/// An executable that asks this server for names. It sees another file in the place of `/etc/resolv.conf`, as in a container;
/// only root can have it so.
fn with_resolver(resolver: &str, folder: &Path, executable: &Path) -> anyhow::Result<Command> {
    fs::write(folder.join("resolv.conf"), format!("nameserver {resolver}\n"))?;
    let mut command = Command::new("unshare");
    let script = "mount --bind resolv.conf /etc/resolv.conf && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(executable);
    Ok(command)
}

/// The first snapshot in a folder, once it is whole.
fn snapshot_in(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let files =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    let mut files: Vec<_> =
        files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "lbk")).collect();
    files.sort();
    let Some(first) = files.into_iter().next() else { return Ok(None) };
    // `lookback run` creates the file before it writes it.
    Ok((fs::metadata(&first)?.len() > 0).then_some(first))
}

/// A port that nobody listens on.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
