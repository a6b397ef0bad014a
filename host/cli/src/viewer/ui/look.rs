//! How things look: characters that the terminal has, and colours if they are wanted.

use ratatui_core::style::{Color, Modifier, Style};

/// The characters of the drawing.
#[derive(Debug)]
pub(crate) struct Glyphs {
    /// The lane of a side that may still send, and of one that has finished.
    pub(crate) lane: char,
    pub(crate) finished: char,
    /// The lane of a side that lets the other wait.
    pub(crate) held: char,
    pub(crate) line: char,
    pub(crate) to_service: char,
    pub(crate) to_peer: char,
    pub(crate) cross: char,
    /// The ways of a connection in the list: open, ended, waiting.
    pub(crate) incoming: [&'static str; 3],
    pub(crate) outgoing: [&'static str; 3],
    pub(crate) more: &'static str,
    pub(crate) between: &'static str,
}

const UNICODE: Glyphs = Glyphs {
    lane: '│',
    finished: '┊',
    held: '█',
    line: '─',
    to_service: '►',
    to_peer: '◄',
    cross: '✕',
    incoming: ["→", "┤", "‖"],
    outgoing: ["←", "├", "‖"],
    more: "…",
    between: "·",
};

const ASCII: Glyphs = Glyphs {
    lane: '|',
    finished: ':',
    held: '#',
    line: '-',
    to_service: '>',
    to_peer: '<',
    cross: 'X',
    incoming: [">", "|", "="],
    outgoing: ["<", "|", "="],
    more: "...",
    between: "-",
};

/// What something is, which decides its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Title,
    Heading,
    Chosen,
    Peer,
    Service,
    Bad,
    Warning,
    Dim,
    Plain,
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    colours: bool,
    pub(crate) glyphs: &'static Glyphs,
}

impl Look {
    pub(crate) fn new(colours: bool, unicode: bool) -> Self {
        Look {
            colours,
            glyphs: match unicode {
                true => &UNICODE,
                false => &ASCII,
            },
        }
    }

    /// What the environment says: NO_COLOR, and the character set of the locale.
    pub(crate) fn from_env() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let unicode = locale.is_some_and(|locale| {
            let locale = locale.to_string_lossy().to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Look::new(set("NO_COLOR").is_none(), unicode)
    }

    pub(crate) fn style(self, role: Role) -> Style {
        let style = Style::new();
        let coloured = |colour: Color| match self.colours {
            true => style.fg(colour),
            false => style,
        };
        match role {
            Role::Title => style.add_modifier(Modifier::BOLD | Modifier::REVERSED),
            Role::Heading => style.add_modifier(Modifier::BOLD),
            Role::Chosen => style.add_modifier(Modifier::REVERSED),
            Role::Peer => coloured(Color::Cyan),
            Role::Service => coloured(Color::Green),
            Role::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
            Role::Warning => coloured(Color::Yellow).add_modifier(Modifier::BOLD),
            Role::Dim => style.add_modifier(Modifier::DIM),
            Role::Plain => style,
        }
    }
}
