//! What halfopen should reach, and whether a run shows it.

use std::fmt::Write as _;

use crate::report::{Row, Run, digits};
use crate::server::{NODE, TOKIO, WORKERD, WORKERD_PIPE};

/// A goal for a figure of a server under a load.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Goal {
    load: &'static str,
    metric: &'static str,
    server: &'static str,
    bound: Bound,
}

/// What a figure is held to: at least, if more is better, and at most otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// A ratio to another server of the same run.
    Times(f64, &'static str),
    /// A figure in the metric's unit.
    Figure(f64),
    /// The figure of another server of the same run, which must be passed.
    Ahead(&'static str),
}

use Bound::{Ahead, Figure, Times};

const TRIPS_64: &str = "round trips, 64 × 64 B";
const TRIPS_1000: &str = "round trips, 1000 × 64 B";
const BULK_1: &str = "bulk, 1";
const BULK_8: &str = "bulk, 8";
const CHURN: &str = "churn";
const IDLE_1000: &str = "idle, 1000";
const IDLE_10000: &str = "idle, 10000";
const START_WARM: &str = "start, warm";
/// The metric that only a profile has use for: no server is better for it.
const IN_KERNEL: &str = "in the kernel";

const fn goal(
    load: &'static str,
    metric: &'static str,
    server: &'static str,
    bound: Bound,
) -> Goal {
    Goal {
        load,
        metric,
        server,
        bound,
    }
}

const GOALS: &[Goal] = &[
    // The callback style, one instance per processor.
    goal(TRIPS_64, "rate", "shared-copy", Times(0.9, TOKIO)),
    goal(TRIPS_1000, "rate", "shared-copy", Times(0.95, TOKIO)),
    goal(TRIPS_1000, "rate", "shared-copy", Times(1.4, NODE)),
    goal(TRIPS_64, "p99", "shared-copy", Times(1.3, TOKIO)),
    goal(TRIPS_64, "processor", "shared-copy", Times(1.15, TOKIO)),
    goal(TRIPS_64, IN_KERNEL, "shared-copy", Figure(80.0)),
    goal(BULK_1, "throughput", "shared-copy", Times(1.0, TOKIO)),
    goal(BULK_8, "throughput", "shared-copy", Times(1.0, TOKIO)),
    goal(CHURN, "rate", "shared-copy", Times(1.0, TOKIO)),
    goal(IDLE_10000, "memory each", "shared-copy", Figure(3.0)),
    goal(IDLE_10000, "memory each", "shared-copy", Times(0.7, NODE)),
    goal(START_WARM, "time", "shared-copy", Figure(6.0)),
    // The callback style, an instance per connection.
    goal(TRIPS_64, "rate", "connection-copy", Times(0.85, TOKIO)),
    goal(TRIPS_1000, "rate", "connection-copy", Times(0.75, TOKIO)),
    goal(CHURN, "rate", "connection-copy", Times(0.85, TOKIO)),
    goal(IDLE_1000, "memory each", "connection-copy", Figure(40.0)),
    goal(START_WARM, "time", "connection-copy", Figure(8.0)),
    // The await style, as it was when the callback style was added.
    goal(TRIPS_64, "rate", "shared-await", Times(0.65, TOKIO)),
    goal(TRIPS_1000, "rate", "shared-await", Times(0.45, TOKIO)),
    goal(IDLE_10000, "memory each", "shared-await", Figure(16.0)),
    goal(TRIPS_64, "rate", "connection-await", Times(0.6, TOKIO)),
    goal(TRIPS_1000, "rate", "connection-await", Times(0.4, TOKIO)),
    goal(IDLE_1000, "memory each", "connection-await", Figure(81.0)),
    // A stream that is passed through.
    goal(TRIPS_64, "rate", "shared-pass", Times(0.95, TOKIO)),
    goal(TRIPS_64, "rate", "shared-pass", Times(1.8, NODE)),
    goal(TRIPS_1000, "rate", "shared-pass", Times(0.95, TOKIO)),
    goal(TRIPS_1000, "rate", "shared-pass", Times(1.8, NODE)),
    goal(TRIPS_64, "p99", "shared-pass", Times(1.3, TOKIO)),
    goal(TRIPS_64, "p99", "shared-pass", Times(0.7, NODE)),
    goal(BULK_1, "throughput", "shared-pass", Times(1.0, TOKIO)),
    goal(BULK_1, "throughput", "shared-pass", Times(1.5, NODE)),
    goal(BULK_8, "throughput", "shared-pass", Times(1.0, TOKIO)),
    goal(BULK_8, "throughput", "shared-pass", Times(1.5, NODE)),
    goal(IDLE_10000, "memory each", "shared-pass", Times(1.0, TOKIO)),
    goal(IDLE_10000, "memory each", "shared-pass", Times(1.0, NODE)),
];

/// Returns all goals: after those of the table, to be ahead of workerd in each of its figures.
///
/// Memory is compared with the workerd that holds no buffer, and on 1,000 connections: it uses
/// two descriptors for each, and often may not have 20,000.
fn all() -> Vec<Goal> {
    let mut goals = GOALS.to_vec();
    for goal in GOALS.iter().filter(|goal| goal.metric != IN_KERNEL) {
        let peer = match goal.server {
            "shared-pass" => WORKERD_PIPE,
            "shared-copy" | "connection-copy" if goal.metric == "memory each" => WORKERD_PIPE,
            "shared-copy" | "connection-copy" => WORKERD,
            _ => continue,
        };
        let load = match goal.load {
            IDLE_10000 => IDLE_1000,
            other => other,
        };
        let ahead = Goal {
            load,
            bound: Ahead(peer),
            ..*goal
        };
        if !goals.contains(&ahead) {
            goals.push(ahead);
        }
    }
    goals
}

/// What a run shows about a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Outcome {
    measured: f64,
    met: bool,
}

