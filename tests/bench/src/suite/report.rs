//! What was measured, beside its target: printed as it comes, and again as a table, in text and in
//! Markdown.

use std::{cell::RefCell, fmt::Write as _};

use super::series::Series;

/// What a figure should come to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Nothing; it is shown for what it explains.
    None,
}

impl Target {
    fn text(self, unit: &str) -> String {
        let space = if unit.is_empty() { "" } else { " " };
        match self {
            Self::AtMost(most) => format!("≤ {}{space}{unit}", number(most)),
            Self::AtLeast(least) => format!("≥ {}{space}{unit}", number(least)),
            Self::None => "–".to_owned(),
        }
    }

    fn met(self, value: f64) -> &'static str {
        match self {
            // A comparison with what is not a number is false, so that it is never met.
            Self::AtMost(most) => yes(value <= most),
            Self::AtLeast(least) => yes(value >= least),
            Self::None => "–",
        }
    }
}

fn yes(met: bool) -> &'static str {
    if met { "yes" } else { "no" }
}

/// A number with three digits that say something.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        trimmed(format!("{value:.1}"))
    } else if size >= 0.1 {
        trimmed(format!("{value:.2}"))
    } else {
        trimmed(format!("{value:.4}"))
    }
}

fn trimmed(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[derive(Clone, Debug)]
struct Row {
    figure: &'static str,
    what: String,
    measured: String,
    peer: String,
    ratio: String,
    target: String,
    met: &'static str,
}

impl Row {
    fn cells(&self) -> [&str; 6] {
        [&self.what, &self.measured, &self.peer, &self.ratio, &self.target, self.met]
    }
}

#[derive(Debug, Default)]
struct Contents {
    figure: &'static str,
    rows: Vec<Row>,
    details: Vec<(&'static str, String)>,
}

/// All rows and details so far.
#[derive(Debug, Default)]
pub(crate) struct Report(RefCell<Contents>);

impl Report {
    /// What comes from now on belongs to this figure.
    pub(crate) fn begin(&self, figure: &'static str, about: &str) {
        println!("\n{figure}: {about}");
        self.0.borrow_mut().figure = figure;
    }

    /// A ratio of ours to the peer's, run by run.
    pub(crate) fn compared(
        &self,
        what: &str,
        ours: &Series,
        peer: &Series,
        unit: &str,
        target: Target,
    ) {
        let ratio = ours.over(peer);
        let text = |series: &Series| format!("{} {unit}", number(series.median()));
        let (least, greatest) = ratio.range();
        self.add(Row {
            figure: "",
            what: what.to_owned(),
            measured: text(ours),
            peer: text(peer),
            ratio: number(ratio.median()),
            target: target.text("×"),
            met: target.met(ratio.median()),
        });
        if least < greatest {
            self.detail(format!(
                "{what}: ratio {} to {} over the runs",
                number(least),
                number(greatest)
            ));
        }
    }

    /// A figure that stands for itself.
    pub(crate) fn measured(&self, what: &str, value: &Series, unit: &str, target: Target) {
        self.judged(what, value, value.median(), unit, target);
    }

    /// A figure that stands for itself, and of which the worst run counts.
    pub(crate) fn worst(&self, what: &str, value: &Series, unit: &str, target: Target) {
        self.judged(what, value, value.greatest(), unit, target);
    }

    fn judged(&self, what: &str, value: &Series, judged: f64, unit: &str, target: Target) {
        let (least, greatest) = value.range();
        self.add(Row {
            figure: "",
            what: what.to_owned(),
            measured: format!("{} {unit}", number(judged)).trim_end().to_owned(),
            peer: "–".to_owned(),
            ratio: "–".to_owned(),
            target: target.text(unit),
            met: target.met(judged),
        });
        if least < greatest {
            self.detail(format!(
                "{what}: {} to {} {unit} over the runs",
                number(least),
                number(greatest)
            ));
        }
    }

    /// What could not be measured, and why.
    pub(crate) fn not_measured(&self, what: &str, why: &str) {
        self.add(Row {
            figure: "",
            what: what.to_owned(),
            measured: "not measured".to_owned(),
            peer: "–".to_owned(),
            ratio: "–".to_owned(),
            target: "–".to_owned(),
            met: "not measured",
        });
        self.detail(format!("{what}: not measured: {why}"));
    }

    fn add(&self, mut row: Row) {
        let mut contents = self.0.borrow_mut();
        row.figure = contents.figure;
        let Row { what, measured, peer, ratio, target, met, .. } = &row;
        if peer == "–" {
            println!("  {what}: {measured} (target {target}: {met})");
        } else {
            println!("  {what}: {measured}, peer {peer}, ratio {ratio} (target {target}: {met})");
        }
        contents.rows.push(row);
    }

    /// A line that explains the figure.
    pub(crate) fn detail(&self, line: impl Into<String>) {
        let line = line.into();
        println!("    {line}");
        let mut contents = self.0.borrow_mut();
        let figure = contents.figure;
        contents.details.push((figure, line));
    }

    /// All rows as a table in columns.
    pub(crate) fn table(&self) -> String {
        let contents = self.0.borrow();
        let rows: Vec<[&str; 6]> =
            [HEAD].into_iter().chain(contents.rows.iter().map(Row::cells)).collect();
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut text = String::new();
        for row in &rows {
            for (cell, width) in row.iter().zip(widths) {
                // Writing to a String cannot fail.
                let _ = write!(text, "{cell:<width$}  ");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// All rows as a Markdown table.
    pub(crate) fn markdown_table(&self) -> String {
        let contents = self.0.borrow();
        let line = |cells: [&str; 6]| format!("| {} |\n", cells.join(" | "));
        let rule = "|---|---|---|---|---|---|\n".to_owned();
        [line(HEAD), rule]
            .into_iter()
            .chain(contents.rows.iter().map(|row| line(row.cells())))
            .collect()
    }

    /// All details, a section per figure.
    pub(crate) fn markdown_details(&self) -> String {
        let contents = self.0.borrow();
        let mut text = String::new();
        let mut last = "";
        for (figure, line) in &contents.details {
            if *figure != last {
                let _ = write!(text, "\n### {figure}\n\n");
                last = figure;
            }
            let _ = writeln!(text, "- {line}");
        }
        text
    }

    /// How many figures have a target, and how many meet it.
    pub(crate) fn met(&self) -> (usize, usize) {
        let contents = self.0.borrow();
        let count =
            |met: &[&str]| contents.rows.iter().filter(|row| met.contains(&row.met)).count();
        (count(&["yes"]), count(&["yes", "no", "not measured"]))
    }
}

const HEAD: [&str; 6] = ["figure", "measured", "peer", "ratio", "target", "met?"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_say_something() {
        assert_eq!(
            [1234.5, 15.04, 0.6, 0.984, 0.0123, 4.0].map(number),
            ["1234", "15", "0.6", "0.98", "0.0123", "4"]
        );
    }

    #[test]
    fn what_is_no_number_meets_nothing() {
        assert_eq!(Target::AtMost(1.0).met(f64::NAN), "no");
        assert_eq!(Target::AtLeast(1.0).met(f64::NAN), "no");
    }
}
