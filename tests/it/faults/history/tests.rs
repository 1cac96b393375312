//! The checker finds what it is there to find.
