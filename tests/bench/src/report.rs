//! Tables, and files of results.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::server::{NODE, TOKIO};

/// The result of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) date: String,
    pub(crate) machine: String,
    pub(crate) versions: BTreeMap<String, String>,
    /// The arguments of the run.
    pub(crate) command: String,
    pub(crate) rows: Vec<Row>,
}

/// One figure of one server under one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) load: String,
    pub(crate) metric: String,
    pub(crate) unit: String,
    pub(crate) more_is_better: bool,
    pub(crate) server: String,
    /// One figure for each round, in order.
    pub(crate) rounds: Vec<f64>,
}

/// A goal for a server under a load, as ratios to tokio and to Node.
struct Goal {
    load: &'static str,
    metric: &'static str,
    server: &'static str,
    tokio: Option<f64>,
    node: Option<f64>,
}

const fn goal(
    load: &'static str,
    metric: &'static str,
    server: &'static str,
    tokio: f64,
    node: f64,
) -> Goal {
    Goal {
        load,
        metric,
        server,
        tokio: if tokio > 0.0 { Some(tokio) } else { None },
        node: if node > 0.0 { Some(node) } else { None },
    }
}

const GOALS: &[Goal] = &[
    goal("round trips, 64 × 64 B", "rate", "shared-pass", 0.95, 1.8),
    goal("round trips, 1000 × 64 B", "rate", "shared-pass", 0.95, 1.8),
    goal("round trips, 64 × 64 B", "rate", "shared-copy", 0.75, 1.4),
    goal("round trips, 1000 × 64 B", "rate", "shared-copy", 0.75, 1.4),
    goal(
        "round trips, 64 × 64 B",
        "rate",
        "connection-copy",
        0.70,
        1.3,
    ),
    goal(
        "round trips, 1000 × 64 B",
        "rate",
        "connection-copy",
        0.70,
        1.3,
    ),
    goal("bulk, 1", "throughput", "shared-pass", 1.0, 1.5),
    goal("bulk, 8", "throughput", "shared-pass", 1.0, 1.5),
    goal("bulk, 1", "throughput", "shared-copy", 0.9, 1.3),
    goal("bulk, 8", "throughput", "shared-copy", 0.9, 1.3),
    goal("churn", "rate", "shared-copy", 0.9, 1.5),
    goal("churn", "rate", "connection-copy", 0.6, 1.2),
    goal("round trips, 64 × 64 B", "p99", "shared-pass", 1.3, 0.7),
    goal("round trips, 64 × 64 B", "p99", "shared-copy", 1.3, 0.7),
    goal("idle, 10000", "memory each", "shared-pass", 1.0, 1.0),
    goal("start, warm", "time", "shared-copy", 4.0, 0.2),
];

/// The goal for the memory of an idle connection with an instance of its own, in KiB.
const OWN_INSTANCE: f64 = 48.0;

/// Returns the word for whether a goal is met.
fn outcome(met: bool) -> &'static str {
    if met { "met" } else { "**not met**" }
}

impl Run {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("`{}` is not a result of this program", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    fn find(&self, load: &str, metric: &str, server: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.load == load && row.metric == metric && row.server == server)
    }

    /// Returns the median of the rounds' ratios.
    fn ratio(&self, row: &Row, to: &str) -> Option<f64> {
        let other = self.find(&row.load, &row.metric, to)?;
        let ratios = row.rounds.iter().zip(&other.rounds);
        Some(median(ratios.map(|(one, other)| one / other)))
    }

    /// Returns a table of all figures: the median of the rounds, and the ratios to tokio and
    /// Node.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "| load | figure | server | median | to tokio | to node |\n|---|---|---|--:|--:|--:|\n",
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "| {} | {} ({}) | {} | {} | {} | {} |",
                row.load,
                row.metric,
                row.unit,
                row.server,
                digits(median(row.rounds.iter().copied())),
                ratio(self.ratio(row, TOKIO)),
                ratio(self.ratio(row, NODE)),
            );
        }
        text
    }

    /// Returns a table of the goals for the loads that were measured, and what was reached.
    pub(crate) fn goals(&self) -> String {
        let mut text = String::from(
            "| load | figure | server | to tokio | goal | | to node | goal | | tokio to node |\n|---|---|---|--:|--:|---|--:|--:|---|--:|\n",
        );
        for goal in GOALS {
            let Some(row) = self.find(goal.load, goal.metric, goal.server) else {
                continue;
            };
            let reached = |ratio: Option<f64>, goal: Option<f64>| match (ratio, goal) {
                (Some(ratio), Some(goal)) if row.more_is_better => outcome(ratio >= goal),
                (Some(ratio), Some(goal)) => outcome(ratio <= goal),
                _ => "",
            };
            let (tokio, node) = (self.ratio(row, TOKIO), self.ratio(row, NODE));
            // Shows how far native code is from Node under the same load.
            let native = self.find(goal.load, goal.metric, TOKIO);
            let native = native.and_then(|native| self.ratio(native, NODE));
            let sign = if row.more_is_better { "≥" } else { "≤" };
            let bound =
                |goal: Option<f64>| goal.map_or(String::new(), |goal| format!("{sign} {goal}"));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                goal.load,
                goal.metric,
                goal.server,
                ratio(tokio),
                bound(goal.tokio),
                reached(tokio, goal.tokio),
                ratio(node),
                bound(goal.node),
                reached(node, goal.node),
                ratio(native),
            );
        }
        if let Some(row) = self.find("idle, 1000", "memory each", "connection-copy") {
            let each = median(row.rounds.iter().copied());
            let _ = writeln!(
                text,
                "| idle, 1000 | memory each | connection-copy | {each:.1} KiB | ≤ {OWN_INSTANCE} KiB | {} | | | | |",
                outcome(each <= OWN_INSTANCE),
            );
        }
        text
    }

    /// Returns a table of this run and another.
    pub(crate) fn compare(&self, other: &Run) -> String {
        let mut text = String::from(
            "| load | figure | server | first | second | second to first |\n|---|---|---|--:|--:|--:|\n",
        );
        for row in &self.rows {
            if let Some(theirs) = other.find(&row.load, &row.metric, &row.server) {
                let first = median(row.rounds.iter().copied());
                let second = median(theirs.rounds.iter().copied());
                let _ = writeln!(
                    text,
                    "| {} | {} ({}) | {} | {} | {} | {} |",
                    row.load,
                    row.metric,
                    row.unit,
                    row.server,
                    digits(first),
                    digits(second),
                    ratio(Some(second / first)),
                );
            }
        }
        text
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

/// Formats a figure with three significant digits.
fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
}

/// Runs a program with `--version`, and returns what it prints.
pub(crate) fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let row = |server: &str, rounds: &[f64]| Row {
            load: "churn".to_owned(),
            metric: "rate".to_owned(),
            unit: "1/s".to_owned(),
            more_is_better: true,
            server: server.to_owned(),
            rounds: rounds.to_vec(),
        };
        let run = Run {
            date: String::new(),
            machine: String::new(),
            versions: BTreeMap::new(),
            command: String::new(),
            rows: vec![
                row("shared-copy", &[10.0, 30.0, 20.0]),
                row(TOKIO, &[10.0, 20.0, 10.0]),
            ],
        };
        assert_eq!(run.ratio(&run.rows[0], TOKIO), Some(1.5));
        assert_eq!(run.ratio(&run.rows[0], NODE), None);
        assert!(run.goals().contains("met"), "{}", run.goals());
    }
}
