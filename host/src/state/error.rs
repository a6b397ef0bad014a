//! Why state cannot be opened, and why a request of a component is refused.

use std::io;
use std::path::PathBuf;

use super::bounds::{BATCH_BYTES, BATCH_KEYS, KEY};

/// The reason why a store cannot be used, as one line of text. It never contains a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened, made, read or written.
    #[error("cannot open the state `{}`: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// Another process has the file open.
    #[error("cannot open the state `{}`: another process has it open", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is open in this process already, with another [`Durability`](super::Durability).
    #[error("the state `{}` is open already, and with another durability", path.display())]
    OtherDurability {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else, or is damaged.
    #[error("`{}` is no state of this program: {why}", path.display())]
    NotState {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The text is no address of a Redis server.
    #[error("not an address of a Redis server: {0}")]
    Address(String),
    /// There is no connection to the Redis server.
    #[error("cannot use the state on {server}: {why}")]
    Redis {
        /// The server's address.
        server: String,
        /// What failed.
        why: String,
        /// Whether the server does not accept the password or the user.
        denied: bool,
    },
}

/// Why a request of a component is refused, or has failed. The component sees the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The key is too long.
    #[error("the key has {0} bytes, and may have {KEY}")]
    LongKey(usize),
    /// The value is too large.
    #[error("the value has {bytes} bytes, and may have {most}")]
    LargeValue {
        /// The bytes of the value.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// A batch has too many keys.
    #[error("the batch has {0} keys, and may have {BATCH_KEYS}")]
    LongBatch(usize),
    /// A batch, or the answer to one, has too many bytes.
    #[error("the values of the batch have more than {BATCH_BYTES} bytes")]
    LargeBatch,
    /// The bucket has as many keys as it may.
    #[error("the bucket is full: it may have {0} keys")]
    TooManyKeys(u64),
    /// The bucket has as many bytes as it may.
    #[error("the bucket is full: it may have {0} bytes")]
    TooManyBytes(u64),
    /// The value to increment is no decimal number of 64 bits.
    #[error("the value is no whole number")]
    NotANumber,
    /// The sum does not fit into 64 bits.
    #[error("the number would not fit into 64 bits")]
    Overflow,
    /// The store has failed. Whether the request had an effect is not known. The component does
    /// not see the reason, which can name files and addresses.
    #[error("the store has failed")]
    Failed(String),
}

impl StateError {
    pub(super) fn failed(error: impl ToString) -> Self {
        StateError::Failed(error.to_string())
    }
}
