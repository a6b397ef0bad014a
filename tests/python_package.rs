//! The Python package as its users get it: packed, installed from the packed file alone into an
//! environment of its own, and used. Needs Python 3.11 or newer with `venv` and `pip`.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{guest_path, root};
use halfopen_tests::server::{Server, command, run};
use halfopen_tests::tools::skipped;

#[test]
fn the_packed_package_is_installed_and_used() -> Result<()> {
    let Some(python) = python() else {
        return skipped(
            "the Python package",
            "Python 3.11 or newer, with venv and pip,",
        );
    };
    let folder = tempfile::tempdir()?;
    let wheel = pack(&python, folder.path())?;
    let contents = output(command(&python, ["-m", "zipfile", "-l"]).arg(&wheel))?;
    for needed in [
        "halfopen/py.typed",
        "halfopen/__main__.py",
        "LICENSE-MIT",
        "LICENSE-APACHE",
    ] {
        ensure!(contents.contains(needed), "no {needed} in {contents}");
    }
    ensure!(!contents.contains("tests/"), "tests are in {contents}");

    let environment = folder.path().join("environment");
    output(command(&python, ["-m", "venv"]).arg(&environment))?;
    let installed = environment.join("bin/python");
    let mut install = command(&installed, ["-m", "pip", "install", "--quiet"]);
    output(install.arg("--disable-pip-version-check").arg(&wheel))?;

    as_a_library(&installed, folder.path())?;
    as_a_command(&installed)?;
    println!("{} was installed and used", wheel.display());
    Ok(())
}

/// Returns a Python that is new enough and can install packages: that of `target/python`, or
/// the one on the PATH.
fn python() -> Option<PathBuf> {
    let fits = |python: &PathBuf| {
        let check = "import sys, venv, pip; sys.exit(sys.version_info < (3, 11))";
        let status = Command::new(python).args(["-c", check]).status();
        status.is_ok_and(|status| status.success())
    };
    let own = root().join("target/python/bin/python");
    [own, PathBuf::from("python3")].into_iter().find(fits)
}

/// Makes the package's wheel, and returns its path.
fn pack(python: &Path, folder: &Path) -> Result<PathBuf> {
    let mut pack = command(python, ["-m", "pip", "wheel", "--quiet", "--no-deps"]);
    pack.arg("--disable-pip-version-check");
    output(
        pack.arg("--wheel-dir")
            .arg(folder)
            .arg(root().join("host/python")),
    )?;
    let files = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths = files.into_iter().map(|file| file.path());
    paths
        .find(|path| path.extension().is_some_and(|kind| kind == "whl"))
        .context("pip has made no wheel")
}

/// Runs the program of the package's README, and checks its types where mypy is installed.
fn as_a_library(python: &Path, folder: &Path) -> Result<()> {
    let readme = fs::read_to_string(root().join("host/python/README.md"))?;
    let program = readme
        .split_once("```python\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .context("the README has no program")?
        .0;
    // The port may be in use here.
    let free = program.replace("port=1234", "port=0");
    ensure!(free != program, "the README's program has no port");
    let file = folder.join("program.py");
    fs::write(&file, free)?;
    fs::copy(guest_path("echo"), folder.join("echo.wasm"))?;

    let mypy = root().join("target/python/bin/mypy");
    if mypy.exists() {
        let mut check = command(&mypy, ["--strict", "--python-executable"]);
        output(check.arg(python).arg(&file).current_dir(folder))?;
    } else {
        skipped("the types of the Python package", "`.ci/python`, so mypy,")?;
    }
    let mut run = command(python, [&file]);
    run.current_dir(folder);
    echoes(&Server::start(run, 1)?)
}

fn as_a_command(python: &Path) -> Result<()> {
    let serve = |component: &Path| {
        let mut serve = command(python, ["-m", "halfopen", "serve"]);
        serve.arg(component).args(["--listen", "127.0.0.1:0"]);
        serve
    };
    echoes(&Server::start(serve(&guest_path("echo")), 1)?)?;
    let stopped = run(serve(&guest_path("digest")))?;
    ensure!(stopped.status.code() == Some(1), "{stopped:?}");
    ensure!(stopped.stdout.is_empty(), "{stopped:?}");
    let [line] = &stopped.stderr[..] else {
        anyhow::bail!("{:?}", stopped.stderr);
    };
    ensure!(
        line.starts_with("error: cannot serve ") && line.contains("await style"),
        "{line}"
    );
    Ok(())
}

/// Checks that a server echoes, and prints what the service prints.
fn echoes(server: &Server) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    client.send(b"hi")?;
    client.fin()?;
    ensure!(client.end()? == (b"hi".to_vec(), End::Fin));
    let printed = server.printed(3);
    ensure!(
        printed[1..] == ["data: <Buffer 68 69>", "EOF."],
        "{printed:?}"
    );
    Ok(())
}

/// Runs a command that must succeed, and returns what it prints.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    ensure!(output.status.success(), "{command:?}: {printed}");
    Ok(printed)
}
