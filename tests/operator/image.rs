//! The container image, as `host/packaging/image/build` makes it. `tests/fleet` runs it on Docker.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use halfopen_tests::runner::root;
use halfopen_tests::server::{Stopped, command, run};
use halfopen_tests::tools::is_missing;

use super::host::{BINARIES, folder};

/// What the image may have beside the binary: libraries and certificates, in bytes.
const BESIDE: u64 = 8 << 20;

fn build(arguments: &[&Path]) -> Result<Stopped> {
    let mut build = command(
        root().join("host/packaging/image/build"),
        Vec::<String>::new(),
    );
    build.args(arguments);
    run(build)
}

fn tar(arguments: &[&str], folder: &Path, archive: &Path) -> Result<Vec<String>> {
    let mut tar = command("tar", arguments);
    tar.arg(archive).arg("--directory").arg(folder);
    let done = run(tar)?;
    ensure!(done.status.success(), "{done:?}");
    Ok(done.stdout)
}

/// The layer of an image that has been unpacked here.
fn layer(folder: &Path) -> Result<PathBuf> {
    let manifest = fs::read_to_string(folder.join("manifest.json"))?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
    let layer = manifest[0]["Layers"][0].as_str().context("a layer")?;
    let config = manifest[0]["Config"].as_str().context("a configuration")?;
    let config: serde_json::Value = serde_json::from_slice(&fs::read(folder.join(config))?)?;
    ensure!(config["config"]["User"] == "65532:65532", "{config}");
    // Each digest is that of the bytes.
    for blob in fs::read_dir(folder.join("blobs/sha256"))? {
        let blob = blob?;
        let sum = run(command("sha256sum", [blob.path()]))?;
        let sum = sum.stdout.first().context("a sum")?.clone();
        let name = blob.file_name();
        ensure!(sum.starts_with(name.to_str().context("a name")?), "{sum}");
    }
    let digest = layer.rsplit('/').next().unwrap_or_default();
    ensure!(
        config["rootfs"]["diff_ids"][0] == format!("sha256:{digest}"),
        "{config}"
    );
    Ok(folder.join(layer))
}

#[test]
fn the_image_has_the_same_bytes_twice_and_all_that_the_binary_needs() -> Result<()> {
    let folder = folder()?;
    let [one, two, image, files] =
        ["one.tar", "two.tar", "image", "files"].map(|name| folder.path().join(name));
    for archive in [&one, &two] {
        let built = build(&[&BINARIES.halfopen, archive, Path::new("halfopen:1")])?;
        ensure!(built.status.success(), "{built:?}");
    }
    let same = run({
        let mut same = command("cmp", [&one]);
        same.arg(&two);
        same
    })?;
    ensure!(same.status.success(), "{same:?}");
    fs::remove_file(two)?;

    fs::create_dir(&image)?;
    tar(&["--extract", "--file"], &image, &one)?;
    fs::remove_file(one)?;
    let layer = layer(&image)?;
    let beside = fs::metadata(&layer)?.len() - fs::metadata(&BINARIES.halfopen)?.len();
    ensure!(beside < BESIDE, "{beside}");
    let listed = tar(
        &["--list", "--verbose", "--numeric-owner", "--file"],
        &image,
        &layer,
    )?;
    ensure!(
        listed.iter().all(|line| line.contains(" 0/0 ")),
        "{listed:?}"
    );
    let open = listed.iter().filter(|line| line.starts_with("drwxrwxrwt"));
    ensure!(
        open.clone().count() == 1 && open.clone().all(|line| line.ends_with("run/halfopen/")),
        "{listed:?}"
    );
    ensure!(
        !listed.iter().any(|line| line.ends_with("/sh")),
        "{listed:?}"
    );

    if is_missing("chroot", "the image has every library")? {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("!!! SKIPPED: the image has every library: chroot needs root");
        return Ok(());
    }
    fs::create_dir(&files)?;
    tar(&["--extract", "--file"], &files, &layer)?;
    let mut version = command("chroot", ["--userspec=65532:65532"]);
    version.arg(&files).args(["/usr/bin/halfopen", "--version"]);
    let version = run(version)?;
    ensure!(
        version.status.success() && version.stdout[0].starts_with("halfopen "),
        "{version:?}"
    );
    Ok(())
}

#[test]
fn what_cannot_become_an_image_is_said() -> Result<()> {
    let folder = folder()?;
    let archive = folder.path().join("image.tar");
    for (binary, name, expected) in [
        ("/no/such/binary", "halfopen:1", "is not a file; build one"),
        ("/bin/true", "halfopen", "is not NAME:TAG"),
    ] {
        let built = build(&[Path::new(binary), &archive, Path::new(name)])?;
        let said = built.stderr.join("\n");
        ensure!(
            built.status.code() == Some(1) && said.contains(expected) && !archive.exists(),
            "{built:?}"
        );
    }
    Ok(())
}
