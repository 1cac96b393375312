#![allow(missing_docs)]
use std::mem::size_of;
fn main() {
    use withheld::domain::*;
    println!(
        "Order {} OrderApplied {} OrderSpec {} ItemChunk {} Items {} Recorded {} Attribution {} Approval {} Proposal {} Event {} Notice {} OrdMap {} Vector<u32> {} OrderRequest {}",
        size_of::<order::Order>(),
        size_of::<event::OrderApplied>(),
        size_of::<spec::OrderSpec>(),
        size_of::<item::ItemChunk>(),
        size_of::<item::Items>(),
        size_of::<event::Recorded>(),
        size_of::<event::Attribution>(),
        size_of::<approval::Approval>(),
        size_of::<approval::Proposal>(),
        size_of::<event::Event>(),
        size_of::<withheld::index::Notice>(),
        size_of::<imbl::OrdMap<u32, jiff::Timestamp>>(),
        size_of::<imbl::Vector<u32>>(),
        size_of::<plan::OrderRequest>()
    );
}
