//! `withheld report`: what goes back to an authority, and what is published.

mod cells;
mod enforcement;
mod notice;
mod transparency;

use clap::{Args, Subcommand};

use super::client::Client;
use super::error::CliError;
use super::output::Output;

/// See the module.
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// What was done about each item of an order, when, and why not: for the authority that issued it
    Enforcement {
        /// The order
        order_id: String,
        /// Print the items as CSV
        #[arg(long)]
        csv: bool,
    },
    /// Orders, accounts and posts of a period by territory, small counts suppressed: for the public
    Transparency(TransparencyArgs),
    /// A public order as the Lumen database takes notices, in JSON
    Notice {
        /// The order
        order_id: String,
    },
}

/// Which months, and how they are counted.
#[derive(Debug, Args)]
pub struct TransparencyArgs {
    /// A month, quarter, half-year or year: 2021-02, 2021-Q1, 2021-H1, 2021
    #[arg(long, value_name = "PERIOD", value_parser = period, required_unless_present = "from", conflicts_with_all = ["from", "to"])]
    period: Option<Months>,
    /// The first month, like 2021-01
    #[arg(long, value_name = "MONTH")]
    from: Option<String>,
    /// The last month, itself included [default: the first]
    #[arg(long, value_name = "MONTH", requires = "from")]
    to: Option<String>,
    /// Suppress counts below this, and what they could be worked out from; 1: none
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    min_cell: u32,
    /// Count sealed orders too: not for publication
    #[arg(long)]
    include_sealed: bool,
    /// Print CSV
    #[arg(long)]
    csv: bool,
}

/// From the first of a month to the end of another.
#[derive(Debug, Clone)]
struct Months {
    first: String,
    last: String,
}

fn period(text: &str) -> Result<Months, &'static str> {
    let wrong = "write a month, quarter, half-year or year, like 2021-02, 2021-Q1, 2021-H1 or 2021";
    let (year, part) = text.split_once('-').unwrap_or((text, ""));
    if year.len() != 4 || !year.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong);
    }
    let (first, last) = match part {
        "" if text == year => (1, 12),
        "H1" => (1, 6),
        "H2" => (7, 12),
        "Q1" => (1, 3),
        "Q2" => (4, 6),
        "Q3" => (7, 9),
        "Q4" => (10, 12),
        month if month.len() == 2 => {
            let month = month.parse().ok().filter(|month| (1..=12).contains(month)).ok_or(wrong)?;
            (month, month)
        }
        _ => return Err(wrong),
    };
    Ok(Months { first: format!("{year}-{first:02}"), last: format!("{year}-{last:02}") })
}

impl TransparencyArgs {
    fn months(&self) -> Months {
        self.period.clone().unwrap_or_else(|| {
            let first = self.from.clone().unwrap_or_default();
            Months { last: self.to.clone().unwrap_or_else(|| first.clone()), first }
        })
    }
}

pub(super) async fn run(command: ReportCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let csv = match &command {
        ReportCommand::Enforcement { csv, .. } => *csv,
        ReportCommand::Transparency(args) => args.csv,
        ReportCommand::Notice { .. } => false,
    };
    if csv && out.is_json() {
        return Err(CliError::usage("`--csv` and `--output json` are two formats: leave one out"));
    }
    match command {
        ReportCommand::Enforcement { order_id, csv } => enforcement::run(order_id, csv, client, out).await,
        ReportCommand::Transparency(args) => transparency::run(&args, client, out).await,
        ReportCommand::Notice { order_id } => notice::run(order_id, client, out).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_as_people_write_them_and_nothing_is_guessed() {
        for (text, first, last) in [
            ("2021-02", "2021-02", "2021-02"),
            ("2021-Q1", "2021-01", "2021-03"),
            ("2021-Q4", "2021-10", "2021-12"),
            ("2021-H1", "2021-01", "2021-06"),
            ("2021-H2", "2021-07", "2021-12"),
            ("2021", "2021-01", "2021-12"),
        ] {
            let months = period(text).unwrap();
            assert_eq!((months.first.as_str(), months.last.as_str()), (first, last), "{text}");
        }
        for text in
            ["", "21", "2021-", "2021-2", "2021-13", "2021-00", "2021-h1", "2021-H3", "2021-Q5", "2021-02-01", "+021"]
        {
            assert!(period(text).is_err(), "{text}");
        }
    }
}
