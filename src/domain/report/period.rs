//! The months that a report is about. A period is of whole months, in UTC, and over.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};

/// A calendar month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(Date);

/// Why there is no such period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// Not a month.
    #[error("`{0}` is not a month: write it like 2021-02")]
    NotAMonth(String),
    /// The wrong way round.
    #[error("the period ends with `{last}`, before it begins with `{first}`: is it the other way round?")]
    Backwards {
        /// The first month.
        first: Month,
        /// The last.
        last: Month,
    },
    /// Not over yet.
    #[error("`{last}` is not over yet: a report is made once its last month is, from `{ends}` on")]
    NotOver {
        /// The last month.
        last: Month,
        /// When it will be.
        ends: Timestamp,
    },
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

impl std::str::FromStr for Month {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let bad = || PeriodError::NotAMonth(text.escape_debug().to_string());
        let (year, month) = text.split_once('-').ok_or_else(bad)?;
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return Err(bad());
        }
        let date = year.parse().ok().zip(month.parse().ok()).and_then(|(year, month)| Date::new(year, month, 1).ok());
        date.filter(|date| (1970..9999).contains(&date.year())).map(Self).ok_or_else(bad)
    }
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    from: Timestamp,
    until: Timestamp,
}

fn midnight(date: Date) -> Timestamp {
    Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX)
}

impl Period {
    /// From the beginning of a month to the end of another, or the same.
    ///
    /// # Errors
    /// If it ends before it begins, or not before now.
    pub fn of(first: Month, last: Month, now: Timestamp) -> Result<Self, PeriodError> {
        if last < first {
            return Err(PeriodError::Backwards { first, last });
        }
        let until = last.0.checked_add(1.month()).map_or(Timestamp::MAX, midnight);
        if until > now {
            return Err(PeriodError::NotOver { last, ends: until });
        }
        Ok(Self { from: midnight(first.0), until })
    }

    /// Its beginning.
    #[must_use]
    pub const fn from(&self) -> Timestamp {
        self.from
    }

    /// Its end, not included.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether a time lies in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(text: &str) -> Month {
        text.parse().unwrap()
    }

    #[test]
    fn a_period_is_of_whole_months_that_are_over() {
        let end: Timestamp = "2021-03-01T00:00:00Z".parse().unwrap();
        let period = Period::of(month("2021-02"), month("2021-02"), end).unwrap();
        let within = |at: &str| period.contains(at.parse().unwrap());
        assert!(within("2021-02-01T00:00:00Z") && within("2021-02-28T23:59:59.999999Z"));
        assert!(!within("2021-01-31T23:59:59.999999Z") && !within("2021-03-01T00:00:00Z"));
        let early: Timestamp = "2021-02-28T23:59:59.999999Z".parse().unwrap();
        let error = Period::of(month("2021-02"), month("2021-02"), early).unwrap_err().to_string();
        assert!(error.contains("`2021-02` is not over yet"), "{error}");
        let leap = Period::of(month("2023-12"), month("2024-02"), end.max("2030-01-01T00:00:00Z".parse().unwrap()));
        let leap = leap.unwrap();
        assert_eq!(
            (leap.from().to_string(), leap.until().to_string()),
            ("2023-12-01T00:00:00Z".to_owned(), "2024-03-01T00:00:00Z".to_owned())
        );
        let error = Period::of(month("2021-02"), month("2021-01"), end).unwrap_err().to_string();
        assert!(error.contains("`2021-01`, before it begins with `2021-02`"), "{error}");
    }

    #[test]
    fn what_is_no_month_is_refused_by_name() {
        for text in [
            "",
            "2021",
            "2021-2",
            "2021-13",
            "2021-00",
            "21-02",
            "2021-02-01",
            "+021-02",
            "0000-01",
            "9999-01",
            "2021/02",
        ] {
            let error = text.parse::<Month>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not a month")), "{error}");
        }
        assert_eq!(month("2021-02").to_string(), "2021-02");
    }
}
