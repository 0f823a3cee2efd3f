//! The page's frame: head, style, script, sections and sortable tables.

use crate::plot;

pub use crate::plot::escape;

/// A page being written.
pub struct Html {
    title: String,
    nav: String,
    body: String,
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// What is shown, as HTML.
    pub html: String,
    /// What it is sorted by; the text when absent.
    pub sort: Option<f64>,
    /// Whether it is a number and stands on the right.
    pub right: bool,
    /// Whether it may be broken into lines.
    pub wrap: bool,
}

impl Cell {
    /// Text.
    pub fn text(text: impl AsRef<str>) -> Self {
        Cell { html: escape(text.as_ref()), ..Cell::default() }
    }

    /// A number as `text`, sorted by its value; an absent one is a dash and sorts last.
    pub fn number(value: Option<f64>, text: impl Fn(f64) -> String) -> Self {
        match value {
            Some(value) => Cell { html: escape(&text(value)), sort: Some(value), right: true, wrap: false },
            None => Cell { html: "\u{2013}".into(), right: true, ..Cell::default() },
        }
    }

    /// HTML that is known to be well formed.
    pub fn html(html: String) -> Self {
        Cell { html, ..Cell::default() }
    }
}

impl Html {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Html { title: title.to_owned(), nav: String::new(), body: String::new() }
    }

    /// Adds HTML that is known to be well formed.
    pub fn raw(&mut self, html: &str) {
        self.body.push_str(html);
    }

    /// A section with a heading and an entry in the navigation.
    pub fn section(&mut self, id: &str, heading: &str, write: impl FnOnce(&mut Html)) {
        self.nav.push_str(&format!("<a href=\"#{id}\">{}</a>", escape(heading)));
        self.body.push_str(&format!("<section id=\"{id}\"><h2>{}</h2>\n", escape(heading)));
        write(self);
        self.body.push_str("</section>\n");
    }

    /// A table whose columns can be sorted by their headings.
    pub fn table(&mut self, heads: &[&str], rows: &[Vec<Cell>]) {
        self.body.push_str("<div class=\"scroll\"><table class=\"sortable\"><thead><tr>");
        for (c, head) in heads.iter().enumerate() {
            let right = rows.iter().any(|row| row.get(c).is_some_and(|cell| cell.right));
            let class = if right { " class=\"n\"" } else { "" };
            self.body.push_str(&format!("<th{class}><button type=\"button\">{}</button></th>", escape(head)));
        }
        self.body.push_str("</tr></thead><tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            for cell in row {
                let class = match (cell.right, cell.wrap) {
                    (true, _) => " class=\"n\"",
                    (false, true) => " class=\"wrap\"",
                    (false, false) => "",
                };
                let sort = cell.sort.map(|value| format!(" data-v=\"{value}\"")).unwrap_or_default();
                self.body.push_str(&format!("<td{class}{sort}>{}</td>", cell.html));
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// The whole page.
    pub fn finish(self) -> String {
        let (title, nav, body) = (escape(&self.title), self.nav, self.body);
        let (style, script) = (include_str!("style.css"), include_str!("script.js"));
        let fonts = plot::font_css(|_| true);
        let version = escape(env!("CARGO_PKG_VERSION"));
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'; font-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
             <style>{fonts}\n{style}</style>\n</head>\n<body>\n<header><h1>{title}</h1>\n\
             <nav>{nav}<button type=\"button\" id=\"theme\" aria-label=\"Switch between light and dark\">\u{25d0}</button></nav>\
             </header>\n<main>\n{body}</main>\n<footer>maestro {version}. This file holds everything it shows and loads \
             nothing.</footer>\n<div id=\"tip\" role=\"status\"></div>\n<script>\n{script}</script>\n</body>\n</html>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        let mut page = Html::new("<b>");
        page.table(&["<i>"], &[vec![Cell::text("<script>alert(1)</script>")]]);
        let text = page.finish();
        assert!(text.contains("<title>&lt;b&gt;</title>") && text.contains("&lt;i&gt;"));
        assert_eq!(text.matches("<script>").count(), 1);
    }
}
