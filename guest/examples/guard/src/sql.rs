//! The words of SQL, as the scanner of PostgreSQL finds them: outside of strings, of comments and
//! of names in quotes (its manual, section 4.1).

use winnow::combinator::{alt, cut_err, opt, repeat};
use winnow::error::{ContextError, ErrMode};
use winnow::token::{any, one_of, take, take_till, take_until, take_while};
use winnow::{ModalResult, Parser};

use crate::is_one_of;

/// Returns what is refused in a text, if anything.
///
/// Whether `\` escapes in an ordinary string, a setting of the server decides
/// (`standard_conforming_strings`). What is refused either way is refused.
pub(crate) fn refused(text: &[u8], words: &[String]) -> Option<String> {
    // In some encodings of clients, `\` can be the second byte of a character.
    let is_hidden = |pair: &[u8]| pair[0] >= 0x80 && pair[1] == b'\\';
    if text.windows(2).any(is_hidden) {
        return Some("a text that cannot be read".to_owned());
    }
    let with = |escapes| match tokens(text, escapes) {
        None => Some("a text without end".to_owned()),
        Some(tokens) => tokens
            .split(|token| *token == b";")
            .find_map(|statement| refused_statement(statement, words)),
    };
    with(false).or_else(|| with(true))
}

fn refused_statement(statement: &[&[u8]], words: &[String]) -> Option<String> {
    let (first, rest) = statement.split_first()?;
    // Code in a string, which nobody sees.
    let mut next = rest.iter().take(3);
    let is_code = next.any(|word| is_one_of(word, &["FUNCTION", "PROCEDURE"]));
    if is_one_of(first, &["DO"]) || is_one_of(first, &["CREATE"]) && is_code {
        return Some("code".to_owned());
    }
    let (_, word) = statement.iter().enumerate().find(|(at, word)| {
        let harmless = is_one_of(word, &["DELETE"]) && is_qualified(&statement[at + 1..]);
        is_one_of(word, words) && !harmless
    })?;
    Some(String::from_utf8_lossy(word).to_uppercase())
}

/// Whether what follows `DELETE` has a condition, or is no deletion.
fn is_qualified(rest: &[&[u8]]) -> bool {
    if !rest.first().is_some_and(|word| is_one_of(word, &["FROM"])) {
        return true;
    }
    let mut depth = 0_u32;
    for pair in rest.windows(2) {
        match pair[1] {
            b"(" => depth += 1,
            b")" if depth == 0 => return false,
            b")" => depth -= 1,
            // A table may have that name, behind its schema.
            word if depth == 0 && is_one_of(word, &["WHERE"]) => return pair[0] != b".",
            word if depth == 0 && is_one_of(word, &["RETURNING"]) => return false,
            _ => {}
        }
    }
    false
}

/// Finds words, and signs that stand alone; `None` if a string, a comment or a name does not end.
fn tokens(text: &[u8], escapes: bool) -> Option<Vec<&[u8]>> {
    let further = |byte| goes_on(byte) || byte == b'$';
    let token = alt((
        alt((blank.void(), comment, dollar)).value(None),
        (one_of(b"eE"), string(true)).value(None),
        // A string of bits has no escapes.
        (one_of(b"bBxX"), string(false)).value(None),
        string(escapes).value(None),
        quoted(b'"', false).value(None),
        (one_of(begins), take_while(0.., further)).take().map(Some),
        take(1_usize).map(Some),
    ));
    let all: Vec<Option<&[u8]>> = repeat(0.., token).parse(text).ok()?;
    Some(all.into_iter().flatten().collect())
}

/// Whether a word can begin like this.
fn begins(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn goes_on(byte: u8) -> bool {
    begins(byte) || byte.is_ascii_digit()
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Space, or a comment that ends with its line.
fn blank<'s>(text: &mut &'s [u8]) -> ModalResult<&'s [u8]> {
    let space = take_while(1.., |byte| matches!(byte, b' ' | b'\t'..=b'\r'));
    alt((space, (b"--", take_till(0.., is_line_end)).take())).parse_next(text)
}

/// A comment, which may contain others.
fn comment(text: &mut &[u8]) -> ModalResult<()> {
    let mut depth = b"/*".value(1).parse_next(text)?;
    while depth > 0 {
        let change = alt((b"/*".value(1), b"*/".value(-1), any.value(0)));
        depth += cut_err(change).parse_next(text)?;
    }
    Ok(())
}

/// What ends with the quote that it begins with.
fn quoted<'s>(quote: u8, escapes: bool) -> impl Parser<&'s [u8], (), ErrMode<ContextError>> {
    let is_plain = move |byte| byte != quote && !(escapes && byte == b'\\');
    let plain = take_while(1.., is_plain).void();
    let inner = alt((plain, (b'\\', any).void(), (quote, quote).void()));
    (
        quote,
        cut_err((repeat::<_, _, (), _, _>(0.., inner), quote)),
    )
        .void()
}

/// A string, which may go on in a later line.
fn string<'s>(escapes: bool) -> impl Parser<&'s [u8], (), ErrMode<ContextError>> {
    let gap = repeat::<_, _, (), _, _>(1.., blank).take();
    let gap = gap.verify(|gap: &[u8]| gap.iter().copied().any(is_line_end));
    let further = repeat::<_, _, (), _, _>(0.., (gap, quoted(b'\'', escapes)));
    (quoted(b'\'', escapes), further).void()
}

/// A string between dollars.
fn dollar(text: &mut &[u8]) -> ModalResult<()> {
    let tag = opt((one_of(begins), take_while(0.., goes_on)));
    let quote = (b'$', tag, b'$').take().parse_next(text)?;
    cut_err((take_until(0.., quote), quote))
        .void()
        .parse_next(text)
}
