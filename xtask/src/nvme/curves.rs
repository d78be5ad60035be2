//! Throughput by depth, a panel for each kind of load, a line for each configuration and batch.

use std::fmt::Write;

use super::{CONFIGURATIONS, Loads};
use crate::chart::escape;
use crate::report::Measurement;

const PANEL: (f64, f64) = (300.0, 210.0);
const COLUMNS: usize = 3;
/// Around the curves of a panel: left, top, right, bottom.
const MARGIN: [f64; 4] = [62.0, 30.0, 12.0, 30.0];
const HEADER: f64 = 60.0;
const COLOURS: [&str; CONFIGURATIONS.len()] = ["#888888", "#3a6ea5", "#4a7a4a"];
/// Solid and broken.
const BATCHES: [(&str, &str); 2] = [("b32", ""), ("b1", " stroke-dasharray=\"5 3\"")];

/// A load without its depth and batch, and its points: configuration, batch, depth, requests per second.
struct Panel<'a> {
    title: &'a str,
    points: Vec<(usize, &'a str, u32, f64)>,
}

/// Draws all streams among `results`; what there is of them.
pub(crate) fn draw(title: &str, results: &[Measurement]) -> String {
    let panels = panels(results);
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (PANEL.0 * COLUMNS as f64, HEADER + PANEL.1 * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">{}: requests per second by depth</text>\n",
        escape(title)
    );
    legend(&mut svg);
    for (index, panel) in panels.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        panel.draw(&mut svg, PANEL.0 * column as f64, HEADER + PANEL.1 * row as f64);
    }
    svg + "</svg>\n"
}

fn legend(svg: &mut String) {
    let mut x = 10.0;
    for (name, colour) in CONFIGURATIONS.iter().zip(COLOURS) {
        for (batch, dash) in BATCHES {
            write!(
                svg,
                "<line x1=\"{x}\" x2=\"{}\" y1=\"42\" y2=\"42\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\n\
                 <text x=\"{}\" y=\"46\">{name} {batch}</text>\n",
                x + 24.0,
                x + 30.0
            )
            .expect("writing to a String succeeds");
            x += 110.0;
        }
    }
}

fn panels(results: &[Measurement]) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for (load, figures) in Loads::of("stream", results).0 {
        let Some((rest, batch)) = load.rsplit_once('/') else { continue };
        let Some((title, depth)) = rest.rsplit_once('/') else { continue };
        let Some(depth) = depth.strip_prefix('d').and_then(|depth| depth.parse().ok()) else { continue };
        if !panels.iter().any(|panel| panel.title == title) {
            panels.push(Panel { title, points: Vec::new() });
        }
        let panel = panels.iter_mut().find(|panel| panel.title == title).expect("it was just put there");
        for (index, name) in CONFIGURATIONS.iter().enumerate() {
            panel.points.extend(figures.get(name).map(|figure| (index, batch, depth, figure.median)));
        }
    }
    panels
}

impl Panel<'_> {
    fn draw(&self, svg: &mut String, left: f64, top: f64) {
        let [before, above, behind, below] = MARGIN;
        let (x0, y0) = (left + before, top + PANEL.1 - below);
        let (width, height) = (PANEL.0 - before - behind, PANEL.1 - above - below);
        let highest = self.points.iter().map(|point| point.3).fold(1.0, f64::max);
        let deepest = self.points.iter().map(|point| point.2).fold(2, u32::max);
        let x = |depth: u32| x0 + width * f64::from(depth.max(1)).log2() / f64::from(deepest).log2();
        let y = |rate: f64| y0 - height * rate / highest;
        write!(
            svg,
            "<text x=\"{x0}\" y=\"{}\" font-weight=\"bold\">{}</text>\n\
             <path d=\"M{x0} {}V{y0}H{}\" fill=\"none\" stroke=\"#222\"/>\n",
            top + 18.0,
            escape(self.title),
            y0 - height,
            x0 + width
        )
        .expect("writing to a String succeeds");
        for rate in [0.0, highest / 2.0, highest] {
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{:.0} K</text>",
                x0 - 5.0,
                y(rate) + 4.0,
                rate / 1e3
            )
            .expect("writing to a String succeeds");
        }
        let mut depths: Vec<u32> = self.points.iter().map(|point| point.2).collect();
        depths.sort_unstable();
        depths.dedup();
        for depth in depths {
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{depth}</text>",
                x(depth),
                y0 + 16.0
            )
            .expect("writing to a String succeeds");
        }
        for (index, colour) in COLOURS.iter().enumerate() {
            for (batch, dash) in BATCHES {
                // At depth 1 there is one batch only, where both lines begin.
                let is_on =
                    |point: &&(usize, &str, u32, f64)| point.0 == index && (point.1 == batch || point.2 == 1);
                let line: Vec<String> = self
                    .points
                    .iter()
                    .filter(is_on)
                    .map(|point| format!("{:.1},{:.1}", x(point.2), y(point.3)))
                    .collect();
                if !line.is_empty() {
                    writeln!(
                        svg,
                        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
                        line.join(" ")
                    )
                    .expect("writing to a String succeeds");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_load_has_a_panel_and_each_configuration_a_line() {
        let mut results = Vec::new();
        for load in
            ["4k/rand/read/d1/b1", "4k/rand/read/d32/b1", "4k/rand/read/d32/b32", "512b/seq/write/d1/b1"]
        {
            for name in CONFIGURATIONS {
                results.push(Measurement {
                    id: format!("stream/{load}/{name}"),
                    unit: "iops".into(),
                    n: 1,
                    median: 1000.0,
                    p99: None,
                    min: None,
                    rest: Default::default(),
                });
            }
        }
        let panels = panels(&results);
        assert_eq!(
            panels.iter().map(|panel| panel.title).collect::<Vec<_>>(),
            ["4k/rand/read", "512b/seq/write"]
        );
        assert_eq!(panels[0].points.len(), 9);
        let svg = draw("nvme", &results);
        // Both batches, in both panels.
        assert_eq!(svg.matches("<polyline").count(), 12);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn nothing_measured_is_an_empty_drawing() {
        assert!(draw("nvme", &[]).ends_with("</svg>\n"));
    }
}
