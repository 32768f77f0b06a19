//! The chunk formats from outside: what is masked, cut, framed, packed, bundled and listed comes
//! back, whatever it was, and what was forged or damaged is refused.

mod containers;
mod cutting;
mod forged;
mod frames;
mod golden;
mod sample;
mod versions;
mod wasteful;
