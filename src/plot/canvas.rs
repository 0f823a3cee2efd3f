//! The drawing surface: plotters' SVG backend with lengths in points (1/72 inch), text measured with the font that
//! the picture is later rendered with, and the places that show a value when pointed at.

use std::fmt::Write as _;
use std::sync::OnceLock;

use plotters::prelude::{
    DrawingBackend, FontStyle, FontTransform, IntoFont, RGBColor, SVGBackend, ShapeStyle, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, register_font};

use super::PlotError;

/// Pixels per inch of the picture; coordinates are whole pixels.
pub const DPI: f64 = 600.0;

/// The family every text is set in; its subset travels with the binary.
pub const FAMILY: &str = "DejaVu Sans";

/// The faces of the family: style, TrueType for rendering, WOFF2 for browsers, CSS of the face.
pub const FACES: [(FontStyle, &[u8], &[u8], &str); 3] = [
    (
        FontStyle::Normal,
        include_bytes!("fonts/DejaVuSans.ttf"),
        include_bytes!("fonts/DejaVuSans.woff2"),
        "font-weight:normal;font-style:normal",
    ),
    (
        FontStyle::Bold,
        include_bytes!("fonts/DejaVuSans-Bold.ttf"),
        include_bytes!("fonts/DejaVuSans-Bold.woff2"),
        "font-weight:bold;font-style:normal",
    ),
    (
        FontStyle::Italic,
        include_bytes!("fonts/DejaVuSans-Oblique.ttf"),
        include_bytes!("fonts/DejaVuSans-Oblique.woff2"),
        "font-weight:normal;font-style:italic",
    ),
];

/// Height of a line of this font over its em (ascent 1901 + descent 483 of 2048), by which plotters scales it.
const LINE_PER_EM: f64 = 2384.0 / 2048.0;

/// plotters writes `font-size` as the asked size over this.
const SIZE_FACTOR: f64 = 1.24;

/// An RGB colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

/// Weight and slant of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Upright.
    Normal,
    /// Bold.
    Bold,
    /// Oblique.
    Italic,
}

/// Which point of a text is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its left end.
    Left,
    /// Its middle.
    Middle,
    /// Its right end.
    Right,
}

/// How a text is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Font {
    /// Size, points.
    pub size: f64,
    /// Weight and slant.
    pub face: Face,
    /// Colour.
    pub color: Rgb,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pen {
    /// Colour.
    pub color: Rgb,
    /// Width, points.
    pub width: f64,
    /// Opacity 0..1.
    pub alpha: f64,
    /// Lengths of dash and gap, points; none for a full line.
    pub dash: Option<(f64, f64)>,
}

impl Pen {
    /// A full, opaque line.
    pub fn new(color: Rgb, width: f64) -> Self {
        Pen { color, width, alpha: 1.0, dash: None }
    }
}

/// A place with a value.
struct Spot {
    x: i32,
    y: i32,
    /// Half width and half height, pixels; a disc when they are equal.
    half: (i32, i32),
    text: String,
}

/// A picture being drawn.
pub struct Canvas<'a> {
    backend: SVGBackend<'a>,
    spots: Vec<Spot>,
    failed: Option<String>,
}

fn px(points: f64) -> i32 {
    (points * DPI / 72.0).round() as i32
}

fn rgb(color: Rgb) -> RGBColor {
    RGBColor(color.0, color.1, color.2)
}

/// Registers the embedded font once; plotters measures text with it.
fn fonts() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        for (style, bytes, _, _) in FACES {
            // The bytes are compiled in and a test measures text in every face: this cannot fail in use.
            register_font(FAMILY, style, bytes).ok();
        }
    });
}

fn font_style(face: Face) -> FontStyle {
    match face {
        Face::Normal => FontStyle::Normal,
        Face::Bold => FontStyle::Bold,
        Face::Italic => FontStyle::Italic,
    }
}

/// Width of `text`, points.
pub fn text_width(text: &str, size: f64, face: Face) -> f64 {
    fonts();
    let font = (FAMILY, 1000.0, font_style(face)).into_font();
    let width = font.layout_box(text).map_or(0, |((x0, _), (x1, _))| x1 - x0);
    f64::from(width) / 1000.0 * LINE_PER_EM * size
}

impl<'a> Canvas<'a> {
    /// Starts a picture of `width` x `height` points in `buffer`.
    pub fn new(buffer: &'a mut String, width: f64, height: f64) -> Self {
        fonts();
        let size = (px(width) as u32, px(height) as u32);
        Canvas { backend: SVGBackend::with_string(buffer, size), spots: Vec::new(), failed: None }
    }

    fn keep<E: std::fmt::Display>(&mut self, drawn: Result<(), E>) {
        if let Err(error) = drawn {
            self.failed.get_or_insert(error.to_string());
        }
    }

    /// A line through `points`.
    pub fn line(&mut self, points: &[(f64, f64)], pen: Pen) {
        let style = ShapeStyle {
            color: rgb(pen.color).mix(pen.alpha),
            filled: false,
            stroke_width: px(pen.width).max(1) as u32,
        };
        let dashes = match pen.dash {
            None => vec![points.to_vec()],
            Some((on, off)) => dashes(points, on, off),
        };
        for dash in dashes {
            let drawn = match dash.as_slice() {
                [] | [_] => continue,
                [a, b] => self.backend.draw_line((px(a.0), px(a.1)), (px(b.0), px(b.1)), &style),
                many => self.backend.draw_path(many.iter().map(|(x, y)| (px(*x), px(*y))), &style),
            };
            self.keep(drawn);
        }
    }

