//! The table of figures: measured beside upstream's and the limit, as ratios.

use std::fmt::Write as _;

/// Which way a figure gets better.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Better {
    /// Times, memory, CPU.
    Less,
    /// Rates.
    More,
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) figure: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) measured: f64,
    /// What upstream costs, where that was measured (machine.md).
    pub(crate) upstream: Option<f64>,
    /// What is asked for at least.
    pub(crate) limit: Option<f64>,
    pub(crate) note: String,
}

/// How many times better the measured value is than another; below 1 it is worse.
fn times_better(better: Better, measured: f64, other: f64) -> f64 {
    match better {
        Better::Less => other / measured,
        Better::More => measured / other,
    }
}

/// Three significant digits, without decimals from 100 on.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => {
            let digits = format!("{value:.0}");
            let mut out = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The rows as a Markdown table.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| figure | unit | kubox | upstream | times better | at least | of the limit | note |\n\
         |---|---|--:|--:|--:|--:|--:|---|\n",
    );
    for row in rows {
        let value = |other: Option<f64>| other.map(number).unwrap_or_default();
        let ratio = |other: Option<f64>| other.map(|other| number(times_better(row.better, row.measured, other)) + "x");
        let (upstream, limit) = (ratio(row.upstream).unwrap_or_default(), ratio(row.limit).unwrap_or_default());
        let missed = row.limit.is_some_and(|limit| times_better(row.better, row.measured, limit) < 1.0);
        let limit = if missed { format!("**{limit}**") } else { limit };
        // A String takes every write.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {upstream} | {} | {limit} | {} |",
            row.figure,
            row.unit,
            number(row.measured),
            value(row.upstream),
            value(row.limit),
            row.note,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Better, Row, markdown};

    fn check(better: Better, measured: f64, upstream: Option<f64>, limit: Option<f64>, expect: Expect) {
        let row = Row { figure: "f".into(), unit: "u", better, measured, upstream, limit, note: "n".into() };
        expect.assert_eq(markdown(&[row]).lines().last().unwrap_or_default());
    }

    #[test]
    fn ratios_above_one_are_better_and_missed_limits_are_bold() {
        check(
            Better::Less,
            100.0,
            Some(2910.0),
            Some(150.0),
            expect!["| f | u | 100 | 2,910 | 29.1x | 150 | 1.50x | n |"],
        );
        check(Better::Less, 300.0, None, Some(150.0), expect!["| f | u | 300 |  |  | 150 | **0.50x** | n |"]);
        check(
            Better::More,
            16320.0,
            Some(3264.0),
            Some(20000.0),
            expect!["| f | u | 16,320 | 3,264 | 5.00x | 20,000 | **0.82x** | n |"],
        );
        check(Better::More, 1_234_567.0, None, None, expect!["| f | u | 1,234,567 |  |  |  |  | n |"]);
        check(Better::Less, 0.05, Some(4.0), None, expect!["| f | u | 0.050 | 4.00 | 80.0x |  |  | n |"]);
    }
}
