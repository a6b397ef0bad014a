//! The flags for recordings.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use crate::args::values::{Misfit, positive};

/// The size of a recording in MiB, unless a flag says otherwise.
const SIZE: u32 = 64;
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// What is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Observing")]
pub(crate) struct RecordArgs {
    /// Records what happens to connections, in a file for Wireshark
    ///
    /// The file has the format pcapng. Packets stand for what happened: addresses, lengths, FIN
    /// and RST as they went; comments say what TCP does not, such as why a connection has
    /// ended. `halfopen watch FILE` shows it again. An earlier file of that name becomes FILE.1.
    /// [default: none]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) record: Option<PathBuf>,
    /// Records the bytes of connections as well; under TLS, the content of the session
    #[arg(long, hide_short_help = true)]
    pub(crate) record_payload: bool,
    /// Limits the recording, in MiB [default: 64]
    ///
    /// Once FILE has half of that, it becomes FILE.1, in place of an earlier one.
    #[arg(
        long,
        value_name = "MIB",
        value_parser = positive::<NonZeroU32>,
        hide_short_help = true
    )]
    pub(crate) record_size: Option<NonZeroU32>,
}

impl RecordArgs {
    /// Checks that the flags fit together.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        let alone = [
            ("record-payload", self.record_payload),
            ("record-size", self.record_size.is_some()),
        ];
        let alone = alone.into_iter().find(|(_, is_given)| *is_given);
        match (alone, &self.record) {
            (Some((key, _)), None) => Err(Misfit::new(
                key,
                format!("`--{key}` is about a recording: add `--record FILE`"),
            )),
            _ => Ok(()),
        }
    }

    /// The size of one of the two files, in bytes.
    pub(crate) fn file_size(&self) -> u64 {
        file_size(self.record_size)
    }

    /// Takes over what `flags` set.
    pub(crate) fn override_with(&mut self, flags: &RecordArgs) {
        if flags.record.is_some() {
            self.record.clone_from(&flags.record);
        }
        self.record_payload |= flags.record_payload;
        self.record_size = flags.record_size.or(self.record_size);
    }
}

/// The size of one of the two files of a recording, in bytes, by the size of both in MiB.
pub(crate) fn file_size(both: Option<NonZeroU32>) -> u64 {
    u64::from(both.map_or(SIZE, NonZeroU32::get)) * MIB / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_about_a_recording_need_one() {
        let mut args = RecordArgs::default();
        assert_eq!(args.check(), Ok(()));
        assert_eq!(args.file_size(), 32 << 20);
        args.record_size = NonZeroU32::new(3);
        assert_eq!(args.check().unwrap_err().key, "record-size");
        assert_eq!(args.file_size(), 3 << 19);
        args.record_payload = true;
        assert_eq!(args.check().unwrap_err().key, "record-payload");
        args.record = Some(PathBuf::from("f"));
        assert_eq!(args.check(), Ok(()));
    }
}
