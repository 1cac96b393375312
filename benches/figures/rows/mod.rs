//! The rows of the table, by what is asked of the service.

mod batch;
mod counting;
pub mod index;
mod orders;
mod process;
mod threads;
mod unary;
mod waits;

use std::pin::Pin;

use crate::data::Journals;
use crate::table::Figure;

/// Measures something and gives its lines.
type Measure = fn(&Journals) -> Pin<Box<dyn Future<Output = Vec<Figure>> + '_>>;

macro_rules! rows {
    ($($name:literal => $measure:path),* $(,)?) => { &[$(($name, |journals| Box::pin($measure(journals)))),*] };
}

/// All there are, each under the name by which it can be measured alone.
pub const ALL: &[(&str, Measure)] = rows! {
    "check" => unary::check,
    "batch" => batch::batch,
    "lookup" => index::lookup,
    "memory" => index::memory,
    "apply" => index::apply_and_publish,
    "process" => process::large,
    "tail" => waits::tail,
    "replicas" => orders::replicas,
    "orders" => orders::acknowledged,
    "fanout" => waits::fanout,
    "cores" => threads::cores,
    "tls" => threads::tls,
    "counting" => counting::counting,
    "million" => orders::million,
    "long" => process::long,
};
