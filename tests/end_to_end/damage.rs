//! Damage to packs and rows: found by `check` and named, repaired or withdrawn by `repair`, never
//! served as good, and whole again once it is pushed again, where only what is missing travels.

mod cases;
mod older;
mod serving;
mod stage;
