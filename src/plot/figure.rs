//! A figure as data: panels, axes, marks and keys, in the units of what is shown. Nothing here knows pixels; `draw`
//! lays it out and `pgf` writes it as TeX.

use crate::experiment::Variant;

use super::canvas::Rgb;
use super::scale::Scale;

/// Text and frame.
pub const INK: Rgb = Rgb(0x26, 0x26, 0x26);
/// Small print.
pub const FAINT: Rgb = Rgb(0x70, 0x70, 0x70);
/// The border of a legend.
pub const RULE: Rgb = Rgb(0xcc, 0xcc, 0xcc);
/// Background and the edge of markers.
pub const PAPER: Rgb = Rgb(0xff, 0xff, 0xff);
/// Text on a filled bar; told apart from [`PAPER`] so that a dark page can turn the one and keep the other.
pub const ON_COLOR: Rgb = Rgb(0xff, 0xff, 0xfe);
/// seaborn's "deep" blue: the baseline.
pub const BLUE: Rgb = Rgb(0x4c, 0x72, 0xb0);
/// seaborn's "deep" orange: antipode. Blue and orange stay apart for every common colour blindness.
pub const ORANGE: Rgb = Rgb(0xdd, 0x84, 0x52);
/// seaborn's "deep" red: violations.
pub const RED: Rgb = Rgb(0xc4, 0x4e, 0x52);

/// The colour of a variant, the same in every figure.
pub fn color(variant: Variant) -> Rgb {
    match variant {
        Variant::Baseline => BLUE,
        Variant::Antipode => ORANGE,
    }
}

/// The marker of a variant: the second sign besides colour.
pub fn marker(variant: Variant) -> Marker {
    match variant {
        Variant::Baseline => Marker::Cross,
        Variant::Antipode => Marker::Disc,
    }
}

/// `US->EU` as it is printed.
pub fn pair_label(pair: &str) -> String {
    pair.replace("->", "\u{2192}")
}

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it shows, for people who cannot see it.
    pub title: String,
    /// Width, points.
    pub width: f64,
    /// Height of each panel's plot area, points.
    pub panel_height: f64,
    /// Blocks side by side.
    pub columns: usize,
    /// The blocks, from top to bottom in each column.
    pub blocks: Vec<Block>,
    /// How many blocks in a row belong together and stay in one column.
    pub together: usize,
    /// The legend.
    pub keys: Vec<Key>,
    /// What forbids to use the figure; loud, above the small print.
    pub alarm: Option<String>,
    /// Small print below.
    pub notes: Vec<String>,
}

/// Panels that belong together: those of one zone pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Above its left corner, oblique.
    pub title: String,
    /// Side by side.
    pub panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Its share of the block's width.
    pub weight: f64,
    /// Along the bottom.
    pub x: Axis,
    /// Along the left or right.
    pub y: Axis,
    /// Whether y's ticks are on the right.
    pub right: bool,
    /// What is shown, from the back to the front.
    pub marks: Vec<Mark>,
}

/// A scale and what it measures.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Quantity and unit. Equal labels of panels above each other are written once.
    pub label: String,
    /// Values to lengths.
    pub scale: Scale,
}

/// A sign at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// None.
    None,
    /// A filled circle.
    Disc,
    /// A filled x.
    Cross,
}

/// A point of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Along x.
    pub x: f64,
    /// Along y.
    pub y: f64,
    /// The ends of its interval, where it has one.
    pub interval: Option<(f64, f64)>,
    /// What is shown when it is pointed at; empty for nothing.
    pub hover: String,
    /// A small text beside it; empty for none.
    pub label: String,
}

impl Point {
    /// A bare point.
    pub fn new(x: f64, y: f64) -> Self {
        Point { x, y, interval: None, hover: String::new(), label: String::new() }
    }
}

