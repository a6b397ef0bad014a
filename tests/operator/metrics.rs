//! Metrics as Prometheus reads them, and the rules and the dashboard that packages ship.
//! `promtool`, which Prometheus brings along, checks all of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::root;
use halfopen_tests::tools::is_missing;

use super::host::{folder, get_as, metric, served, with_admin};

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

/// Runs `promtool` with this input, and returns what it prints. It must succeed.
fn promtool(arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(root().join("host/packaging"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("standard input is not piped")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(output.status.success(), "promtool {arguments:?}: {text}");
    Ok(text)
}

#[test]
fn promtool_accepts_the_metrics() -> Result<()> {
    if is_missing("promtool", "the check of the metrics")? {
        return Ok(());
    }
    let (server, admin) = with_admin("hostile", &[], &[])?;
    let mut client = served(&server)?;
    client.fin()?;
    ensure!(client.end()?.1 == End::Fin);
    let (head, metrics) = get_as(&admin, "/metrics", "*/*")?;
    ensure!(head.contains("text/plain; version=0.0.4"), "{head}");
    let said = promtool(&["check", "metrics"], &metrics)?;
    ensure!(said.is_empty(), "{said}");
    Ok(())
}

#[test]
fn the_client_chooses_the_format() -> Result<()> {
    let (_server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let (head, metrics) = get_as(&admin, "/metrics", OPENMETRICS)?;
    ensure!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    // The end that OpenMetrics requires.
    ensure!(metrics.ends_with("# EOF\n"), "{metrics}");
    ensure!(
        metrics.contains("# TYPE halfopen_accepted counter"),
        "{metrics}"
    );
    let (head, metrics) = get_as(&admin, "/metrics", "text/plain")?;
    ensure!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    ensure!(
        metrics.contains("# TYPE halfopen_accepted_total counter"),
        "{metrics}"
    );
    ensure!(!metrics.contains("# EOF"), "{metrics}");
    Ok(())
}

#[test]
fn every_series_begins_at_zero() -> Result<()> {
    let (server, admin) = with_admin("hostile", &[], &[])?;
    for ending in [
        "fin",
        "trap",
        "service-error",
        "reset-by-peer",
        "limit-idle",
        "refused-per-peer",
        "refused-tls",
    ] {
        let name = format!(r#"halfopen_closed_total{{service="hostile",ending="{ending}"}}"#);
        ensure!(metric(&admin, &name)? == 0.0, "{name}");
    }
    for name in [
        r#"halfopen_accepted_total{service="hostile"}"#,
        r#"halfopen_traps_total{service="hostile"}"#,
        r#"halfopen_connection_duration_seconds_count{service="hostile"}"#,
        r#"halfopen_accept_errors_total{service="hostile",error="descriptors"}"#,
        r#"halfopen_reloads_total{outcome="failed"}"#,
        "halfopen_log_lines_dropped_total",
    ] {
        ensure!(metric(&admin, name)? == 0.0, "{name}");
    }
    // No event adds a series that was not there before.
    let series = || -> Result<BTreeSet<String>> {
        let (_, metrics) = get_as(&admin, "/metrics", "*/*")?;
        let samples = metrics.lines().filter(|line| !line.starts_with('#'));
        Ok(samples
            .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
            .collect())
    };
    let before = series()?;
    for byte in [b"e", b"t"] {
        let mut client = Client::connect(server.address())?;
        client.send(byte)?;
        client.end()?;
    }
    served(&server)?.reset()?;
    server.logged("the service trapped")?;
    ensure!(series()? == before);
    Ok(())
}

#[test]
fn the_process_is_measured() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let resident = metric(&admin, "process_resident_memory_bytes")?;
    ensure!(resident > f64::from(1 << 20), "{resident}");
    ensure!(metric(&admin, "process_virtual_memory_bytes")? > resident);
    ensure!(metric(&admin, "process_cpu_seconds_total")? > 0.0);
    ensure!(metric(&admin, "process_start_time_seconds")? > 1.7e9);
    let before = metric(&admin, "process_open_fds")?;
    let open = [served(&server)?, served(&server)?, served(&server)?];
    let now = metric(&admin, "process_open_fds")?;
    ensure!(now >= before + 3.0, "{before}, then {now}");
    ensure!(metric(&admin, "process_max_fds")? > now);
    drop(open);
    Ok(())
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() -> Result<()> {
    if is_missing("promtool", "the check of the alert rules")? {
        return Ok(());
    }
    promtool(&["check", "rules", "halfopen.rules.yml"], "")?;
    promtool(&["test", "rules", "halfopen.rules.test.yml"], "")?;
    Ok(())
}

/// Returns the expressions of the dashboard's panels.
fn panels() -> Result<Vec<String>> {
    let dashboard = fs::read_to_string(root().join("host/packaging/grafana.json"))?;
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let expressions = targets
        .flatten()
        .filter_map(|target| target["expr"].as_str());
    // What Grafana puts in for its variables.
    Ok(expressions
        .map(|expression| {
            let expression = expression.replace("$__rate_interval", "5m");
            expression
                .replace("$service", ".*")
                .replace("$instance", ".*")
        })
        .collect())
}

#[test]
fn the_expressions_of_the_dashboard_are_valid() -> Result<()> {
    if is_missing("promtool", "the check of the dashboard")? {
        return Ok(());
    }
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, expression) in panels()?.iter().enumerate() {
        let quoted = serde_json::to_string(expression)?;
        rules += &format!("  - record: panel:{number}\n    expr: {quoted}\n");
    }
    let folder = folder()?;
    let file = folder.path().join("dashboard.yml");
    fs::write(&file, rules)?;
    promtool(&["check", "rules", &file.to_string_lossy()], "").map(drop)
}

/// Rules and dashboard must not name what the server does not measure.
#[test]
fn rules_and_dashboard_use_metrics_that_exist() -> Result<()> {
    let (_server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let (_, metrics) = get_as(&admin, "/metrics", "*/*")?;
    let known: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split([' ', '{']).next())
        .collect();
    let rules = fs::read_to_string(root().join("host/packaging/halfopen.rules.yml"))?;
    let text = panels()?.join("\n") + &rules;
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let used: BTreeSet<&str> = text
        .split(|letter| !is_part(letter))
        .filter(|word| word.starts_with("halfopen_") || word.starts_with("process_"))
        .collect();
    ensure!(used.len() > 10, "{used:?}");
    let unknown: Vec<_> = used.difference(&known).collect();
    ensure!(unknown.is_empty(), "{unknown:?}");
    Ok(())
}
