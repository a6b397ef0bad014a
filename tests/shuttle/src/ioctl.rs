//! What rustix has in its module `ioctl`.

use std::io::Result;
use std::marker::PhantomData;

use crate::net::TcpStream;

/// A request that returns a value.
#[derive(Debug)]
pub struct Getter<const OPCODE: u32, Output>(PhantomData<Output>);

#[allow(unsafe_code, reason = "the function of rustix is unsafe")]
impl<const OPCODE: u32, Output> Getter<OPCODE, Output> {
    /// Makes a request.
    ///
    /// # Safety
    ///
    /// Nothing is required here.
    #[must_use]
    pub unsafe fn new() -> Self {
        Getter(PhantomData)
    }
}

/// Returns how many bytes the peer's kernel has not acknowledged: none.
///
/// # Safety
///
/// Nothing is required here.
///
/// # Errors
///
/// None.
#[allow(unsafe_code, reason = "the function of rustix is unsafe")]
pub unsafe fn ioctl<const OPCODE: u32>(_: &TcpStream, _: Getter<OPCODE, i32>) -> Result<i32> {
    Ok(0)
}
