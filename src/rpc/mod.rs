//! rpc
pub mod permit;
