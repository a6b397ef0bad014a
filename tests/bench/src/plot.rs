//! Plots: one picture that tells a run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::report::{Row, Run, median};
use crate::server::TOKIO;

const SIZE: (u32, u32) = (1100, 640);

/// Draws the curves of growth where the same load was measured on more and more
/// connections, and the ratios to tokio otherwise.
pub(crate) fn draw(run: &Run, path: &Path) -> Result<()> {
    let growth = growth(run);
    let drawn = if growth.values().any(|points| points.len() > 3) {
        curves(path, &growth)
    } else {
        ratios(path, run)
    };
    drawn.map_err(|error| anyhow!("cannot draw `{}`: {error}", path.display()))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Round trips per second of each server, by the number of connections.
fn growth(run: &Run) -> BTreeMap<&str, Vec<(f64, f64)>> {
    let mut growth: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for row in run.rows.iter().filter(|row| row.metric == "rate") {
        let connections = row
            .load
            .strip_prefix("round trips, ")
            .and_then(|rest| rest.strip_suffix(" × 64 B"))
            .and_then(|number| number.parse::<f64>().ok());
        if let Some(connections) = connections {
            let rate = median(row.rounds.iter().copied());
            growth
                .entry(&row.server)
                .or_default()
                .push((connections, rate));
        }
    }
    growth
}

fn curves(path: &Path, growth: &BTreeMap<&str, Vec<(f64, f64)>>) -> Drawn {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || growth.values().flatten();
    let most = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "round trips of 64 B per second, by connections",
            ("sans-serif", 22),
        )
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(80)
        .build_cartesian_2d((1.0..most * 1.1).log_scale(), 0.0..top * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("connections")
        .y_desc("1/s")
        .draw()?;
    for (index, (server, points)) in growth.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(
                points.iter().copied(),
                color.stroke_width(2),
            ))?
            .label(*server)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

/// A line for each load, and on it a point for each server: how many times tokio.
fn ratios(path: &Path, run: &Run) -> Drawn {
    let rows: Vec<&Row> = run
        .rows
        .iter()
        .filter(|row| matches!(row.metric.as_str(), "rate" | "throughput"))
        .collect();
    let mut loads: Vec<&str> = rows.iter().map(|row| row.load.as_str()).collect();
    loads.dedup();
    let mut servers: Vec<&str> = Vec::new();
    for row in &rows {
        if !servers.contains(&row.server.as_str()) {
            servers.push(&row.server);
        }
    }
    let height = loads.len() as f64;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "times the rate of an echo on tokio (more is better)",
            ("sans-serif", 22),
        )
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..2.0, -0.5..height - 0.5)?;
    let label = |y: &f64| {
        let index = y.round();
        let exact = (y - index).abs() < 0.01 && index >= 0.0;
        if exact {
            loads
                .get(index as usize)
                .copied()
                .unwrap_or_default()
                .to_owned()
        } else {
            String::new()
        }
    };
    chart
        .configure_mesh()
        .x_desc("ratio to tokio")
        .y_labels(loads.len() * 2 + 1)
        .y_label_formatter(&label)
        .draw()?;
    for (index, server) in servers.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let points = rows
            .iter()
            .filter(|row| row.server == *server)
            .filter_map(|row| {
                let y = loads.iter().position(|load| *load == row.load)? as f64;
                let tokio = rows
                    .iter()
                    .find(|other| other.server == TOKIO && other.load == row.load)?;
                let ratios = row
                    .rounds
                    .iter()
                    .zip(&tokio.rounds)
                    .map(|(one, two)| one / two);
                Some((median(ratios), y))
            });
        chart
            .draw_series(points.map(|point| Circle::new(point, 6, color.filled())))?
            .label(*server)
            .legend(move |(x, y)| Circle::new((x + 9, y), 6, color.filled()));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
