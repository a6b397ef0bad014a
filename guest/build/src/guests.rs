//! Which components are shipped.

/// A guest, which is built as `guest/dist/NAME.wasm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its name; its crate is `halfopen-NAME`, in `guest/NAME`.
    pub name: &'static str,
    /// Whether it is also composed, as `guest/dist/NAME-standalone.wasm`.
    pub standalone: bool,
}

/// All of them; `broadcast`, `cases`, `hostile`, `raw` and `strain` are for the tests.
pub const GUESTS: [Guest; 14] = [
    part("acceptor"),
    part("adapter"),
    whole("broadcast"),
    whole("cases"),
    whole("digest"),
    whole("echo"),
    whole("hostile"),
    whole("lines"),
    whole("pass"),
    whole("primitives"),
    whole("proxy"),
    whole("raw"),
    whole("strain"),
    whole("whoami"),
];

const fn part(name: &'static str) -> Guest {
    Guest {
        name,
        standalone: false,
    }
}

const fn whole(name: &'static str) -> Guest {
    Guest {
        name,
        standalone: true,
    }
}

impl Guest {
    /// The name of its crate.
    #[must_use]
    pub fn package(&self) -> String {
        format!("halfopen-{}", self.name)
    }
}
