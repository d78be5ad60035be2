//! Frames with axes and curves, as SVG, for the pages of reports.

/// The width of a drawing, labels included.
pub const WIDTH: f64 = 860.0;
/// The height of a drawing, labels included.
pub const HEIGHT: f64 = 260.0;
/// The left edge of the frame itself.
pub const LEFT: f64 = 70.0;
/// The space below the frame.
pub const BOTTOM: f64 = 36.0;
/// The space above the frame.
pub const TOP: f64 = 16.0;

/// A time in a readable unit.
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.1} s", ns / 1e9),
    }
}

/// A frame with the marks of its axes and its contents.
pub fn frame(ticks: &str, inside: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-size=\"12\">\n\
         <rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.0}\" height=\"{:.0}\" fill=\"none\" stroke=\"#999\"/>\n\
         {ticks}{inside}</svg>",
        WIDTH - LEFT - 10.0,
        HEIGHT - TOP - BOTTOM,
    )
}

/// The x coordinate of a fraction of the frame's width.
pub fn x(share: f64) -> f64 {
    LEFT + (WIDTH - LEFT - 10.0) * share
}

/// The y coordinate of a fraction of the frame's height.
pub fn y(share: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
}

/// A line through `points`.
pub fn polyline(points: &[(f64, f64)], colour: &str, dashed: bool) -> String {
    let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let dash = if dashed { " stroke-dasharray=\"4 3\"" } else { "" };
    format!(
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash} points=\"{}\"/>\n",
        points.join(" ")
    )
}

/// Powers of ten from `low` to `high`.
pub fn decades(low: f64, high: f64) -> impl Iterator<Item = f64> {
    (low.log10().ceil() as i32..=high.log10().floor() as i32).map(|power| 10_f64.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_frame_lie_in_it() {
        assert!(x(0.0) == LEFT && x(1.0) < WIDTH);
        assert!(y(1.0) == TOP && y(0.0) == HEIGHT - BOTTOM);
        assert_eq!(decades(90.0, 1e4).collect::<Vec<_>>(), [100.0, 1e3, 1e4]);
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        assert_eq!([5.0, 1500.0, 2.5e6, 3e9].map(time), ["5 ns", "1.5 µs", "2.5 ms", "3.0 s"]);
    }
}
