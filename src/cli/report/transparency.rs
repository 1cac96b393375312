//! `withheld report transparency`.

use serde_json::{Map, Value, json};

use super::TransparencyArgs;
use super::cells::print;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{Output, say, waiting};
use crate::cli::show::{freshness_json, time, word};
use crate::pb::v1 as pb;

/// A count that is not told. Not empty, which a spreadsheet would add up as 0.
const SUPPRESSED: &str = "*";
/// Territories side by side in a table.
const ABREAST: usize = 6;

fn column(number: i32) -> String {
    word(pb::TransparencyColumn::try_from(number).unwrap_or_default().as_str_name(), "TRANSPARENCY_COLUMN_")
}

fn told(count: Option<u64>) -> String {
    count.map_or_else(|| SUPPRESSED.to_owned(), |count| count.to_string())
}

/// A territory's name; of the total, that.
fn name(row: &pb::TransparencyRow) -> String {
    if row.territory.is_empty() { "total".to_owned() } else { row.territory.clone() }
}

pub(super) async fn run(args: &TransparencyArgs, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let months = args.months();
    let request = pb::GetTransparencyReportRequest {
        first_month: months.first,
        last_month: months.last,
        min_cell: args.min_cell,
        include_sealed: args.include_sealed,
        consistency: None,
    };
    let mut reports = client.reports().await?;
    let asking = reports.get_transparency_report(client.request(request));
    let report = waiting("counting", asking).await?.into_inner();
    match () {
        () if args.csv => show_csv(&report, out),
        () if out.is_json() => out.json(&report_json(&report)),
        () => show(&report, out),
    }
}

fn all(report: &pb::GetTransparencyReportResponse) -> impl Iterator<Item = &pb::TransparencyRow> {
    report.rows.iter().chain(&report.total)
}

fn show_csv(report: &pb::GetTransparencyReportResponse, out: &mut Output) -> Result<(), CliError> {
    report.notes.iter().for_each(say);
    let columns = report.total.iter().flat_map(|total| &total.cells).map(|cell| column(cell.column));
    let fixed = ["from", "until", "as_of", "territory", "country_codes"].map(str::to_owned);
    let share = "share_of_orders_with_content_withheld".to_owned();
    let header = fixed.into_iter().chain(columns).chain([share]).collect();
    let record = |row: &pb::TransparencyRow| {
        let share = row.share_of_orders_with_content_withheld;
        let times = [&report.from, &report.until, &report.as_of].map(|at| time(at.as_ref()));
        let named = [name(row), row.country_codes.join(" ")];
        let counts = row.cells.iter().map(|cell| told(cell.count));
        let share = share.map(|share| format!("{share:.4}")).unwrap_or_default();
        times.into_iter().chain(named).chain(counts).chain([share]).collect()
    };
    print(std::iter::once(header).chain(all(report).map(record)), out)
}

fn report_json(report: &pb::GetTransparencyReportResponse) -> Value {
    let row = |row: &pb::TransparencyRow| {
        let counts: Map<String, Value> =
            row.cells.iter().map(|cell| (column(cell.column), cell.count.into())).collect();
        json!({"territory": name(row), "country_codes": row.country_codes, "counts": counts,
               "share_of_orders_with_content_withheld": row.share_of_orders_with_content_withheld})
    };
    let sum = |sum: &pb::ColumnSum| json!({"whole": column(sum.whole), "parts": sum.parts.iter().map(|part| column(*part)).collect::<Vec<_>>()});
    json!({
        "from": time(report.from.as_ref()), "until": time(report.until.as_ref()),
        "as_of": time(report.as_of.as_ref()), "min_cell": report.min_cell,
        "includes_sealed": report.includes_sealed, "rows": report.rows.iter().map(row).collect::<Vec<_>>(),
        "total": report.total.as_ref().map(row), "sums": report.sums.iter().map(sum).collect::<Vec<_>>(),
        "notes": report.notes, "freshness": freshness_json(report.freshness.as_ref()),
    })
}

fn show(report: &pb::GetTransparencyReportResponse, out: &mut Output) -> Result<(), CliError> {
    let rows: Vec<&pb::TransparencyRow> = all(report).collect();
    let [from, until] = [&report.from, &report.until].map(|at| time(at.as_ref()));
    out.line(format!("received from {from} up to, not including, {until}; as of {}", time(report.as_of.as_ref())))?;
    for abreast in rows.chunks(ABREAST) {
        let header: Vec<String> = std::iter::once(String::new()).chain(abreast.iter().map(|row| name(row))).collect();
        let columns = report.total.iter().flat_map(|total| &total.cells).enumerate();
        let lines = columns.map(|(at, of)| {
            let counts = abreast.iter().map(|row| row.cells.get(at).map(|cell| told(cell.count)).unwrap_or_default());
            std::iter::once(column(of.column).replace('_', " ")).chain(counts).collect()
        });
        out.table(&header.iter().map(String::as_str).collect::<Vec<_>>(), lines.collect())?;
    }
    out.line(format!("{SUPPRESSED}: suppressed, at least 1"))?;
    report.notes.iter().try_for_each(|note| out.line(note))
}
