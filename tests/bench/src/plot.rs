//! Plots: one picture for each run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::report::{Row, Run, median};
use crate::server::TOKIO;

const SIZE: (u32, u32) = (1100, 640);

/// Draws growth with connections if the run measured it, and ratios to tokio otherwise.
pub(crate) fn draw(run: &Run, path: &Path) -> Result<()> {
    let rates = growth(run, "rate", 1.0);
    let drawn = if rates.values().any(|points| points.len() > 3) {
        curves(path, &rates, &growth(run, "memory", 1024.0))
    } else {
        ratios(path, run)
    };
    drawn.map_err(|error| anyhow!("cannot draw `{}`: {error}", path.display()))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;
/// For each server and number of processors: a figure by the number of connections.
type Growth<'a> = BTreeMap<(&'a str, u32), Vec<(f64, f64)>>;

/// Collects a figure of round trips by the number of connections.
fn growth<'a>(run: &'a Run, metric: &str, unit: f64) -> Growth<'a> {
    let mut growth = Growth::new();
    for row in run.rows.iter().filter(|row| row.metric == metric) {
        let numbers = row
            .load
            .strip_prefix("round trips, ")
            .and_then(|rest| rest.split_once(" × 64 B on "))
            .and_then(|(connections, processors)| {
                Some((connections.parse().ok()?, processors.parse().ok()?))
            });
        if let Some((connections, processors)) = numbers {
            let figure = median(row.rounds.iter().copied()) / unit;
            growth
                .entry((&row.server, processors))
                .or_default()
                .push((connections, figure));
        }
    }
    growth
}

/// Draws two charts: rates, and memory.
fn curves(path: &Path, rates: &Growth<'_>, memory: &Growth<'_>) -> Drawn {
    let area = SVGBackend::new(path, (SIZE.0 + SIZE.0 / 2, SIZE.1)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 * 3 / 4);
    let most = rates.keys().map(|(_, processors)| *processors).max();
    let title = format!(
        "round trips of 64 B per second (thin: 1 processor, thick: {})",
        most.unwrap_or(1)
    );
    lines(&left, &title, "1/s", rates)?;
    let on_most = |((_, processors), _): &(&(&str, u32), _)| Some(*processors) == most;
    let memory = memory.iter().filter(on_most);
    let memory = memory.map(|(key, points)| (*key, points.clone())).collect();
    lines(&right, "memory of the server", "MiB", &memory)?;
    area.present()?;
    Ok(())
}

/// Draws a line for each server, by the number of connections.
fn lines(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    unit: &str,
    growth: &Growth<'_>,
) -> Drawn {
    let points = || growth.values().flatten();
    let most = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(1.0, f64::max);
    let least = points().map(|point| point.1).fold(top, f64::min);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (1.0..most * 1.1).log_scale(),
            (least * 0.8..top * 1.2).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("connections")
        .y_desc(unit)
        .draw()?;
    let mut servers: Vec<&str> = growth.keys().map(|(server, _)| *server).collect();
    servers.dedup();
    for ((server, processors), points) in growth {
        let index = servers.iter().position(|other| other == server);
        let color = Palette99::pick(index.unwrap_or_default()).to_rgba();
        let style = color.stroke_width(processors.ilog2() + 1);
        let series = LineSeries::new(points.iter().copied(), style).point_size(3);
        let drawn = chart.draw_series(series)?;
        // The legend names each server once.
        if growth
            .range((*server, processors + 1)..=(*server, u32::MAX))
            .next()
            .is_none()
        {
            drawn.label(*server).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3))
            });
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

/// Draws a row for each load, and in it a point for each server: its ratio to tokio.
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
