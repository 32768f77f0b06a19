//! Pages of the documentation as tests read and run them: the commands on them, the files that they
//! show, and the machine on which the commands run.

mod page;
mod programs;
mod walk;
mod words;

pub use self::{
    page::{Page, Step},
    programs::Programs,
    walk::{Tables, Walk},
    words::commands,
};