    /// A filled polygon.
    pub fn polygon(&mut self, points: &[(f64, f64)], color: Rgb, alpha: f64) {
        let points: Vec<(i32, i32)> = points.iter().map(|(x, y)| (px(*x), px(*y))).collect();
        let drawn = self.backend.fill_polygon(points, &rgb(color).mix(alpha));
        self.keep(drawn);
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(&mut self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), color: Rgb, alpha: f64) {
        let (a, b) = ((px(x0.min(x1)), px(y0.min(y1))), (px(x0.max(x1)), px(y0.max(y1))));
        let drawn = self.backend.draw_rect(a, b, &rgb(color).mix(alpha), true);
        self.keep(drawn);
    }

    /// A filled disc.
    pub fn disc(&mut self, (x, y): (f64, f64), radius: f64, color: Rgb) {
        let style = ShapeStyle { color: rgb(color).to_rgba(), filled: true, stroke_width: 0 };
        let drawn = self.backend.draw_circle((px(x), px(y)), px(radius) as u32, &style, true);
        self.keep(drawn);
    }

    /// Text with its baseline at `y`.
    pub fn text(&mut self, text: &str, (x, y): (f64, f64), anchor: Anchor, font: Font) {
        self.put_text(text, (x, y), anchor, font, FontTransform::None);
    }

    /// Text that reads upwards, its middle at `y` and its baseline at `x`.
    pub fn text_upwards(&mut self, text: &str, (x, y): (f64, f64), font: Font) {
        self.put_text(text, (x, y), Anchor::Middle, font, FontTransform::Rotate270);
    }

    fn put_text(&mut self, text: &str, (x, y): (f64, f64), anchor: Anchor, font: Font, turned: FontTransform) {
        let horizontal = match anchor {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        let size = f64::from(px(font.size)) * SIZE_FACTOR;
        let color = rgb(font.color);
        let style = TextStyle::from((FAMILY, size, font_style(font.face)).into_font())
            .color(&color)
            .pos(Pos::new(horizontal, VPos::Bottom))
            .transform(turned);
        let drawn = self.backend.draw_text(text, &style, (px(x), px(y)));
        self.keep(drawn);
    }

    /// Shows `text` when the disc around a place is pointed at.
    pub fn spot(&mut self, (x, y): (f64, f64), radius: f64, text: &str) {
        self.spots.push(Spot { x: px(x), y: px(y), half: (px(radius), px(radius)), text: text.to_owned() });
    }

    /// Shows `text` when the rectangle between two corners is pointed at.
    pub fn spot_area(&mut self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), text: &str) {
        let half = (px((x1 - x0).abs() / 2.0), px((y1 - y0).abs() / 2.0));
        self.spots.push(Spot { x: px((x0 + x1) / 2.0), y: px((y0 + y1) / 2.0), half, text: text.to_owned() });
    }

    /// Ends the picture; what was drawn is in the buffer, the spots are returned as SVG.
    ///
    /// # Errors
    /// [`PlotError::Draw`] when something could not be drawn.
    pub fn finish(mut self) -> Result<String, PlotError> {
        let drawn = self.backend.present();
        self.keep(drawn);
        if let Some(why) = self.failed {
            return Err(PlotError::Draw(why));
        }
        let mut spots = String::new();
        for Spot { x, y, half: (w, h), text } in &self.spots {
            let text = escape(text);
            let shape = if w == h {
                format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{w}\">")
            } else {
                format!("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\">", x - w, y - h, 2 * w, 2 * h)
            };
            let tag = if w == h { "circle" } else { "rect" };
            // Writing to a string cannot fail.
            writeln!(spots, "{shape}<title>{text}</title></{tag}>").ok();
        }
        Ok(spots)
    }
}

/// Text for SVG and HTML content and attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in XML at all.
            c if (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}')
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Cuts a line into dashes of length `on` with gaps of length `off`.
fn dashes(points: &[(f64, f64)], on: f64, off: f64) -> Vec<Vec<(f64, f64)>> {
    let mut all = Vec::new();
    let mut current: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    let (mut drawing, mut left) = (true, on.max(0.1));
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length <= left {
                left -= length;
                if drawing {
                    current.push(to);
                }
                break;
            }
            let part = left / length;
            from = (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
            if drawing {
                current.push(from);
                all.push(std::mem::take(&mut current));
            } else {
                current = vec![from];
            }
            drawing = !drawing;
            left = if drawing { on.max(0.1) } else { off.max(0.1) };
        }
    }
    if drawing && current.len() > 1 {
        all.push(current);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_measured_in_every_face() {
        // The advance of DejaVu Sans' digits is 1303/2048 em, of the bold ones 1425/2048 em.
        assert!((text_width("0000", 10.0, Face::Normal) - 4.0 * 10.0 * 1303.0 / 2048.0).abs() < 0.05);
        assert!((text_width("0000", 10.0, Face::Bold) - 4.0 * 10.0 * 1425.0 / 2048.0).abs() < 0.05);
        assert!((text_width("0000", 10.0, Face::Italic) - 4.0 * 10.0 * 1303.0 / 2048.0).abs() < 0.05);
        for c in "→≈≤≥±×−µ·–…Δ²".chars() {
            assert!(text_width(&c.to_string(), 10.0, Face::Normal) > 2.0, "{c}");
        }
    }

    #[test]
    fn dashes_cover_their_share_of_the_line() {
        let parts = dashes(&[(0.0, 0.0), (5.0, 0.0), (10.0, 0.0)], 1.0, 1.0);
        let length: f64 = parts.iter().map(|p| p[p.len() - 1].0 - p[0].0).sum();
        assert!((length - 5.0).abs() < 1e-9, "{parts:?}");
    }

    #[test]
    fn markup_in_values_stays_text() {
        assert_eq!(escape("a<b>&\"c'\u{1}"), "a&lt;b&gt;&amp;&quot;c&#39;\u{fffd}");
    }
}
