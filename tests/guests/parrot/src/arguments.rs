//! Command-line arguments.

#[derive(Clone, Copy, Default)]
pub(crate) struct Arguments {
    /// Keep the sending direction open after the peer's FIN.
    pub(crate) allow_half_open: bool,
    /// Print nothing.
    pub(crate) quiet: bool,
}

impl Arguments {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Arguments::default();
        for argument in arguments {
            match argument.as_str() {
                "--allow-half-open" => parsed.allow_half_open = true,
                "--quiet" => parsed.quiet = true,
                other => {
                    return Err(format!(
                        "unknown argument `{other}`; it has `--allow-half-open` and `--quiet`"
                    ));
                }
            }
        }
        Ok(parsed)
    }
}
