//! The words of SQL, as the scanner of PostgreSQL finds them: outside of strings, of comments and
//! of names in quotes (its manual, section 4.1).

use winnow::combinator::{alt, cut_err, opt, repeat, separated};
use winnow::error::ContextError;
use winnow::token::{any, one_of, take, take_till, take_until, take_while};
use winnow::{ModalParser, ModalResult, Parser};

/// Returns what is refused in a text, if anything, as an error.
///
/// Whether `\` escapes in an ordinary string, a setting of the server decides
/// (`standard_conforming_strings`). What is refused either way is refused.
pub(crate) fn check(text: &[u8], words: &[String]) -> Result<(), String> {
    // In some encodings of clients, `\` can be the second byte of a character.
    let mut pairs = text.windows(2);
    if pairs.any(|pair| pair[0] >= 0x80 && pair[1] == b'\\') {
        return Err("a text that cannot be read".to_owned());
    }
    for escapes in [false, true] {
        let tokens = tokens(text, escapes).ok_or("a text without end")?;
        let mut statements = tokens.split(|token| *token == b";");
        statements.try_for_each(|statement| check_statement(statement, words))?;
    }
    Ok(())
}

fn check_statement(statement: &[&[u8]], words: &[String]) -> Result<(), String> {
    let is = |at: usize, all: &[&str]| statement.get(at).is_some_and(|word| is_one_of(word, all));
    // Code in a string, which nobody sees.
    let is_routine = |at| is(at, &["FUNCTION", "PROCEDURE"]);
    if is(0, &["DO"]) || is(0, &["CREATE"]) && (1..4).any(is_routine) {
        return Err("code".to_owned());
    }
    for (at, word) in statement.iter().enumerate() {
        // `DELETE` alone is a right, or what a trigger waits for.
        let is_harmless = || !is(at + 1, &["FROM"]) || has_condition(&statement[at + 1..]);
        if is_one_of(word, words) && !(is(at, &["DELETE"]) && is_harmless()) {
            return Err(String::from_utf8_lossy(word).to_uppercase());
        }
    }
    Ok(())
}

/// Whether a deletion, from its `FROM` on, has a condition.
fn has_condition(deletion: &[&[u8]]) -> bool {
    let mut depth = 0_u32;
    for pair in deletion.windows(2) {
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

/// Whether a word is one of these, in capitals or not.
fn is_one_of(word: &[u8], names: &[impl AsRef<[u8]>]) -> bool {
    let mut names = names.iter();
    names.any(|name| word.eq_ignore_ascii_case(name.as_ref()))
}

/// Finds words, and signs that stand alone; `None` if a string, a comment or a name does not end.
fn tokens(text: &[u8], escapes: bool) -> Option<Vec<&[u8]>> {
    let escaped = (one_of(b"eE"), string(true)).void();
    // A string of bits has no escapes.
    let bits = (one_of(b"bBxX"), string(false)).void();
    let string = alt((string(escapes), escaped, bits));
    let hidden = alt((blank, comment, dollar, quoted(b'"', false), string));
    let word = (one_of(begins), take_while(0.., (begins, b'0'..=b'9', b'$')));
    let shown = alt((word.take(), take(1_usize)));
    let token = alt((hidden.value(None), shown.map(Some)));
    let all: Vec<Option<&[u8]>> = repeat(0.., token).parse(text).ok()?;
    Some(all.into_iter().flatten().collect())
}

/// Whether a word can begin like this.
fn begins(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Space, or a comment that ends with its line.
fn blank(text: &mut &[u8]) -> ModalResult<()> {
    let space = take_while(1.., (b' ', b'\t'..=b'\r')).void();
    alt((space, (b"--", take_till(0.., b"\r\n")).void())).parse_next(text)
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
fn quoted<'s>(quote: u8, escapes: bool) -> impl ModalParser<&'s [u8], (), ContextError> {
    let plain = take_till(1.., move |byte| byte == quote || escapes && byte == b'\\').void();
    let inner = alt((plain, (b'\\', any).void(), (quote, quote).void()));
    let inner = repeat::<_, _, (), _, _>(0.., inner);
    (quote, inner, cut_err(quote)).void()
}

/// A string, which may go on in a later line.
fn string<'s>(escapes: bool) -> impl ModalParser<&'s [u8], (), ContextError> {
    let gap = repeat::<_, _, (), _, _>(1.., blank).take();
    let gap = gap.verify(|gap: &[u8]| gap.iter().any(|byte| b"\r\n".contains(byte)));
    separated::<_, _, (), _, _, _, _>(1.., quoted(b'\'', escapes), gap)
}

/// A string between dollars.
fn dollar(text: &mut &[u8]) -> ModalResult<()> {
    let tag = opt((one_of(begins), take_while(0.., (begins, b'0'..=b'9'))));
    let quote = (b'$', tag, b'$').take().parse_next(text)?;
    let rest = (take_until(0.., quote), quote).void();
    cut_err(rest).parse_next(text)
}
