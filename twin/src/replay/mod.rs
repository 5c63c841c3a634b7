//! Recorded systems driven again: the twin gets the recorded decisions and arrivals, and what it
//! predicts is held against what was recorded.

pub mod testbed;
