//! crypto

pub mod verify;
