//! A store on a Redis server.
//!
//! A bucket is three keys of the server: a hash of the values, a sorted set of the names of its
//! keys, and the number of its bytes. A change is one script, which Redis runs as a whole.

mod link;
mod options;
mod store;

pub use options::RedisOptions;
pub(super) use store::RedisStore;
