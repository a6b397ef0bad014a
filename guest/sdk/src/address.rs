//! Conversions between the contract's socket addresses and the standard library's.

use crate::bindings::imports::halfopen::tcp::types;

halfopen_model::address_conversions!(types);
