//! The images of the fleet: halfopen's own, by the script that ships, and HAProxy's, of the binary
//! of this machine.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use halfopen_tests::runner::root;

use crate::nodes::{Node, done};

/// The image of HAProxy.
pub(crate) const HAPROXY: &str = "haproxy:fleet";

/// A binary of halfopen, and the image that has it.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) image: &'static str,
    pub(crate) binary: PathBuf,
}

/// Makes two versions of halfopen, and loads all images on each node. The second version is the
/// first with a byte more at the end, which the kernel does not load.
pub(crate) fn load(nodes: &[Node], binary: &Path, folder: &Path) -> Result<[Version; 2]> {
    let next = folder.join("halfopen-next");
    fs::copy(binary, &next)?;
    fs::OpenOptions::new()
        .append(true)
        .open(&next)?
        .write_all(b"\n")?;
    let versions = [
        Version {
            image: "halfopen:1",
            binary: binary.to_owned(),
        },
        Version {
            image: "halfopen:2",
            binary: next,
        },
    ];
    for version in &versions {
        let archive = folder.join("image.tar");
        print!("{}", build(&version.binary, &archive, version.image)?);
        let archive = archive.to_str().context("the path is UTF-8")?;
        for node in nodes {
            node.docker(&["load", "--quiet", "--input", archive])?;
        }
    }
    let haproxy = haproxy(folder)?;
    let haproxy = haproxy.to_str().context("the path is UTF-8")?;
    for node in nodes {
        node.docker(&["import", "--change", "ENV PATH=/usr/sbin", haproxy, HAPROXY])?;
    }
    Ok(versions)
}

/// Makes an image with the script that ships.
fn build(binary: &Path, archive: &Path, name: &str) -> Result<String> {
    let mut build = Command::new(root().join("host/packaging/image/build"));
    done(build.arg(binary).arg(archive).arg(name))
}

/// Packs HAProxy, with its libraries.
fn haproxy(folder: &Path) -> Result<PathBuf> {
    let binary = Path::new("/usr/sbin/haproxy");
    let libraries = done(Command::new("ldd").arg(binary))?;
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(Path::new);
    let image = folder.join("haproxy");
    for file in libraries.chain([binary]) {
        let copy = image.join(file.strip_prefix("/")?);
        fs::create_dir_all(copy.parent().context("it is in a folder")?)?;
        fs::copy(file, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    let archive = folder.join("haproxy.tar");
    let status = Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&image)
        .arg(".")
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "tar: {status}");
    Ok(archive)
}
