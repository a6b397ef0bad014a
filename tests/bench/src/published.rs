//! Figures that other projects publish, which cannot be measured beside ours: on their
//! machine, under their load.

use std::fmt::Write as _;

use crate::report::{Run, digits};

/// A figure that another project publishes.
struct Published {
    project: &'static str,
    what: &'static str,
    /// The figure as it is published, and how it is written there.
    value: Value,
    /// What is known of the machine and the load.
    conditions: &'static str,
    source: &'static str,
    /// The load, the metric and the server of ours that come nearest.
    ours: Option<[&'static str; 3]>,
}

enum Value {
    /// A figure in the unit of our metric.
    Figure(f64, &'static str),
    /// A figure without a counterpart here.
    Other(&'static str),
}

use Value::{Figure, Other};

const PUBLISHED: &[Published] = &[
    Published {
        project: "BoatRamp 0.2.12",
        what: "small HTTP responses on connections that stay open",
        value: Figure(72_000.0, "72,000/s"),
        conditions: "loopback; processors and connections not stated; each request is HTTP, and a guest need not be involved",
        source: "CHANGELOG.md, 0.2.12",
        ours: Some(["round trips, 64 × 64 B", "rate", "shared-copy"]),
    },
    Published {
        project: "BoatRamp",
        what: "a new instance of a component",
        value: Figure(1000.0, "under 1 ms"),
        conditions: "no figure but this bound; ours is the processor time of a whole connection with an instance of its own",
        source: "docs/src/explanation/compute-model.md",
        ours: Some(["churn", "processor", "connection-copy"]),
    },
    Published {
        project: "BoatRamp 0.2.14",
        what: "HTTP/1.1 requests of 1 KB through its proxy",
        value: Other("157,000/s"),
        conditions: "256 connections; pinned to processors (eight, where another figure of that benchmark names them); native code without a guest, and two connections for each request",
        source: "CHANGELOG.md, 0.2.14",
        ours: None,
    },
    Published {
        project: "BoatRamp 0.51.0",
        what: "raw TCP into a component: rate, memory of an idle connection, start",
        value: Other("none"),
        conditions: "its handler owns an instance for each connection and reads wasi:io streams",
        source: "the crate boatramp-handlers, 0.51.0",
        ours: None,
    },
];

impl Run {
    /// Returns a table of figures that others publish, and of ours that come nearest.
    pub(crate) fn published(&self) -> String {
        let mut text = String::from(
            "| published elsewhere | figure | value | conditions | source | nearest figure here | |\n|---|---|--:|---|---|--:|---|\n",
        );
        for published in PUBLISHED {
            let value = match published.value {
                Figure(_, text) | Other(text) => text,
            };
            let (ours, word) = published.beside(self);
            let _ = writeln!(
                text,
                "| {} | {} | {value} | {} | {} | {ours} | {word} |",
                published.project, published.what, published.conditions, published.source,
            );
        }
        text
    }
}

impl Published {
    /// Returns our nearest figure, and whether it is ahead.
    fn beside(&self, run: &Run) -> (String, &'static str) {
        let (Some([load, metric, server]), Figure(theirs, _)) = (self.ours, &self.value) else {
            return ("none".to_owned(), "not comparable");
        };
        let Some(row) = run.find(load, metric, server) else {
            return (String::new(), "not measured");
        };
        let ours = row.median();
        let ahead = if row.more_is_better {
            ours > *theirs
        } else {
            ours < *theirs
        };
        let word = if ahead { "ahead" } else { "**behind**" };
        (
            format!("{server}, {load}: {} {}", digits(ours), row.unit),
            word,
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::report::tests::{row, run};

    #[test]
    fn the_nearest_figure_is_ahead_or_behind() {
        let table = |rate: f64, processor: f64| {
            let trips = "round trips, 64 × 64 B";
            run(vec![
                row(trips, "rate", true, "shared-copy", &[rate]),
                row("churn", "processor", false, "connection-copy", &[processor]),
            ])
            .published()
        };
        let fast = table(100_000.0, 90.0);
        assert_eq!(fast.matches("| ahead |").count(), 2, "{fast}");
        let slow = table(70_000.0, 1500.0);
        assert_eq!(slow.matches("| **behind** |").count(), 2, "{slow}");
        let nothing = run(Vec::new()).published();
        assert_eq!(nothing.matches("| not measured |").count(), 2, "{nothing}");
        assert_eq!(
            nothing.matches("| not comparable |").count(),
            2,
            "{nothing}"
        );
    }
}