impl Goal {
    fn row<'run>(&self, run: &'run Run) -> Option<&'run Row> {
        run.find(self.load, self.metric, self.server)
    }

    /// Returns `None` if the run has not measured the server, or not the one beside it.
    fn outcome(&self, run: &Run) -> Option<Outcome> {
        let row = self.row(run)?;
        let (measured, bound) = match self.bound {
            Times(bound, peer) => (run.ratio(row, peer)?, bound),
            Figure(bound) => (row.median(), bound),
            Ahead(peer) => (run.ratio(row, peer)?, 1.0),
        };
        let met = match (row.more_is_better, self.bound) {
            (true, Ahead(_)) => measured > bound,
            (true, _) => measured >= bound,
            (false, Ahead(_)) => measured < bound,
            (false, _) => measured <= bound,
        };
        Some(Outcome { measured, met })
    }

    /// Describes the bound, for a row of which more, or less, is better.
    fn bound(&self, row: &Row) -> String {
        let sign = if row.more_is_better { '≥' } else { '≤' };
        match self.bound {
            Times(bound, peer) => format!("{sign} {bound} × {peer}"),
            Figure(bound) => format!("{sign} {bound} {}", row.unit),
            Ahead(peer) => format!("ahead of {peer}"),
        }
    }
}

impl Run {
    /// Returns a table of the goals for the loads that were measured, and what was reached.
    /// A goal beside Node also shows tokio's ratio to Node, which native code reaches.
    pub(crate) fn goals(&self) -> String {
        let mut text = String::from(
            "| load | figure | server | goal | measured | |\n|---|---|---|---|--:|---|\n",
        );
        let (mut met, mut missed, mut unknown) = (0, 0, 0);
        for goal in all() {
            // Any server's row says what the figure is and which direction is better.
            let Some(any) = self.any(goal.load, goal.metric) else {
                continue;
            };
            let (measured, word) = match goal.outcome(self) {
                None => {
                    unknown += 1;
                    (String::new(), "not measured")
                }
                Some(outcome) => {
                    *(if outcome.met { &mut met } else { &mut missed }) += 1;
                    let word = if outcome.met { "met" } else { "**not met**" };
                    (self.shown(&goal, any, outcome.measured), word)
                }
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {measured} | {word} |",
                goal.load,
                goal.metric,
                goal.server,
                goal.bound(any),
            );
        }
        let _ = writeln!(
            text,
            "\n{met} met, {missed} not met, {unknown} not measured."
        );
        text
    }

