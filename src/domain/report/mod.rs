//! What leaves the house about orders: to an authority, to the public. Pure functions of a state, or of one order.

pub mod enforcement;
pub mod notice;
pub mod period;
pub mod suppression;
pub mod transparency;
