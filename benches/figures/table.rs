//! What was measured, as it is told: a line a figure, on the terminal and in FIGURES.md.

use std::fmt::Write as _;

/// One quantity, of several rounds.
#[derive(Debug, Clone, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The value below which this share of the rounds is.
    pub fn at(&self, share: f64) -> f64 {
        let sorted = self.sorted();
        assert!(!sorted.is_empty(), "nothing was measured");
        sorted[((sorted.len() - 1) as f64 * share).round() as usize]
    }

    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// Round by round, this of that.
    pub fn of(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(this, that)| this / that).collect()
    }
}

impl FromIterator<f64> for Rounds {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Of what the values are, and so how they are written.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    Seconds,
    Bytes,
    /// Bytes for each of something.
    Each,
    ASecond,
    Times,
    Share,
}

fn digits(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

/// With the thousands set apart.
fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Unit {
    fn scale(self, value: f64) -> (f64, &'static str) {
        let steps: &[(f64, &str)] = match self {
            Self::Seconds => &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")],
            Self::Bytes => &[(1e9, " GB"), (1e6, " MB"), (1.0, " B")],
            Self::Each => &[(1.0, " B")],
            Self::ASecond => &[(1.0, " /s")],
            Self::Times => &[(1.0, "×")],
            Self::Share => &[(0.01, " %")],
        };
        *steps.iter().find(|(step, _)| value >= *step).unwrap_or(&steps[steps.len() - 1])
    }

    fn number(self, value: f64) -> String {
        if matches!(self, Self::ASecond) { whole(value) } else { digits(value) }
    }

    pub fn write(self, value: f64) -> String {
        let (step, name) = self.scale(value);
        format!("{}{name}", self.number(value / step))
    }

    /// The median, and how far the rounds were apart, all in the median's unit.
    fn spread(self, rounds: &Rounds) -> String {
        let (step, name) = self.scale(rounds.median());
        let [least, median, most] = [0.0, 0.5, 1.0].map(|share| self.number(rounds.at(share) / step));
        if least == most { format!("{median}{name}") } else { format!("{median}{name} ({least} – {most})") }
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    Least(f64),
    Most(f64),
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Figure {
    what: String,
    measured: String,
    baseline: String,
    ratio: String,
    aim: String,
    reached: &'static str,
}

impl Figure {
    /// What was measured, by its rounds.
    pub fn new(what: impl Into<String>, unit: Unit, measured: &Rounds) -> Self {
        let [baseline, ratio, aim] = [(); 3].map(|()| String::new());
        Self { what: what.into(), measured: unit.spread(measured), baseline, ratio, aim, reached: "" }
    }

    /// What it is to be held against, measured in turn with it.
    pub fn against(self, name: &str, unit: Unit, baseline: &Rounds) -> Self {
        Self { baseline: format!("{name}: {}", unit.spread(baseline)), ..self }
    }

    /// How much better than the baseline, or how much more of it.
    pub fn ratio(self, ratio: &Rounds) -> Self {
        Self { ratio: Unit::Times.spread(ratio), ..self }
    }

    /// Whether a value is as it should be.
    pub fn aim(self, aim: Aim, unit: Unit, value: f64) -> Self {
        let (sign, bound, reached) = match aim {
            Aim::Least(bound) => ("≥", bound, value >= bound),
            Aim::Most(bound) => ("≤", bound, value <= bound),
        };
        Self { aim: format!("{sign} {}", unit.write(bound)), reached: if reached { "yes" } else { "no" }, ..self }
    }

    fn cells(&self) -> [&str; 6] {
        [&self.what, &self.measured, &self.baseline, &self.ratio, &self.aim, self.reached]
    }
}

const HEAD: [&str; 6] = ["what", "median (least – greatest)", "baseline", "ratio", "aim", "reached"];

/// For people at a terminal.
pub fn plain(figures: &[Figure]) -> String {
    let rows: Vec<[&str; 6]> = std::iter::once(HEAD).chain(figures.iter().map(Figure::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// For FIGURES.md.
pub fn markdown(figures: &[Figure]) -> String {
    let mut text = format!("| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len()));
    for figure in figures {
        let _ = writeln!(text, "| {} |", figure.cells().join(" | "));
    }
    text
}