    fn shown(&self, goal: &Goal, any: &Row, measured: f64) -> String {
        match goal.bound {
            Figure(_) => format!("{} {}", digits(measured), any.unit),
            Times(_, NODE) => {
                let native = self.find(goal.load, goal.metric, TOKIO);
                match native.and_then(|native| self.ratio(native, NODE)) {
                    Some(native) => format!("{measured:.2} (tokio: {native:.2})"),
                    None => format!("{measured:.2}"),
                }
            }
            Times(..) | Ahead(_) => format!("{measured:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LOADS;
    use crate::report::tests::{row, run};
    use crate::server::KINDS;

    #[test]
    fn goals_name_loads_and_servers_that_there_are() {
        let loads: Vec<String> = LOADS.iter().map(crate::load::Load::name).collect();
        let there = |name: &str| KINDS.iter().any(|kind| kind.name == name);
        for goal in all() {
            assert!(loads.iter().any(|load| load == goal.load), "{goal:?}");
            assert!(there(goal.server), "{goal:?}");
            if let Times(_, peer) | Ahead(peer) = goal.bound {
                assert!(there(peer), "{goal:?}");
            }
        }
    }

    #[test]
    fn goals_name_figures_that_their_load_has() {
        for goal in all() {
            let load = LOADS.iter().find(|load| load.name() == goal.load);
            let metrics = load.map(crate::load::Load::metrics).unwrap_or_default();
            let there = metrics.iter().any(|metric| metric.name == goal.metric);
            assert!(there, "{goal:?}");
        }
    }

    fn outcome(goal: Goal, rows: Vec<Row>) -> Option<bool> {
        goal.outcome(&run(rows)).map(|outcome| outcome.met)
    }

    #[test]
    fn more_is_better_for_a_rate() {
        let rate = |server, value| row(CHURN, "rate", true, server, &[value]);
        let held = |bound, ours, theirs| {
            let rows = vec![rate("shared-copy", ours), rate(TOKIO, theirs)];
            outcome(goal(CHURN, "rate", "shared-copy", bound), rows)
        };
        assert_eq!(held(Times(0.9, TOKIO), 9.0, 10.0), Some(true));
        assert_eq!(held(Times(0.9, TOKIO), 8.9, 10.0), Some(false));
        assert_eq!(held(Ahead(TOKIO), 10.1, 10.0), Some(true));
        assert_eq!(held(Ahead(TOKIO), 10.0, 10.0), Some(false));
        assert_eq!(held(Figure(9.0), 9.0, 10.0), Some(true));
        assert_eq!(held(Times(0.9, NODE), 9.0, 10.0), None);
    }

    #[test]
    fn less_is_better_for_memory() {
        let memory = |server, value| row(IDLE_1000, "memory each", false, server, &[value]);
        let held = |bound, ours, theirs| {
            let rows = vec![memory("shared-copy", ours), memory(NODE, theirs)];
            outcome(goal(IDLE_1000, "memory each", "shared-copy", bound), rows)
        };
        assert_eq!(held(Figure(3.0), 3.0, 5.0), Some(true));
        assert_eq!(held(Figure(3.0), 3.1, 5.0), Some(false));
        assert_eq!(held(Times(0.7, NODE), 3.6, 5.0), Some(false));
        assert_eq!(held(Ahead(NODE), 4.9, 5.0), Some(true));
        assert_eq!(held(Ahead(NODE), 5.0, 5.0), Some(false));
    }

    #[test]
    fn the_table_says_what_was_not_measured() {
        let table = run(vec![
            row(CHURN, "rate", true, "shared-copy", &[10.0, 30.0, 20.0]),
            row(CHURN, "rate", true, TOKIO, &[10.0, 20.0, 10.0]),
        ])
        .goals();
        let shared = "| churn | rate | shared-copy | ≥ 1 × tokio | 1.50 | met |";
        let own = "| churn | rate | connection-copy | ≥ 0.85 × tokio |  | not measured |";
        let workerd = "| churn | rate | shared-copy | ahead of workerd |  | not measured |";
        for line in [shared, own, workerd, "1 met, 0 not met, 3 not measured."] {
            assert!(table.contains(line), "{table}");
        }
    }
}
