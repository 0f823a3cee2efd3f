//! One SVG, several files: the SVG itself with its fonts, the PNG at 600 dpi and the PDF, all of the same drawing.

use std::sync::{Arc, OnceLock};

use plotters::prelude::FontStyle;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::PlotError;
use super::canvas::{DPI, FACES, FAMILY, escape};
use super::draw::{Painted, paint};
use super::figure::Figure;

/// Pixels per metre at 600 dpi, as PNG's `pHYs` wants it.
const PIXELS_PER_METRE: u32 = 23_622;

/// A finished drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Svg {
    text: String,
}

/// Draws `figure`.
///
/// # Errors
/// [`PlotError::Draw`].
pub fn svg(figure: &Figure) -> Result<Svg, PlotError> {
    let painted = paint(figure)?;
    Ok(Svg { text: tidy(&painted, &figure.title) })
}

impl Svg {
    /// The drawing without fonts, for a page that brings them.
    pub fn bare(&self) -> &str {
        &self.text
    }

    /// The drawing with the faces it uses inside, so that it looks the same everywhere.
    pub fn standalone(&self) -> String {
        let style = format!("<style>{}</style>\n", font_css(|face| self.uses(face)));
        match self.text.split_once('\n') {
            Some((head, rest)) => format!("{head}\n{style}{rest}"),
            None => self.text.clone(),
        }
    }

    fn uses(&self, style: FontStyle) -> bool {
        match style {
            FontStyle::Normal => true,
            FontStyle::Bold => self.text.contains("font-weight=\"bold\""),
            _ => self.text.contains("font-style=\""),
        }
    }

    fn tree(&self) -> Result<usvg::Tree, PlotError> {
        let options =
            usvg::Options { font_family: FAMILY.to_owned(), fontdb: font_database(), ..usvg::Options::default() };
        usvg::Tree::from_str(&self.text, &options).map_err(|error| PlotError::Draw(error.to_string()))
    }

    /// The picture as PNG at 600 dpi.
    ///
    /// # Errors
    /// [`PlotError::Draw`] when it cannot be rendered or encoded.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        let tree = self.tree()?;
        let scale = (DPI / 96.0) as f32;
        let size = tree.size();
        let (width, height) = ((size.width() * scale).round() as u32, (size.height() * scale).round() as u32);
        let mut pixels = Pixmap::new(width, height).ok_or_else(|| PlotError::Draw("empty picture".into()))?;
        resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
        encode_png(&pixels)
    }

    /// The picture as PDF: vectors and text, no pixels.
    ///
    /// # Errors
    /// [`PlotError::Draw`].
    pub fn pdf(&self) -> Result<Vec<u8>, PlotError> {
        let page = svg2pdf::PageOptions { dpi: 96.0 };
        svg2pdf::to_pdf(&self.tree()?, svg2pdf::ConversionOptions::default(), page)
            .map_err(|error| PlotError::Draw(error.to_string()))
    }
}

fn encode_png(pixels: &Pixmap) -> Result<Vec<u8>, PlotError> {
    let failed = |error: png::EncodingError| PlotError::Draw(error.to_string());
    // The drawing begins with an opaque white page, so alpha carries nothing.
    let colors: Vec<u8> = pixels.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, pixels.width(), pixels.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: PIXELS_PER_METRE,
        yppu: PIXELS_PER_METRE,
        unit: png::Unit::Meter,
    }));
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&colors).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// The embedded faces; the host's fonts are never looked at.
fn font_database() -> Arc<fontdb::Database> {
    static DATABASE: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let make = || {
        let mut database = fontdb::Database::new();
        for (_, bytes, _, _) in FACES {
            database.load_font_source(fontdb::Source::Binary(Arc::new(bytes)));
        }
        database.set_sans_serif_family(FAMILY);
        Arc::new(database)
    };
    DATABASE.get_or_init(make).clone()
}

/// `@font-face` rules with the fonts inside, for the faces that `wanted` names.
pub fn font_css(wanted: impl Fn(FontStyle) -> bool) -> String {
    let mut css = String::new();
    for (style, _, woff2, description) in FACES {
        if wanted(style) {
            let data = base64(woff2);
            css.push_str(&format!(
                "@font-face{{font-family:'{FAMILY}';{description};src:url(data:font/woff2;base64,{data})}}"
            ));
        }
    }
    css
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0_u32, |group, (i, byte)| group | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    text
}

/// plotters' SVG with its size in inches, a title, the family named once and the spots at the end. Elements keep their
/// order; attributes that say nothing are dropped.
fn tidy(painted: &Painted, title: &str) -> String {
    let (width, height) = ((painted.width * DPI / 72.0).round(), (painted.height * DPI / 72.0).round());
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.4}in\" height=\"{:.4}in\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" font-family=\"'{FAMILY}',Verdana,sans-serif\">\n<title>{}</title>\n",
        width / DPI,
        height / DPI,
        escape(title)
    );
    let family = format!(" font-family=\"{FAMILY}\"");
    let mut open = false;
    for line in painted.svg.lines().skip(1).filter(|line| *line != "</svg>") {
        if open {
            text.push_str(line);
            text.push_str("</text>\n");
            open = false;
        } else if line.starts_with("<text ") {
            // Baselines are exact already, and the content belongs on the same line: blanks in it would be drawn.
            let line = line.replace(&family, "").replace(" dy=\"-0.5ex\"", "").replace(" opacity=\"1\"", "");
            text.push_str(&line);
            open = true;
        } else if line != "</text>" {
            text.push_str(&line.replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", "").replace(" \"/>", "\"/>"));
            text.push('\n');
        }
    }
    text.push_str("<g fill=\"none\" pointer-events=\"all\">\n");
    text.push_str(&painted.spots);
    text.push_str("</g>\n</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
