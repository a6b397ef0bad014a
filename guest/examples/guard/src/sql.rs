//! The words of SQL, as the scanner of PostgreSQL finds them: outside of strings, of comments and
//! of names in quotes (its manual, section 4.1).

use crate::options::Options;

/// A word, or a sign that stands alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'s> {
    Word(&'s [u8]),
    Sign(u8),
}

impl Token<'_> {
    fn is(self, word: &str) -> bool {
        matches!(self, Token::Word(own) if own.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// Returns what is refused in a text, if anything.
///
/// Whether `\` escapes in an ordinary string, a setting of the server decides
/// (`standard_conforming_strings`). What is refused either way is refused.
pub(crate) fn refused(text: &[u8], options: &Options) -> Option<String> {
    // In some encodings of clients, `\` can be the second byte of a character.
    if text
        .windows(2)
        .any(|pair| pair[0] >= 0x80 && pair[1] == b'\\')
    {
        return Some("a text that cannot be read".to_owned());
    }
    [false, true]
        .into_iter()
        .find_map(|escapes| match tokens(text, escapes) {
            None => Some("a text without end".to_owned()),
            Some(tokens) => tokens
                .split(|token| *token == Token::Sign(b';'))
                .find_map(|statement| refused_statement(statement, options)),
        })
}

fn refused_statement(statement: &[Token<'_>], options: &Options) -> Option<String> {
    // Code in a string, which nobody sees.
    let is = |at: usize, words: &[&str]| {
        let token = statement.get(at);
        token.is_some_and(|token| words.iter().any(|word| token.is(word)))
    };
    let code = (1..4).any(|at| is(at, &["FUNCTION", "PROCEDURE"]));
    if is(0, &["DO"]) || is(0, &["CREATE"]) && code {
        return Some("code".to_owned());
    }
    statement.iter().enumerate().find_map(|(at, token)| {
        let Token::Word(word) = *token else {
            return None;
        };
        let whole = token.is("DELETE") && is_qualified(&statement[at + 1..]);
        (options.refuses(word) && !whole).then(|| String::from_utf8_lossy(word).to_uppercase())
    })
}

/// Whether what follows `DELETE` has a condition, or is no deletion.
fn is_qualified(rest: &[Token<'_>]) -> bool {
    if !rest.first().is_some_and(|token| token.is("FROM")) {
        return true;
    }
    let mut depth = 0_u32;
    let mut before = Token::Sign(b' ');
    for &token in rest {
        match token {
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b')') if depth == 0 => return false,
            Token::Sign(b')') => depth -= 1,
            // A table may have that name, behind its schema.
            _ if depth == 0 && token.is("WHERE") => return before != Token::Sign(b'.'),
            _ if depth == 0 && token.is("RETURNING") => return false,
            _ => {}
        }
        before = token;
    }
    false
}

/// Finds the tokens; `None` if a string, a comment or a name does not end.
fn tokens(text: &[u8], escapes: bool) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = text.get(at) {
        let rest = &text[at..];
        at += match first {
            b'-' if rest.starts_with(b"--") => line(rest),
            b'/' if rest.starts_with(b"/*") => comment(rest)?,
            b'\'' => string(rest, escapes)?,
            b'"' => quoted(rest, false)?,
            b'$' => dollar(rest)?,
            _ if begins(first) => {
                let goes_on = |byte: &u8| begins(*byte) || byte.is_ascii_digit() || *byte == b'$';
                let length = rest.iter().take_while(|byte| goes_on(byte)).count();
                match &rest[..length] {
                    b"E" | b"e" if rest.get(1) == Some(&b'\'') => 1 + string(&rest[1..], true)?,
                    word => {
                        tokens.push(Token::Word(word));
                        length
                    }
                }
            }
            _ => {
                if !first.is_ascii_whitespace() {
                    tokens.push(Token::Sign(first));
                }
                1
            }
        };
    }
    Some(tokens)
}

/// Whether a word can begin like this.
fn begins(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// The length of what ends with its line.
fn line(text: &[u8]) -> usize {
    text.iter()
        .take_while(|byte| !matches!(byte, b'\n' | b'\r'))
        .count()
}

/// The length of a comment, which may contain others.
fn comment(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_u32, 0);
    loop {
        match text.get(at..at + 2)? {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
}

/// The length of what ends with the quote that it begins with.
fn quoted(text: &[u8], escapes: bool) -> Option<usize> {
    let quote = *text.first()?;
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'\\' if escapes => at += 2,
            byte if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// The length of a string, which may go on in a later line.
fn string(text: &[u8], escapes: bool) -> Option<usize> {
    let mut end = quoted(text, escapes)?;
    loop {
        let mut at = end;
        let mut lines = false;
        while let Some(&byte) = text.get(at) {
            match byte {
                b'\n' | b'\r' => (lines, at) = (true, at + 1),
                b'-' if text[at..].starts_with(b"--") => at += line(&text[at..]),
                _ if byte.is_ascii_whitespace() => at += 1,
                _ => break,
            }
        }
        if !lines || text.get(at) != Some(&b'\'') {
            return Some(end);
        }
        end = at + quoted(&text[at..], escapes)?;
    }
}

/// The length of a string between dollars, or of a dollar that begins none.
fn dollar(text: &[u8]) -> Option<usize> {
    let tag = text[1..]
        .iter()
        .take_while(|byte| begins(**byte) || byte.is_ascii_digit())
        .count();
    let begins = tag == 0 || begins(text[1]);
    if !begins || text.get(tag + 1) != Some(&b'$') {
        return Some(1);
    }
    let (quote, rest) = text.split_at(tag + 2);
    let end = rest.windows(quote.len()).position(|end| end == quote)?;
    Some(2 * quote.len() + end)
}
