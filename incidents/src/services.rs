//! The services: crates as they are in the registry, with two patches each. One has the lines that a user adds, the
//! other one faults, which the environment turns on.

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A program to start.
pub struct Service {
    /// The crate's name, and the folder of its patches.
    pub package: &'static str,
    /// The crate's version; none if the source is in `services`.
    pub version: Option<&'static str>,
    /// The executable.
    pub binary: &'static str,
    /// Its arguments; `PORT` stands for a free port.
    pub arguments: &'static [&'static str],
    /// The port on which it listens, if that cannot be chosen.
    pub port: Option<u16>,
    /// A file beside its patches that it is started with; `PORT` stands for the port.
    pub config: Option<&'static str>,
    /// The features of the crate that it is built with; its default ones are off.
    pub features: &'static [&'static str],
    /// What else it finds in its folder when it starts on this port.
    pub prepare: Option<fn(&Path, u16) -> anyhow::Result<()>>,
    /// Whose incidents its incidents are. A service belongs to one half as a whole.
    pub half: Half,
}

/// A part of the corpus.
#[derive(Clone, Copy, PartialEq, Debug, ValueEnum)]
pub enum Half {
    /// Who works on the analyses reads these.
    Open,
    /// These were written by somebody who did not know the analyses, and nobody fits an analysis to them: they tell what a
    /// summary is worth in an incident that nobody has foreseen.
    Hidden,
}

impl Service {
    /// The name of the folder with its source.
    fn folder(&self) -> String {
        match self.version {
            Some(version) => format!("{}-{version}", self.package),
            None => self.package.to_owned(),
        }
    }
}

/// Where everything is.
pub struct Workshop {
    /// This package.
    pub root: PathBuf,
    /// The command.
    pub lookback: PathBuf,
}

impl Workshop {
    /// What is made: sources, executables, snapshots.
    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// The patched sources.
    fn sources(&self) -> PathBuf {
        self.target().join("services")
    }

    /// The executable of a service.
    pub fn executable(&self, service: &Service) -> PathBuf {
        self.target().join("build/release").join(service.binary)
    }

    /// Fetches, patches and builds these services.
    pub fn build(&self, services: &[&Service]) -> anyhow::Result<()> {
        let sources = self.sources();
        fs::create_dir_all(&sources)?;
        for service in services {
            match service.version {
                Some(version) => self.unpack(service, version)?,
                None => mirror(
                    &self.root.join("services").join(service.package),
                    &sources.join(service.package),
                )?,
            }
        }
        for file in ["Cargo.toml", "Cargo.lock"] {
            let (from, to) = (self.root.join("services").join(file), sources.join(file));
            if from.exists() {
                write_if_new(&to, &fs::read(&from)?)?;
            }
        }
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--quiet", "--release", "--locked", "--bins", "--no-default-features"])
            .current_dir(&sources);
        for service in services {
            for feature in service.features {
                cargo.arg("--features").arg(format!("{}/{feature}", service.package));
            }
        }
        cargo.env("CARGO_TARGET_DIR", self.target().join("build")).env("CARGO_INCREMENTAL", "0");
        ensure!(cargo.status()?.success(), "the services do not build");
        Ok(())
    }

    /// Writes a crate's patched source, if it is not there already.
    fn unpack(&self, service: &Service, version: &str) -> anyhow::Result<()> {
        let patches = self.root.join("services").join(service.package);
        let patches: Vec<_> =
            ["record.patch", "faults.patch"].map(|name| patches.join(name)).into();
        let patches: Vec<_> = patches.into_iter().filter(|patch| patch.exists()).collect();
        let mut stamp = Vec::new();
        for patch in &patches {
            stamp.extend(fs::read(patch)?);
        }
        let folder = self.sources().join(service.folder());
        let stamp_file = folder.join(".patches");
        if fs::read(&stamp_file).is_ok_and(|old| old == stamp) {
            return Ok(());
        }
        let pristine = self.fetch(service.package, version)?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        mirror(&pristine, &folder)?;
        for patch in &patches {
            let mut command = Command::new("patch");
            command.args(["--strip=1", "--quiet", "--no-backup-if-mismatch", "--input"]).arg(patch);
            ensure!(
                command.current_dir(&folder).status()?.success(),
                "{} does not apply",
                patch.display()
            );
        }
        fs::write(&stamp_file, stamp)?;
        Ok(())
    }

    /// Has Cargo fetch a crate from the registry, and says where its source is.
    fn fetch(&self, package: &str, version: &str) -> anyhow::Result<PathBuf> {
        let folder = self.target().join("fetch").join(package);
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("src/lib.rs"), "")?;
        let manifest = format!(
            "[workspace]\n[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [dependencies]\n{package} = \"={version}\"\n"
        );
        fs::write(folder.join("Cargo.toml"), manifest)?;
        let mut cargo = Command::new("cargo");
        cargo.args(["metadata", "--quiet", "--format-version", "1"]).current_dir(&folder);
        let output = cargo.output()?;
        ensure!(output.status.success(), "{package}: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let found = metadata["packages"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["name"] == package);
        if let Some(manifest) = found.and_then(|one| one["manifest_path"].as_str()) {
            let folder = Path::new(manifest).parent().context("a manifest lies in a folder")?;
            return Ok(folder.to_owned());
        }
        // A crate without a library is fetched, and then left out.
        let home = match env::var_os("CARGO_HOME") {
            Some(home) => PathBuf::from(home),
            None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
        };
        let registries = fs::read_dir(home.join("registry/src"))?.flatten();
        let mut folders = registries.map(|one| one.path().join(format!("{package}-{version}")));
        folders.find(|folder| folder.is_dir()).with_context(|| format!("{package} was not fetched"))
    }

    /// The line of a service's source that contains this text.
    pub fn line(&self, service: &Service, file: &str, text: &str) -> anyhow::Result<usize> {
        let path = self.sources().join(service.folder()).join(file);
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut lines = source.lines().enumerate().filter(|(_, line)| has(line, text));
        match (lines.next(), lines.next()) {
            (Some((line, _)), None) => Ok(line + 1),
            (None, _) => bail!("{} has no line with {text:?}", path.display()),
            (Some(_), Some(_)) => bail!("{} has several lines with {text:?}", path.display()),
        }
    }
}

/// Whether a line contains this text, and not only as the beginning of a longer word.
fn has(line: &str, text: &str) -> bool {
    let continues =
        |rest: &str| rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    line.match_indices(text).any(|(at, _)| !continues(&line[at + text.len()..]))
}

/// Copies a folder; files that are equal keep their times, so that nothing is built again for them.
fn mirror(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        // The marks of Cargo, and what `cargo package` left of the original.
        if name.to_string_lossy().starts_with('.') || name == "Cargo.toml.orig" {
            continue;
        }
        let to = to.join(&name);
        match entry.file_type()?.is_dir() {
            true => mirror(&entry.path(), &to)?,
            false => write_if_new(&to, &fs::read(entry.path())?)?,
        }
    }
    Ok(())
}

/// Writes a file unless it has these contents.
fn write_if_new(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    Ok(fs::write(path, contents)?)
}
