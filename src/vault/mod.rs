//! vault

pub mod calendar;
pub mod fieldmap;
pub mod mask;
pub mod schema;
pub mod slug;
pub mod validate;
pub mod value;
