//! The commands, except `serve`.

pub(crate) mod check;
pub(crate) mod compile;
pub(crate) mod component;
pub(crate) mod compose;
pub(crate) mod ctl;
pub(crate) mod dev;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod new;
pub(crate) mod run;
