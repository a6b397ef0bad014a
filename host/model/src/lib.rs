//! A TCP connection as one of its ends sees it, without I/O: two directions that end
//! independently, and one error that ends both (RFC 9293 section 3.6).
//!
//! The host records the results of system calls in the model, and the guest SDK records
//! what the host reports. Both ask the model what that means for the connection. The rules
//! cited here, such as R4, are defined in `wit/SEMANTICS.md`.
//!
//! [`Machine`] adds the callback style to it: which calls of the program take effect, and
//! which event comes next (rules K1 to K8). [`Idle`] and [`Timers`] are its clocks.
//!
//! The crate also holds what hosts and guests share around it: the sockets of an instance by
//! number ([`Table`]), the delays of accept loops ([`Backoff`]), the order of calls that wait
//! for the same thing ([`Turns`]), how much to read at once ([`Room`]) and the conversion of
//! addresses ([`address_conversions!`]).
//!
//! ```
//! use halfopen_model::{Closing, Directions};
//!
//! let mut directions = Directions::<&str>::default();
//! // The peer sends FIN: our direction stays open.
//! assert_eq!(directions.receive_end(), Ok(()));
//! assert!(!directions.over());
//! assert_eq!(directions.closing(), Closing::Fin { drain: false });
//! // We send FIN: the connection has ended.
//! directions.finish();
//! assert!(directions.over());
//! // A later reset is not an error of the connection.
//! assert_eq!(directions.fail("reset"), "reset");
//! assert_eq!(directions.failure(), None);
//! ```

mod address;
mod backoff;
mod directions;
mod idle;
mod machine;
mod room;
mod table;
mod timers;
mod turns;

pub use address::{is_local, is_remote};
pub use backoff::Backoff;
pub use directions::{Closing, Directions};
pub use idle::Idle;
pub use machine::{Destroy, Event, HIGH_WATER, Machine, Sink, Source, Step, Written};
pub use room::Room;
pub use table::Table;
pub use timers::{Alarm, Timers};
pub use turns::{Turn, Turns, Waiting};
