//! vault

pub mod calendar;
pub mod fieldmap;
pub mod slug;
pub mod validate;
pub mod value;
