//! The files that packages ship for systemd.

use std::fs;

use anyhow::{Result, ensure};
use halfopen_tests::runner::root;
use halfopen_tests::server::{Server, command, run};
use halfopen_tests::tools::is_missing;

use super::host::{BINARIES, folder};

/// The line of the unit that passes a key that only root may read.
const CREDENTIAL: &str = "LoadCredential=example.key:/etc/halfopen/example.key";

#[test]
fn the_unit_can_pass_a_key_that_only_root_may_read() -> Result<()> {
    let packaged = |name: &str| fs::read_to_string(root().join("host/packaging").join(name));
    let commented = format!("\n#{CREDENTIAL}\n");
    let unit = packaged("halfopen.service")?;
    ensure!(
        unit.contains("DynamicUser=yes") && unit.contains(&commented),
        "{unit}"
    );
    let guide = fs::read_to_string(root().join("host/OPERATING.md"))?;
    ensure!(guide.contains(CREDENTIAL), "the guide does not say so");
    if is_missing("systemd-analyze", "the unit is one that systemd accepts")? {
        return Ok(());
    }
    let folder = folder()?;
    // The binary lies elsewhere here, and the manual pages are not installed.
    let binary = BINARIES.halfopen.display().to_string();
    for (name, text) in [
        (
            "halfopen.service",
            unit.replace(&commented, &format!("\n{CREDENTIAL}\n")),
        ),
        ("halfopen.socket", packaged("halfopen.socket")?),
    ] {
        let text = text.replace("/usr/bin/halfopen", &binary);
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("Documentation="));
        fs::write(
            folder.path().join(name),
            lines.collect::<Vec<_>>().join("\n"),
        )?;
    }
    let mut verify = command("systemd-analyze", ["verify"]);
    verify.arg(folder.path().join("halfopen.service"));
    let verified = run(verify)?;
    ensure!(
        verified.status.success() && verified.stderr.is_empty(),
        "{verified:?}"
    );
    Ok(())
}

#[test]
fn a_key_comes_from_the_folder_that_systemd_passes() -> Result<()> {
    let folder = folder()?;
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let credentials = folder.path().join("credentials");
    fs::create_dir(&credentials)?;
    fs::write(
        credentials.join("example.key"),
        certificate.signing_key.serialize_pem(),
    )?;
    fs::write(folder.path().join("example.pem"), certificate.cert.pem())?;
    let file = folder.path().join("halfopen.toml");
    fs::write(
        &file,
        "[services.echo]\nlisten = [\"127.0.0.1:0\"]\ntls-cert = \"example.pem\"\n\
         tls-key = \"$CREDENTIALS_DIRECTORY/example.key\"\n",
    )?;
    let serve = || {
        let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
        serve.arg(&file).env_remove("CREDENTIALS_DIRECTORY");
        serve
    };
    let mut passed = serve();
    passed.env("CREDENTIALS_DIRECTORY", &credentials);
    Server::start(passed, 1)?;
    let served = run(serve())?;
    let error = served.stderr.join("\n");
    ensure!(
        error.contains(":4: `tls-key`: $CREDENTIALS_DIRECTORY is not set")
            && error.contains("`LoadCredential=example.key:PATH`"),
        "{error}"
    );
    Ok(())
}
