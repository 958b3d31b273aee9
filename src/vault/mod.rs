//! vault

pub mod fieldmap;
pub mod value;
