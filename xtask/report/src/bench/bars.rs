//! Bar charts of benchmark figures, as SVG.
//!
//! Bars are logarithmic, because one chart shows a call of 3 cycles beside a restart of 100,000.

use std::fmt::Write;

use crate::markup::escape;
use crate::measurement::Measurement;

const ROW: usize = 24;
const LABELS: usize = 240;
const BARS: usize = 420;
const FIGURES: usize = 170;
const TOP: usize = 40;

/// Draws the medians; a thin line extends to the 99th percentile.
pub fn draw(title: &str, results: &[Measurement]) -> String {
    let (width, height) = (LABELS + BARS + FIGURES, TOP + ROW * results.len() + 10);
    let largest = results.iter().map(|result| result.p99.unwrap_or(result.median)).fold(1.0, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-weight=\"bold\">{} (median; line to p99; logarithmic)</text>\n",
        escape(title)
    );
    for (row, result) in results.iter().enumerate() {
        let y = TOP + row * ROW;
        let median = length(result.median, largest);
        let tail = length(result.p99.unwrap_or(result.median), largest);
        let text = |x: usize, anchor: &str, text: &str| {
            format!("<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>\n", y + 16, escape(text))
        };
        svg += &text(LABELS - 10, "end", &result.id);
        writeln!(
            svg,
            "<rect x=\"{LABELS}\" y=\"{}\" width=\"{median:.1}\" height=\"{}\" fill=\"#4a7a4a\"/>\n\
             <line x1=\"{LABELS}\" x2=\"{:.1}\" y1=\"{m}\" y2=\"{m}\" stroke=\"#222\"/>",
            y + 4,
            ROW - 8,
            LABELS as f64 + tail,
            m = y + ROW / 2,
        )
        .expect("writing to a String succeeds");
        svg += &text(LABELS + BARS + 10, "start", &format!("{:.1} {}", result.median, result.unit));
    }
    svg + "</svg>\n"
}

/// A bar's length; values of 1 and less have the shortest one.
fn length(value: f64, largest: f64) -> f64 {
    let share = (value.max(1.0).ln() + 0.1) / (largest.max(1.0).ln() + 0.1);
    BARS as f64 * share.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_a_bar_that_fits() {
        let result = |id: &str, median| Measurement {
            id: id.into(),
            unit: "tsc_cycles".into(),
            n: 1,
            median,
            p99: Some(median * 2.0),
            min: None,
            rest: Default::default(),
        };
        let svg = draw("a<b", &[result("call/dyn", 3.0), result("domain/restart", 100_000.0)]);
        assert_eq!(svg.matches("<line").count(), 2);
        assert!(svg.contains("a&lt;b") && svg.contains("call/dyn"));
        assert!(length(200_000.0, 200_000.0) <= BARS as f64 && length(3.0, 200_000.0) > 0.0);
    }
}
