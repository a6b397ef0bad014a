//! What a device or a watcher says.

use winnow::ascii::{dec_uint, float, space1};
use winnow::combinator::{alt, preceded, separated, separated_pair};
use winnow::token::take_while;
use winnow::{Parser, Result};

/// One message.
#[derive(Clone)]
pub(crate) enum Request<'a> {
    /// `hello NAME TOKEN`
    Hello { name: &'a str, token: &'a str },
    /// `NUMBER NAME=VALUE[,NAME=VALUE…]`; the numbers of a device increase.
    Reading { number: u64, values: &'a str },
    /// `last`
    Last,
    /// `watch`
    Watch,
}

/// Reads a message; `None` if it is none.
pub(crate) fn parse(text: &str) -> Option<Request<'_>> {
    let word = alt(("last".value(Request::Last), "watch".value(Request::Watch)));
    alt((hello, reading, word)).parse(text).ok()
}

fn hello<'a>(input: &mut &'a str) -> Result<Request<'a>> {
    let token = take_while(1..=64, |letter: char| letter.is_ascii_graphic());
    preceded(("hello", space1), separated_pair(name, space1, token))
        .map(|(name, token)| Request::Hello { name, token })
        .parse_next(input)
}

fn reading<'a>(input: &mut &'a str) -> Result<Request<'a>> {
    let value = (name, '=', float::<_, f64, _>);
    let values = separated::<_, _, (), _, _, _, _>(1..=16, value, ',').take();
    separated_pair(dec_uint, space1, values)
        .map(|(number, values)| Request::Reading { number, values })
        .parse_next(input)
}

/// A name, which is also that of a file.
fn name<'a>(input: &mut &'a str) -> Result<&'a str> {
    take_while(1..=32, |letter: char| {
        letter.is_ascii_alphanumeric() || "-_@".contains(letter)
    })
    .parse_next(input)
}
