//! Curves over an axis of doubling steps (depth, frame size), a panel for each kind of load.

use std::fmt::Write;

use crate::markup::escape;

const PANEL: (f64, f64) = (300.0, 210.0);
const COLUMNS: usize = 3;
/// The margins of a panel: left, top, right, bottom.
const MARGIN: [f64; 4] = [62.0, 30.0, 12.0, 30.0];
const HEADER: f64 = 60.0;
/// The width of a legend entry.
const ENTRY: f64 = 110.0;

/// The look of one kind of curve, in all panels.
pub struct Line {
    pub name: String,
    pub colour: &'static str,
    pub is_dashed: bool,
}

/// One set of axes.
pub struct Panel {
    pub title: String,
    /// The points of each line, from left to right.
    pub curves: Vec<Vec<(u32, f64)>>,
}

impl Line {
    fn dash(&self) -> &'static str {
        if self.is_dashed { " stroke-dasharray=\"5 3\"" } else { "" }
    }
}

/// Draws `panels`, whose curves look as in `lines`.
pub fn draw(title: &str, lines: &[Line], panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (PANEL.0 * COLUMNS as f64, HEADER + PANEL.1 * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    for (index, line) in lines.iter().enumerate() {
        let x = 10.0 + ENTRY * index as f64;
        write!(
            svg,
            "<line x1=\"{x}\" x2=\"{}\" y1=\"42\" y2=\"42\" stroke=\"{}\" stroke-width=\"2\"{}/>\n\
             <text x=\"{}\" y=\"46\">{}</text>\n",
            x + 24.0,
            line.colour,
            line.dash(),
            x + 30.0,
            escape(&line.name)
        )
        .expect("writing to a String succeeds");
    }
    for (index, panel) in panels.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        panel.draw(&mut svg, lines, PANEL.0 * column as f64, HEADER + PANEL.1 * row as f64);
    }
    svg + "</svg>\n"
}

impl Panel {
    fn draw(&self, svg: &mut String, lines: &[Line], left: f64, top: f64) {
        let [before, above, behind, below] = MARGIN;
        let (x0, y0) = (left + before, top + PANEL.1 - below);
        let (width, height) = (PANEL.0 - before - behind, PANEL.1 - above - below);
        let points = || self.curves.iter().flatten().copied();
        let highest = points().map(|point| point.1).fold(1.0, f64::max);
        let mut marks: Vec<u32> = points().map(|point| point.0.max(1)).collect();
        marks.sort_unstable();
        marks.dedup();
        let first = marks.first().copied().map_or(0.0, |mark| f64::from(mark).log2());
        let last = marks.last().copied().map_or(1.0, |mark| f64::from(mark).log2()).max(first + 1.0);
        let x = |mark: u32| x0 + width * (f64::from(mark.max(1)).log2() - first) / (last - first);
        let y = |rate: f64| y0 - height * rate / highest;
        write!(
            svg,
            "<text x=\"{x0}\" y=\"{}\" font-weight=\"bold\">{}</text>\n\
             <path d=\"M{x0} {}V{y0}H{}\" fill=\"none\" stroke=\"#222\"/>\n",
            top + 18.0,
            escape(&self.title),
            y0 - height,
            x0 + width
        )
        .expect("writing to a String succeeds");
        for rate in [0.0, highest / 2.0, highest] {
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                x0 - 5.0,
                y(rate) + 4.0,
                short(rate)
            )
            .expect("writing to a String succeeds");
        }
        // Marks that would overlap are left out.
        let mut free = f64::MIN;
        for mark in marks {
            if x(mark) < free {
                continue;
            }
            free = x(mark) + 26.0;
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{mark}</text>",
                x(mark),
                y0 + 16.0
            )
            .expect("writing to a String succeeds");
        }
        for (line, curve) in lines.iter().zip(&self.curves) {
            let points: Vec<String> =
                curve.iter().map(|&(mark, rate)| format!("{:.1},{:.1}", x(mark), y(rate))).collect();
            if !points.is_empty() {
                writeln!(
                    svg,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>",
                    points.join(" "),
                    line.colour,
                    line.dash()
                )
                .expect("writing to a String succeeds");
            }
        }
    }
}

/// A number in short form, for an axis.
fn short(number: f64) -> String {
    match number {
        number if number >= 1e4 => format!("{:.0} K", number / 1e3),
        number if number >= 100.0 => format!("{number:.0}"),
        number => format!("{number:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_curve_is_drawn_and_fits_its_panel() {
        let line = |name: &str| Line { name: name.into(), colour: "#000", is_dashed: name == "b" };
        let curves = vec![vec![(60, 14.9), (1514, 0.8)], vec![(60, 1e6)]];
        let panels = [
            Panel { title: "a<b".into(), curves },
            Panel { title: "none".into(), curves: vec![Vec::new(); 2] },
        ];
        let svg = draw("curves", &[line("a"), line("b")], &panels);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a&lt;b") && svg.contains(">1000 K<") && !svg.contains("NaN"));
        assert!(draw("nothing", &[], &[]).ends_with("</svg>\n"));
    }
}
