//! Tables, and files of results.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::server::{NODE, TOKIO, WORKERD};

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

impl Row {
    pub(crate) fn median(&self) -> f64 {
        median(self.rounds.iter().copied())
    }
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

    pub(crate) fn find(&self, load: &str, metric: &str, server: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.load == load && row.metric == metric && row.server == server)
    }

    /// Returns a figure under a load of any server.
    pub(crate) fn any(&self, load: &str, metric: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.load == load && row.metric == metric)
    }

    /// Returns the median of the rounds' ratios.
    pub(crate) fn ratio(&self, row: &Row, to: &str) -> Option<f64> {
        let other = self.find(&row.load, &row.metric, to)?;
        let ratios = row.rounds.iter().zip(&other.rounds);
        Some(median(ratios.map(|(one, other)| one / other)))
    }

    /// Returns a table of all figures: the median of the rounds, and the ratios to tokio, Node
    /// and workerd.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "| load | figure | server | median | to tokio | to node | to workerd |\n|---|---|---|--:|--:|--:|--:|\n",
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "| {} | {} ({}) | {} | {} | {} | {} | {} |",
                row.load,
                row.metric,
                row.unit,
                row.server,
                digits(row.median()),
                ratio(self.ratio(row, TOKIO)),
                ratio(self.ratio(row, NODE)),
                ratio(self.ratio(row, WORKERD)),
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
                let (first, second) = (row.median(), theirs.median());
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
pub(crate) fn digits(value: f64) -> String {
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
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(
        load: &str,
        metric: &str,
        more_is_better: bool,
        server: &str,
        rounds: &[f64],
    ) -> Row {
        Row {
            load: load.to_owned(),
            metric: metric.to_owned(),
            unit: String::new(),
            more_is_better,
            server: server.to_owned(),
            rounds: rounds.to_vec(),
        }
    }

    pub(crate) fn run(rows: Vec<Row>) -> Run {
        Run {
            date: String::new(),
            machine: String::new(),
            versions: BTreeMap::new(),
            command: String::new(),
            rows,
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let run = run(vec![
            row("churn", "rate", true, "shared-copy", &[10.0, 30.0, 20.0]),
            row("churn", "rate", true, TOKIO, &[10.0, 20.0, 10.0]),
        ]);
        assert_eq!(run.ratio(&run.rows[0], TOKIO), Some(1.5));
        assert_eq!(run.ratio(&run.rows[0], NODE), None);
    }
}
