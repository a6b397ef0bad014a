//! A TUN device in the network namespace of this process.
//!
//! The device has the address [`NEAR`], and [`FAR`] is routed to it. What is sent to `FAR`
//! arrives here as IP packets, and what is written here is received. The wire exchanges the
//! two addresses of each packet and gives it back, so that a server on `NEAR` sees clients
//! from `FAR`, and clients on `NEAR` see the server on `FAR`. Checksums are sums, which the
//! exchange leaves as they are.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::ioctl::{Setter, ioctl};

/// The address of both sides, as they know themselves.
pub(super) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The address of both sides, as they know each other.
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

const NAME: &str = "weather";

/// `struct ifreq` (netdevice(7)): a name of 16 bytes, and as much for the union to be 40.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// `TUNSETIFF`, in linux/if_tun.h.
const TUNSETIFF: u32 = 0x4004_54ca;
/// `IFF_TUN | IFF_NO_PI`: IP packets, with nothing before them.
const FLAGS: u16 = 0x1001;

/// The device.
pub(super) struct Tun(File);

impl Tun {
    /// Makes the device, and configures the namespace.
    pub(super) fn open() -> Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open("/dev/net/tun")?;
        let mut name = [0; 16];
        name[..NAME.len()].copy_from_slice(NAME.as_bytes());
        let request = Request {
            name,
            flags: FLAGS,
            rest: [0; 22],
        };
        // SAFETY: the kernel reads and writes one `ifreq` at the address that `Setter` gives
        // it, which is that of `request`.
        #[allow(unsafe_code, reason = "rustix has no function for this request")]
        unsafe {
            ioctl(&device, Setter::<TUNSETIFF, Request>::new(request)).context("TUNSETIFF")?;
        }
        ip("link set lo up")?;
        ip(&format!("addr add {NEAR}/32 dev {NAME}"))?;
        // Room for the bursts of all clients: what overflows is lost like everything else.
        ip(&format!("link set {NAME} up mtu 1500 txqueuelen 10000"))?;
        // Linux waits at least 200 ms before it sends again, on a wire of 20 ms.
        ip(&format!(
            "route add {FAR}/32 dev {NAME} src {NEAR} rto_min 30ms"
        ))?;
        Ok(Tun(device))
    }

    /// Waits until a packet can be read, but not longer than this.
    pub(super) fn wait(&self, time: Duration) -> Result<()> {
        let time = Timespec::try_from(time)?;
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&time))?;
        Ok(())
    }

    /// Reads a packet, if there is one.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>> {
        let mut packet = vec![0; 2048];
        match (&self.0).read(&mut packet) {
            Ok(length) => {
                packet.truncate(length);
                Ok(Some(packet))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a packet.
    pub(super) fn write(&self, packet: &[u8]) -> Result<()> {
        // The device takes a packet whole or not at all.
        let written = (&self.0).write(packet)?;
        ensure!(
            written == packet.len(),
            "the device took a part of a packet"
        );
        Ok(())
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {error}");
    Ok(())
}
