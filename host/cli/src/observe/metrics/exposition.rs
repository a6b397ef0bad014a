//! The two text formats: OpenMetrics 1.0, and the one of Prometheus that is older.

use std::cmp::Ordering;
use std::fmt::Write;

use prometheus_client::metrics::exemplar::Exemplar;

/// Counters have no exemplars here; the older format has no way to say them.
pub(super) const NO_EXEMPLAR: Option<&Exemplar<[(String, String); 0], u64>> = None;

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>
    Text,
}

impl Exposition {
    /// Chooses by the values of `Accept` headers: OpenMetrics for a client that names it
    /// and prefers no other, and the older format for all others.
    pub(crate) fn negotiate<'h>(accept: impl Iterator<Item = &'h str>) -> Self {
        let mut best: [Option<f32>; 2] = [None, None];
        for range in accept.flat_map(|header| header.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let of = match parts.next().unwrap_or_default() {
                "application/openmetrics-text" => &mut best[0],
                "text/plain" => &mut best[1],
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
            let quality: f32 = quality.unwrap_or(1.0);
            if quality > of.unwrap_or(0.0) {
                *of = Some(quality);
            }
        }
        match best[0].partial_cmp(&best[1]) {
            Some(Ordering::Greater | Ordering::Equal) if best[0].is_some() => {
                Exposition::OpenMetrics
            }
            _ => Exposition::Text,
        }
    }

    /// Returns the value of the `Content-Type` header.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts from OpenMetrics.
    pub(super) fn convert(self, openmetrics: String) -> String {
        match self {
            Exposition::OpenMetrics => openmetrics,
            Exposition::Text => as_text(&openmetrics),
        }
    }
}

/// The older format names a metric as its samples are named, with the suffix; it has no
/// units, no type `info` and no end.
fn as_text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described;
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            let help = help.strip_prefix(name).unwrap_or_default();
            // Writing to a string never fails.
            let _ = write!(
                text,
                "# HELP {name}{suffix}{help}\n# TYPE {name}{suffix} {kind}\n"
            );
        } else if !line.starts_with("# ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_the_format() {
        for (accept, expected) in [
            ("", Exposition::Text),
            ("*/*", Exposition::Text),
            ("text/plain;version=0.0.4", Exposition::Text),
            ("application/openmetrics-text", Exposition::OpenMetrics),
            // What Prometheus sends.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Exposition::OpenMetrics,
            ),
            (
                "text/plain; q=0.9, application/openmetrics-text; q=0.1",
                Exposition::Text,
            ),
            ("application/openmetrics-text;q=0", Exposition::Text),
        ] {
            assert_eq!(Exposition::negotiate([accept].into_iter()), expected);
        }
    }

    #[test]
    fn a_counter_has_its_suffix_in_the_older_format() {
        let openmetrics = "# HELP a Things.\n# TYPE a counter\n# UNIT a bytes\na_total 1\n\
                           # HELP b It.\n# TYPE b info\nb_info{v=\"1\"} 1\n# EOF\n";
        let text = "# HELP a_total Things.\n# TYPE a_total counter\na_total 1\n\
                    # HELP b_info It.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n";
        assert_eq!(as_text(openmetrics), text);
    }
}
