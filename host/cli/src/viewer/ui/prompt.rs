//! Questions in the last line: a filter, or whether to reset or ban.

use std::net::IpAddr;
use std::time::Duration;

use ratatui_termion::termion::event::Key;

use crate::viewer::filter::Filter;
use crate::viewer::server::Order;

/// The longest answer.
const LONGEST: usize = 200;
/// The longest ban: a year.
const LONGEST_BAN: u64 = 366 * 24 * 3600;

/// A question that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    asks: Asks,
    text: String,
    mistake: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Asks {
    Filter,
    Reset(u64),
    Ban(IpAddr),
}

/// What an answer leads to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The question stays.
    Waiting,
    Cancelled,
    Filter(Filter),
    Order(Order),
}

impl Prompt {
    pub(crate) fn filter(text: &str) -> Self {
        Prompt::new(Asks::Filter, text)
    }

    pub(crate) fn reset(id: u64) -> Self {
        Prompt::new(Asks::Reset(id), "")
    }

    pub(crate) fn ban(peer: IpAddr) -> Self {
        Prompt::new(Asks::Ban(peer), "10m")
    }

    fn new(asks: Asks, text: &str) -> Self {
        Prompt {
            asks,
            text: text.to_owned(),
            mistake: None,
        }
    }

    /// The question, and the answer so far.
    pub(crate) fn shown(&self) -> (String, &str) {
        let question = match self.asks {
            Asks::Filter => "Show only: ".to_owned(),
            Asks::Reset(id) => format!("Reset connection {id}? y/n "),
            Asks::Ban(peer) => format!("Ban {peer} for how long (30s, 10m, 2h, 1d)? "),
        };
        (question, &self.text)
    }

    /// What is wrong with the answer that was given.
    pub(crate) fn mistake(&self) -> Option<&str> {
        self.mistake.as_deref()
    }

    pub(crate) fn key(&mut self, key: Key) -> Answer {
        self.mistake = None;
        match (self.asks, key) {
            (_, Key::Esc | Key::Ctrl('c' | 'g')) => return Answer::Cancelled,
            (Asks::Reset(id), Key::Char('y' | 'Y')) => return Answer::Order(Order::Reset(id)),
            (Asks::Reset(_), Key::Char('n' | 'N')) => return Answer::Cancelled,
            (Asks::Reset(_), _) => {}
            (_, Key::Char('\n')) => return self.entered(),
            (_, Key::Backspace | Key::Ctrl('h')) => {
                self.text.pop();
            }
            (_, Key::Ctrl('u')) => self.text.clear(),
            (_, Key::Ctrl('w')) => {
                let kept = self.text.trim_end().rfind(' ').map_or(0, |space| space + 1);
                self.text.truncate(kept);
            }
            (_, Key::Char(character)) if !character.is_control() && self.text.len() < LONGEST => {
                self.text.push(character);
            }
            _ => {}
        }
        Answer::Waiting
    }

    fn entered(&mut self) -> Answer {
        let answer = match self.asks {
            Asks::Filter => Filter::parse(&self.text).map(Answer::Filter),
            Asks::Ban(peer) => {
                ban_time(&self.text).map(|time| Answer::Order(Order::Ban(peer, time)))
            }
            Asks::Reset(_) => Ok(Answer::Waiting),
        };
        answer.unwrap_or_else(|mistake| {
            self.mistake = Some(mistake);
            Answer::Waiting
        })
    }
}

/// A time with its unit; without one, seconds.
fn ban_time(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (number, unit) = match text.char_indices().next_back() {
        Some((index, 's')) => (&text[..index], 1),
        Some((index, 'm')) => (&text[..index], 60),
        Some((index, 'h')) => (&text[..index], 3600),
        Some((index, 'd')) => (&text[..index], 86_400),
        _ => (text, 1),
    };
    let seconds = number
        .parse()
        .ok()
        .and_then(|count: u64| count.checked_mul(unit));
    match seconds {
        Some(seconds @ 1..=LONGEST_BAN) => Ok(Duration::from_secs(seconds)),
        Some(0) => Err("a ban is at least a second long".to_owned()),
        Some(_) => Err("a ban is at most 366 days long".to_owned()),
        None => Err(format!("`{text}` is no time; write 30s, 10m, 2h or 1d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(prompt: &mut Prompt, text: &str) {
        for character in text.chars() {
            assert!(matches!(prompt.key(Key::Char(character)), Answer::Waiting));
        }
    }

    #[test]
    fn a_filter_is_edited_and_a_mistake_keeps_the_question() {
        let mut prompt = Prompt::filter("state:open");
        typed(&mut prompt, " service:");
        let answer = prompt.key(Key::Char('\n'));
        assert!(matches!(answer, Answer::Waiting));
        assert!(prompt.mistake().unwrap().contains("needs a value"));
        prompt.key(Key::Ctrl('w'));
        prompt.key(Key::Backspace);
        assert_eq!((prompt.shown().1, prompt.mistake()), ("state:open", None));
        match prompt.key(Key::Char('\n')) {
            Answer::Filter(filter) => assert_eq!(filter.text(), "state:open"),
            other => panic!("{other:?}"),
        }
        prompt.key(Key::Ctrl('u'));
        assert_eq!(prompt.shown().1, "");
    }

    #[test]
    fn a_ban_takes_a_time_with_a_unit() {
        for (text, seconds) in [
            ("90", 90),
            ("30s", 30),
            ("10m", 600),
            ("2h", 7200),
            ("1d", 86_400),
        ] {
            assert_eq!(ban_time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "m",
            "0",
            "soon",
            "-1",
            "999999999999999999d",
            "400d",
            "1µ",
        ] {
            assert!(ban_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_yes_resets() {
        let mut prompt = Prompt::reset(7);
        for key in [Key::Char('\n'), Key::Char('x')] {
            let answer = prompt.key(key);
            assert!(matches!(answer, Answer::Waiting));
        }
        let answer = prompt.key(Key::Char('y'));
        assert!(matches!(answer, Answer::Order(Order::Reset(7))));
        let answer = prompt.key(Key::Char('n'));
        assert!(matches!(answer, Answer::Cancelled));
    }
}
