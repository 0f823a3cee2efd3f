//! Tables as pandas' `DataFrame.describe()` computes and prints them, for `traces.info`.
//!
//! Rules followed (pandas 2): standard deviation with n - 1; quantiles by linear interpolation; five digits after the
//! point, trailing zeros cut column by column; scientific notation when a number is too small or too large for that;
//! columns dropped from the middle until the table fits the width.

use crate::stats::quantile;

/// Digits after the point.
const DIGITS: usize = 5;

/// The rows of a description, in order.
pub const ROWS: [&str; 10] = ["count", "mean", "std", "min", "25%", "50%", "75%", "90%", "99%", "max"];

/// Count, mean, standard deviation, minimum, quartiles, 90th and 99th percentile and maximum of a column.
pub type Description = [f64; ROWS.len()];

/// Describes `values`, which it sorts. What is not defined is NaN.
pub fn describe(values: &mut [f64]) -> Description {
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let std = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { f64::NAN };
    let at = |q| quantile(values, q).unwrap_or(f64::NAN);
    [count, mean, std, at(0.0), at(0.25), at(0.5), at(0.75), at(0.9), at(0.99), at(1.0)]
}

/// Prints `columns` (name, description) in at most `width` characters.
pub fn table(columns: &[(&str, Description)], width: usize) -> String {
    let mut cells: Vec<Vec<String>> = vec![std::iter::once("").chain(ROWS).map(str::to_owned).collect()];
    cells.extend(columns.iter().map(|(name, description)| column(name, description)));
    // The labels are set left, the numbers right.
    let labels = cells[0].iter().map(String::len).max().unwrap_or(0);
    cells[0].iter_mut().for_each(|label| *label = format!("{label:<labels$}"));
    for column in &mut cells[1..] {
        let widest = column.iter().map(String::len).max().unwrap_or(0);
        column.iter_mut().for_each(|cell| *cell = format!("{cell:>widest$}"));
    }
    let kept = columns_that_fit(&cells, width);
    if kept == columns.len() {
        return join(&cells);
    }
    let side = kept / 2;
    let mut shown: Vec<Vec<String>> = cells[..=side].to_vec();
    let dots = std::iter::repeat_n(" ...".to_owned(), ROWS.len() + 1).collect();
    shown.push(dots);
    shown.extend_from_slice(&cells[cells.len() - side..]);
    format!("{}\n[{} rows x {} columns]\n", join(&shown), ROWS.len(), columns.len())
}

fn join(cells: &[Vec<String>]) -> String {
    let mut text = String::new();
    for row in 0..=ROWS.len() {
        let line: Vec<&str> = cells.iter().map(|column| column[row].as_str()).collect();
        text.push_str(&line.join(" "));
        text.push('\n');
    }
    text
}

/// How many columns besides the labels fit into `width`, dropping from the middle; two are always kept.
fn columns_that_fit(cells: &[Vec<String>], width: usize) -> usize {
    let mut widths: Vec<usize> = cells.iter().map(|column| column[0].len()).collect();
    let total = widths.iter().sum::<usize>() + widths.len() - 1;
    // pandas leaves the last column of a terminal free.
    let mut excess = total as i64 - width as i64 + 1;
    while excess > 0 && widths.len() > 1 {
        let middle = round_half_even(widths.len());
        excess -= widths.remove(middle) as i64 + 1;
    }
    (widths.len() - 1).max(2.min(cells.len() - 1))
}

/// `round(n / 2)` as Python rounds.
fn round_half_even(n: usize) -> usize {
    let half = n / 2;
    if n.is_multiple_of(2) || half.is_multiple_of(2) { half } else { half + 1 }
}

/// Header and numbers of one column; each with the blank that stands for a sign.
fn column(name: &str, description: &Description) -> Vec<String> {
    let mut cells = vec![format!(" {name}")];
    cells.extend(numbers(description));
    cells
}

fn numbers(values: &[f64]) -> Vec<String> {
    let fixed = trim(print(values, |value| format!("{value:.DIGITS$}")));
    let finite = || values.iter().map(|value| value.abs()).filter(|value| value.is_finite());
    let small = finite().any(|value| value > 0.0 && value < 10_f64.powi(-(DIGITS as i32)));
    let large = finite().any(|value| value > 1e6);
    let too_long = fixed.iter().any(|cell| cell.len() > DIGITS + 6);
    if small || (large && too_long) { print(values, scientific) } else { fixed }
}

fn print(values: &[f64], with: impl Fn(f64) -> String) -> Vec<String> {
    let signed = |value: f64| match with(value) {
        text if text.starts_with('-') => text,
        text => format!(" {text}"),
    };
    values.iter().map(|&value| if value.is_nan() { "NaN".to_owned() } else { signed(value) }).collect()
}

/// `1.50000e-03`: two digits of exponent at least, always with a sign.
fn scientific(value: f64) -> String {
    let text = format!("{value:.DIGITS$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Cuts the zeros that all numbers end with, and leaves one behind the point.
fn trim(mut cells: Vec<String>) -> Vec<String> {
    let with_point = |cell: &String| cell.contains('.');
    while cells.iter().any(with_point) && cells.iter().filter(|cell| with_point(cell)).all(|cell| cell.ends_with('0')) {
        cells.iter_mut().filter(|cell| with_point(cell)).for_each(|cell| {
            cell.pop();
        });
    }
    cells.iter_mut().filter(|cell| cell.ends_with('.')).for_each(|cell| cell.push('0'));
    cells
}
