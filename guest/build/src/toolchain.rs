//! Compiling the guests, the same way on every machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::guests::GUESTS;

/// What the shipped components are compiled for: nothing but the interfaces that they
/// name. (`wasm32-wasip2` works as well, but its standard library brings thirteen WASI
/// 0.2 imports along, whether they are used or not.)
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Where the target's standard library comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The pinned toolchain, whose target rustup provides.
    Rustup,
    /// Debian's packages `rustc-web`, `cargo-web`, `rust-web-src` and `lld-22`: the
    /// standard library is compiled as well.
    Debian,
}

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

impl Toolchain {
    /// The one that can be had for `target`; rustup's is fetched if need be.
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

    /// What the compiler says it is.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn version(&self) -> Result<String> {
        output(self.rustc().arg("--version"))
    }

    /// Compiles all guests into the folder `target_dir`.
    ///
    /// # Errors
    /// If that fails.
    pub fn compile(&self, root: &Path, target: &str, target_dir: &Path) -> Result<Compiled> {
        // Apart, because the adapter needs a feature of wit-bindgen that costs the others
        // two operations for each event, and that they have their own way around.
        for group in [true, false] {
            let packages = GUESTS
                .iter()
                .filter(|guest| guest.standalone == group)
                .flat_map(|guest| ["--package".to_owned(), guest.package()]);
            let mut cargo = self.cargo();
            cargo
                .current_dir(root)
                .args(["build", "--profile", "guest", "--locked"])
                .args(["--target", target])
                .arg("--target-dir")
                .arg(target_dir)
                .args(packages)
                .env("CARGO_ENCODED_RUSTFLAGS", self.flags(root)?.join("\x1f"));
            // A guest does not depend on how the host is built.
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
                // To compile the standard library is unstable; with exactly this
                // compiler it is known to work.
                cargo.env("RUSTC_BOOTSTRAP", "1");
                cargo.args(["-Z", "build-std=std,panic_abort"]);
                cargo.env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
        }
    }

    /// Paths of this machine must not get into the components.
    fn flags(&self, root: &Path) -> Result<Vec<String>> {
        let cargo_home = match std::env::var_os("CARGO_HOME") {
            Some(home) => PathBuf::from(home),
            None => {
                PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo")
            }
        };
        let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
        // The last one that fits counts.
        let mut flags = vec![
            // Part of WebAssembly since 2.0; what searches and hashes is several times as
            // fast with it.
            "-Ctarget-feature=+simd128".to_owned(),
            // Room from the start, so that a service that needs little never grows its
            // memory: the host would have to make that accessible, and take it back.
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

/// Where the compiled guests are.
#[derive(Clone, Debug)]
pub struct Compiled(PathBuf);

impl Compiled {
    /// The content of one, by the name of its crate.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, package: &str) -> Result<Vec<u8>> {
        let path = self.0.join(format!("{}.wasm", package.replace('-', "_")));
        std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))
    }
}

/// The newest of Debian's linkers for WebAssembly, which comes apart from the compiler.
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
