//! Bytes of connections, as text or in hex, with nothing in them that a terminal obeys.

/// The lines of bytes as text, each at most `width` characters wide, and at most `most` lines.
/// What is not plain text is escaped. A line ends after each line feed, which is shown.
pub(crate) fn text(bytes: &[u8], width: usize, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut room = width;
    for piece in pieces(bytes) {
        let length = piece.chars().count();
        let ends = piece == "\\n";
        if length > room {
            if lines.len() == most {
                return lines;
            }
            lines.push(String::new());
            room = width;
        }
        if let Some(last) = lines.last_mut() {
            last.push_str(&piece);
        }
        room = match ends {
            true => 0,
            false => room.saturating_sub(length),
        };
    }
    lines
}

/// Each character or byte, as it is shown.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(shown);
        let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        valid.chain(invalid)
    })
}

fn shown(character: char) -> String {
    match character {
        '"' | '\'' => character.to_string(),
        // Only narrow characters keep the columns straight.
        '\0'..='\x7f' => character.escape_debug().to_string(),
        '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{24f}' => character.to_string(),
        _ => character.escape_unicode().to_string(),
    }
}

/// The lines of bytes in hex: an offset, the bytes, and their characters.
pub(crate) fn hex(bytes: &[u8], width: usize, most: usize) -> Vec<String> {
    // Offset, two spaces, three characters a byte, a space, one character a byte.
    let columns = match width {
        70.. => 16,
        _ => 8,
    };
    let rows = bytes.chunks(columns).take(most).enumerate();
    rows.map(|(row, bytes)| {
        let mut line = format!("{:04x}  ", row * columns);
        for index in 0..columns {
            match bytes.get(index) {
                Some(byte) => line.push_str(&format!("{byte:02x} ")),
                None => line.push_str("   "),
            }
        }
        line.push(' ');
        let printable = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        line.extend(bytes.iter().map(printable));
        line
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_moves_the_cursor_or_hides() {
        let all: Vec<u8> = (0..=255).collect();
        let hostile = ["\u{1b}[2J\u{9b}31m\u{202e}\u{200b}数".as_bytes(), &all].concat();
        let lines = text(&hostile, 40, 100);
        for line in &lines {
            assert!(line.chars().count() <= 40, "{line}");
            let plain = |shown: char| shown.is_ascii_graphic() || shown == ' ';
            assert!(line.chars().all(plain), "{line:?}");
        }
        let joined = lines.concat();
        for part in [
            "\\u{1b}[2J",
            "\\u{9b}31m",
            "\\u{202e}",
            "\\u{6570}",
            "\\xff",
        ] {
            assert!(joined.contains(part), "{part}: {joined}");
        }
    }

    #[test]
    fn a_text_ends_its_lines_where_the_bytes_do() {
        assert_eq!(text(b"one\r\ntwo\n", 20, 9), ["one\\r\\n", "two\\n"]);
        assert_eq!(text(b"abcdef", 4, 9), ["abcd", "ef"]);
        assert_eq!(text(b"abcdef", 4, 1), ["abcd"]);
        assert_eq!(text("naïve".as_bytes(), 20, 9), ["naïve"]);
    }

    #[test]
    fn hex_has_offsets_and_characters() {
        assert_eq!(
            hex(b"GET / HTTP\x1b", 60, 9),
            [
                "0000  47 45 54 20 2f 20 48 54  GET / HT",
                "0008  54 50 1b                 TP.",
            ]
        );
        assert_eq!(hex(&[0; 64], 80, 2).len(), 2);
    }
}
