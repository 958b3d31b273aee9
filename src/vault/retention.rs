//! Retention: when a record must be gone, and that it goes then.
//!
//! [`policy`] says what a rule is and [`decide`] what rules say of a record; [`zone`] tells days, [`time`] which
//! moment it is. [`rules`] keeps a tenant's policies, [`rebucket`] and [`uses`] bring records to the buckets that they
//! want, by [`rehome`]. [`keeper`] wakes on its own: it closes buckets ([`closing`]), and has them killed ([`sweep`]).
//! [`survey`] counts what will go, [`manifest`] is the list of what went.

pub mod closing;
pub mod decide;
pub mod keeper;
pub mod manifest;
pub mod overview;
pub mod policy;
pub mod rebucket;
mod rehome;
pub mod rules;
pub mod survey;
pub mod sweep;
pub mod time;
pub mod uses;
pub mod zone;
