//! The manifests for Kubernetes, held to the published schemas.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use halfopen_tests::runner::root;
use halfopen_tests::server::{Stopped, command, run};
use halfopen_tests::tools::skipped;

use super::host::folder;

/// The first version with image volumes, and the last one without.
const WITH_IMAGE_VOLUMES: &str = "1.33";
const BEFORE_IMAGE_VOLUMES: &str = "1.30";

/// The Python that has the schemas, if `.ci/python` has made it.
fn python() -> Result<Option<PathBuf>> {
    let python = root().join("target/python/bin/python");
    if python.exists() {
        return Ok(Some(python));
    }
    skipped("the manifests for Kubernetes", "`.ci/python`'s environment")?;
    Ok(None)
}

fn manifest(name: &str) -> PathBuf {
    root().join("host/packaging/kubernetes").join(name)
}

fn validate(python: &Path, version: &str, files: &[PathBuf]) -> Result<Stopped> {
    let mut validate = command(python, [root().join("tests/fleet/validate.py")]);
    validate.arg(version).args(files);
    run(validate)
}

#[test]
fn the_manifests_are_valid() -> Result<()> {
    let Some(python) = python()? else {
        return Ok(());
    };
    let common = ["service.yaml", "route.yaml"].map(manifest);
    for (version, deployment) in [
        (WITH_IMAGE_VOLUMES, "deployment.yaml"),
        (BEFORE_IMAGE_VOLUMES, "deployment-init-container.yaml"),
    ] {
        let files = [&common[..], &[manifest(deployment)]].concat();
        let validated = validate(&python, version, &files)?;
        ensure!(
            validated.status.success() && validated.stdout.len() == 5,
            "{validated:?}"
        );
    }
    Ok(())
}

/// What the schemas are there for: each of these mistakes is found.
#[test]
fn mistakes_in_manifests_are_found() -> Result<()> {
    let Some(python) = python()? else {
        return Ok(());
    };
    let folder = folder()?;
    for (name, right, wrong, expected) in [
        (
            "deployment.yaml",
            "readinessProbe:",
            "readynessProbe:",
            "readynessProbe",
        ),
        ("deployment.yaml", "replicas: 3", "replicas: three", "three"),
        (
            "service.yaml",
            "maxUnavailable: 1",
            "maxUnavailabel: 1",
            "maxUnavailabel",
        ),
        ("route.yaml", "backendRefs:", "backends:", "backend"),
        ("route.yaml", "port: 1234\n", "port: 123456\n", "123456"),
        (
            "route.yaml",
            "gateway.networking.k8s.io/v1\nkind: TCPRoute",
            "gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute",
            "v1alpha2",
        ),
    ] {
        let text = fs::read_to_string(manifest(name))?;
        ensure!(text.contains(right), "{name} has no {right}");
        let file = folder.path().join(name);
        fs::write(&file, text.replacen(right, wrong, 1))?;
        let validated = validate(&python, WITH_IMAGE_VOLUMES, &[file])?;
        let said = validated.stderr.join("\n");
        ensure!(
            validated.status.code() == Some(1) && said.contains(expected),
            "{wrong}: {validated:?}"
        );
    }
    // An older Kubernetes knows no image volumes, which is why there are two deployments.
    let validated = validate(
        &python,
        BEFORE_IMAGE_VOLUMES,
        &[manifest("deployment.yaml")],
    )?;
    ensure!(validated.status.code() == Some(1), "{validated:?}");
    Ok(())
}

/// A stop fits into the time that Kubernetes gives it, and both deployments are the same but for
/// where the component comes from.
#[test]
fn the_deployments_agree() -> Result<()> {
    let image = fs::read_to_string(manifest("deployment.yaml"))?;
    let copied = fs::read_to_string(manifest("deployment-init-container.yaml"))?;
    let seconds = |name: &str| -> Result<u64> {
        let (_, rest) = image
            .split_once(name)
            .with_context(|| format!("no {name}"))?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    };
    let stop = seconds("--drain-delay=")? + seconds("--grace=")?;
    ensure!(seconds("terminationGracePeriodSeconds: ")? > stop);
    let body = |text: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| line.starts_with('#'));
        lines.map(ToOwned::to_owned).collect()
    };
    let (image, copied) = (body(&image), body(&copied));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        let only = these.iter().filter(|line| !those.contains(line));
        only.map(|line| line.trim().to_owned()).collect()
    };
    ensure!(
        only(&image, &copied)
            == [
                "image:",
                "reference: registry.example/service:1",
                "pullPolicy: IfNotPresent"
            ]
    );
    let copied = only(&copied, &image);
    ensure!(
        copied.first().is_some_and(|line| line == "initContainers:")
            && copied.contains(&"command: [cp, /service.wasm, /service/service.wasm]".to_owned()),
        "{copied:?}"
    );
    Ok(())
}
