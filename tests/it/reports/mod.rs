//! Reports: what leaves the house is right, whole, and nothing more.

mod attack;
mod suppression;
