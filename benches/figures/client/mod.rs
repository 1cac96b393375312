//! A client that takes next to nothing of the machine: what is asked, and the wire. Blocking or not is for its users.

pub mod ask;
mod heads;
pub mod wire;

pub use ask::{Ask, Asker};
pub use wire::{Event, Wire};
