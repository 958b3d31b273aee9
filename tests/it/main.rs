//! The one integration binary: every suite that uses the library from outside is a module of it.

mod store;
