//! Compiling the guests, the same way on every machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::guests::{GUESTS, Role};
use crate::profile;
use crate::workspace::Workspace;

/// The target of the committed components, which import only the interfaces that their
/// sources name. (The standard library of `wasm32-wasip2` adds thirteen WASI 0.2 imports
/// to every component, used or not.)
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Where the compiler and the target's standard library come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Toolchain {
    /// The pinned toolchain, with the target that rustup provides
    Rustup,
    /// Debian's rustc-web, cargo-web, rust-web-src and lld-22; builds the standard
    /// library as well
    Debian,
}

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

impl Toolchain {
    /// Finds a toolchain for `target`, having rustup install the target if necessary.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(target: &str) -> Result<Self> {
        if Self::Rustup
            .sysroot()
            .is_ok_and(|sysroot| has(&sysroot, target))
        {
            return Ok(Self::Rustup);
        }
        let added = Command::new("rustup")
            .args(["target", "add", target])
            .status();
        if added.is_ok_and(|status| status.success()) {
            return Ok(Self::Rustup);
        }
        if Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_CARGO).exists() {
            return Ok(Self::Debian);
        }
        bail!(
            "no standard library for {target}: run `rustup target add {target}`, or on Debian `apt-get install rustc-web cargo-web rust-web-src lld-22`"
        )
    }

    /// The version line that the compiler prints.
    ///
    /// # Errors
    /// If the compiler cannot be run.
    pub fn version(&self) -> Result<String> {
        output(self.rustc().arg("--version"))
    }

    /// Compiles all guests into the folder `target_dir`.
    ///
    /// # Errors
    /// If they do not compile.
    pub fn compile(&self, root: &Path, target: &str, target_dir: &Path) -> Result<Compiled> {
        let flags = self.flags(root)?.join("\x1f");
        let config = write_overrides(root, target_dir)?;
        // Two builds: the adapter needs a feature of wit-bindgen which would cost the
        // other guests two operations per event, and which the SDK replaces by its own
        // means. In one build, cargo would enable it for all of them.
        for parts in [false, true] {
            let packages = GUESTS
                .iter()
                .filter(|guest| (guest.role == Role::Part) == parts)
                .flat_map(|guest| ["--package".to_owned(), guest.package()]);
            let mut cargo = self.cargo();
            cargo
                .current_dir(root)
                .args(["build", "--profile", "guest", "--locked"])
                .args(["--target", target])
                .arg("--target-dir")
                .arg(target_dir)
                .arg("--config")
                .arg(&config)
                .args(packages)
                .env("CARGO_ENCODED_RUSTFLAGS", &flags);
            // The environment may say how to build the host; that must not reach a guest.
            for name in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
                cargo.env_remove(name);
            }
            let status = cargo.status().context("cannot run cargo")?;
            if !status.success() {
                bail!("the guests do not compile for {target}; see above");
            }
        }
        Ok(Compiled(target_dir.join(target).join("guest")))
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Rustup => Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into())),
            Self::Debian => {
                let mut cargo = Command::new(DEBIAN_CARGO);
                cargo.env("RUSTC", DEBIAN_RUSTC);
                // Building the standard library is an unstable feature, which is known to
                // work with this compiler.
                cargo.env("RUSTC_BOOTSTRAP", "1");
                cargo.args(["-Z", "build-std=std,panic_abort"]);
                cargo.env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
        }
    }

    /// The compiler's flags, which among other things keep paths of this machine out of
    /// the components.
    fn flags(&self, root: &Path) -> Result<Vec<String>> {
        let cargo_home = match std::env::var_os("CARGO_HOME") {
            Some(home) => PathBuf::from(home),
            None => {
                PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo")
            }
        };
        let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
        // If several prefixes match a path, rustc applies the last.
        let mut flags = vec![
            // Part of WebAssembly since 2.0; searching and hashing are several times as
            // fast with it.
            "-Ctarget-feature=+simd128".to_owned(),
            // A heap from the start, so that a small service never grows its memory:
            // growing costs the host a call to make pages accessible, and another to take
            // them back.
            "-Clink-arg=--initial-heap=262144".to_owned(),
            remap(&self.sysroot()?, "/rust"),
            remap(&cargo_home, "/cargo"),
            remap(root, "/halfopen"),
        ];
        if *self == Self::Debian {
            flags.push(format!("-Clinker={}", debian_linker()?.display()));
        }
        Ok(flags)
    }

    fn sysroot(&self) -> Result<PathBuf> {
        Ok(output(self.rustc().args(["--print", "sysroot"]))?.into())
    }

    fn rustc(&self) -> Command {
        match self {
            Self::Rustup => Command::new("rustc"),
            Self::Debian => Command::new(DEBIAN_RUSTC),
        }
    }
}

/// Writes the settings that keep the overrides of other profiles out of the guests, and
/// returns the path of the file.
fn write_overrides(root: &Path, folder: &Path) -> Result<PathBuf> {
    let overrides = profile::overrides(&Workspace::read(root)?.manifest)?;
    let path = folder.join("overrides.toml");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, overrides))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}

/// The folder of the compiled guests.
#[derive(Clone, Debug)]
pub struct Compiled(PathBuf);

impl Compiled {
    /// Reads the compiler's output for a crate.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, package: &str) -> Result<Vec<u8>> {
        let path = self.0.join(format!("{}.wasm", package.replace('-', "_")));
        std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))
    }
}

/// The newest of Debian's linkers for WebAssembly; their packages are separate from the
/// compiler's.
fn debian_linker() -> Result<PathBuf> {
    let version = |path: &Path| -> Option<u32> {
        path.file_name()?
            .to_str()?
            .strip_prefix("llvm-")?
            .parse()
            .ok()
    };
    std::fs::read_dir("/usr/lib")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((version(&path)?, path.join("bin/wasm-ld"))))
        .filter(|(_, linker)| linker.exists())
        .max()
        .map(|(_, linker)| linker)
        .context("no linker for WebAssembly: run `apt-get install lld-22`, or the lld of your rustc-web's LLVM")
}

fn has(sysroot: &Path, target: &str) -> bool {
    sysroot
        .join("lib/rustlib")
        .join(target)
        .join("lib")
        .exists()
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", display(command.get_program())))?;
    if !output.status.success() {
        bail!("{} failed", display(command.get_program()));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn display(program: &OsStr) -> String {
    format!("`{}`", program.to_string_lossy())
}
