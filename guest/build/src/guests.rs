//! The table of guests.

use std::fmt;

/// A guest: a crate that is compiled for WebAssembly and made a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The name of its component, without `.wasm`.
    pub name: &'static str,
    /// What the component is for.
    pub role: Role,
    /// Whether a standalone component is composed of it.
    pub composes: bool,
}

/// What a guest is for, which decides where its crate lies and where its component goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A piece that standalone components are composed of.
    Part,
    /// An example, which ships.
    Example,
    /// A guest of the tests, which never ships.
    Test,
}

/// The components that lie together in one folder and have one manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// The parts and the examples, which ship.
    Shipped,
    /// The guests of the tests.
    Tests,
}

/// All guests.
pub const GUESTS: [Guest; 48] = [
    part("acceptor"),
    part("adapter"),
    part("driver"),
    part("resolver"),
    part("state"),
    example("chat"),
    example("digest"),
    example("echo"),
    example("finger"),
    granted("gateway"),
    granted("guard"),
    granted("kv"),
    example("lines"),
    example("monitor"),
    example("pass"),
    example("primitives"),
    example("proxy"),
    example("store"),
    example("whoami"),
    uncomposed("alarm"),
    test("asker"),
    test("bare"),
    test("broadcast"),
    test("cases"),
    test("counter"),
    test("crier"),
    test("erratic"),
    uncomposed("fitful"),
    test("greedy"),
    test("herald"),
    test("hostile"),
    test("inquirer"),
    test("keeper"),
    uncomposed("ledger"),
    uncomposed("lift"),
    uncomposed("mirror"),
    uncomposed("orders"),
    test("parrot"),
    uncomposed("passbook"),
    uncomposed("pinger"),
    test("raw"),
    uncomposed("relay"),
    uncomposed("rogue"),
    test("solo"),
    test("strain"),
    test("tap"),
    uncomposed("upgrade"),
    test("wheel"),
];

const fn part(name: &'static str) -> Guest {
    Guest {
        name,
        role: Role::Part,
        composes: false,
    }
}

const fn example(name: &'static str) -> Guest {
    Guest {
        name,
        role: Role::Example,
        composes: true,
    }
}

/// An example that needs what hosts of WASI need not have, and so has no standalone component.
const fn granted(name: &'static str) -> Guest {
    Guest {
        composes: false,
        ..example(name)
    }
}

const fn test(name: &'static str) -> Guest {
    Guest {
        name,
        role: Role::Test,
        composes: true,
    }
}

/// A guest of the tests that has no standalone component.
const fn uncomposed(name: &'static str) -> Guest {
    Guest {
        composes: false,
        ..test(name)
    }
}

impl Guest {
    /// The name of its crate.
    #[must_use]
    pub fn package(&self) -> String {
        format!("halfopen-{}", self.name)
    }

    /// The folder of its crate, from the top folder of the project.
    #[must_use]
    pub fn folder(&self) -> String {
        let parent = match self.role {
            Role::Part => "guest/parts",
            Role::Example => "guest/examples",
            Role::Test => "tests/guests",
        };
        format!("{parent}/{}", self.name)
    }

    /// The set that its components belong to.
    #[must_use]
    pub fn set(&self) -> Set {
        match self.role {
            Role::Part | Role::Example => Set::Shipped,
            Role::Test => Set::Tests,
        }
    }

    /// The file name of its component.
    #[must_use]
    pub fn component(&self) -> String {
        format!("{}.wasm", self.name)
    }

    /// The file name of its composition with the parts, if there is one.
    #[must_use]
    pub fn standalone(&self) -> Option<String> {
        self.composes
            .then(|| format!("{}-standalone.wasm", self.name))
    }
}

impl Set {
    /// Both sets.
    pub const ALL: [Set; 2] = [Set::Shipped, Set::Tests];

    /// The folder of its components, from the top folder of the project.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Set::Shipped => "guest/dist",
            Set::Tests => "tests/guests/dist",
        }
    }

    /// The guests that its components are made from: its own, and the parts that these
    /// are composed with.
    pub fn sources(self) -> impl Iterator<Item = &'static Guest> {
        GUESTS
            .iter()
            .filter(move |guest| guest.set() == self || guest.role == Role::Part)
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}