/// Something shown in a panel.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// A line through points.
    Line {
        /// In drawing order.
        points: Vec<Point>,
        /// Its colour.
        color: Rgb,
        /// Its width, points; 0 for markers alone.
        width: f64,
        /// Its markers.
        marker: Marker,
        /// Broken rather than full.
        dashed: bool,
    },
    /// The area between two curves over x: (x, low, high).
    Band {
        /// Ascending in x.
        points: Vec<(f64, f64, f64)>,
        /// Its colour.
        color: Rgb,
    },
    /// A bar.
    Bar {
        /// Its middle on the x axis.
        x: f64,
        /// Its width in units of x.
        width: f64,
        /// One end.
        from: f64,
        /// The other end.
        to: f64,
        /// Its colour.
        color: Rgb,
        /// Whether it lies over another bar and lets that shine through (a negative overhead).
        over: bool,
        /// The ends of the interval of `to`.
        interval: Option<(f64, f64)>,
        /// Bold, in its middle when `from` is 0 and it fits, else beyond its end; empty for none.
        text: String,
        /// What is shown when it is pointed at.
        hover: String,
    },
    /// A box plot: quartiles, whiskers, mean and outliers.
    Box {
        /// Its middle on the x axis.
        x: f64,
        /// Its width in units of x.
        width: f64,
        /// The five numbers and the rest.
        stats: BoxStats,
        /// Its colour.
        color: Rgb,
        /// What is shown when it is pointed at.
        hover: String,
    },
    /// A thin line across the panel at this y.
    Across {
        /// Where.
        y: f64,
        /// Its colour.
        color: Rgb,
    },
}

/// The numbers of a box plot, as matplotlib computes them: whiskers reach the outermost values within 1.5 times the
/// interquartile range.
#[derive(Clone, Debug, PartialEq)]
pub struct BoxStats {
    /// Lower whisker.
    pub low: f64,
    /// First quartile.
    pub q1: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub q3: f64,
    /// Upper whisker.
    pub high: f64,
    /// Mean.
    pub mean: f64,
    /// Values beyond the whiskers.
    pub outliers: Vec<f64>,
}

impl BoxStats {
    /// The numbers of `values`; `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = crate::stats::sorted(values);
        let quantile = |q| crate::stats::quantile(&sorted, q);
        let (q1, median, q3) = (quantile(0.25)?, quantile(0.5)?, quantile(0.75)?);
        let reach = 1.5 * (q3 - q1);
        let inside = |value: &&f64| **value >= q1 - reach && **value <= q3 + reach;
        // Interpolated quartiles may lie beyond every value on their side: then the whisker has no length.
        let low = sorted.iter().find(inside).map_or(q1, |low| low.min(q1));
        let high = sorted.iter().rfind(inside).map_or(q3, |high| high.max(q3));
        let outliers = sorted.iter().copied().filter(|value| *value < low || *value > high).collect();
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        Some(BoxStats { low, q1, median, q3, high, mean, outliers })
    }
}

/// An entry of the legend.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// What it says.
    pub label: String,
    /// Its colour.
    pub color: Rgb,
    /// How it looks.
    pub kind: KeyKind,
}

/// How a key looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyKind {
    /// A piece of line with a marker.
    Line(Marker),
    /// A piece of broken line.
    Dashed,
    /// A filled patch.
    Patch,
    /// A translucent patch.
    Band,
}

impl Mark {
    /// A bar without interval, text or hover.
    pub fn bar(x: f64, width: f64, to: f64, color: Rgb) -> Self {
        Mark::Bar {
            x,
            width,
            from: 0.0,
            to,
            color,
            over: false,
            interval: None,
            text: String::new(),
            hover: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_has_matplotlibs_numbers() {
        let stats = BoxStats::of(&[0.8, 0.8, 0.0, 1.6, 0.4, 1.6, 0.4, 1.2, 0.4, 0.0]).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(stats.q1, 0.4) && close(stats.median, 0.6) && close(stats.q3, 1.1), "{stats:?}");
        assert!(close(stats.mean, 0.72) && stats.low == 0.0 && stats.high == 1.6 && stats.outliers.is_empty());
    }

    #[test]
    fn a_stray_value_is_an_outlier() {
        let stats = BoxStats::of(&[1.0, 2.0, 3.0, 4.0, 100.0]).unwrap();
        assert_eq!((stats.low, stats.high, stats.outliers), (1.0, 4.0, vec![100.0]));
        assert_eq!(BoxStats::of(&[]), None);
    }
}
