//! The bounded queue of one standard stream.

use std::mem;

/// The most bytes that wait to be printed.
const LIMIT: usize = 256 * 1024;

/// Lines that wait to be printed; lines beyond [`LIMIT`] are dropped and counted.
#[derive(Debug, Default)]
pub(super) struct Queue {
    text: String,
    /// The number of lines dropped since the last `take`.
    lost: usize,
}

impl Queue {
    pub(super) fn push(&mut self, line: &str) {
        if self.text.len() + line.len() > LIMIT {
            self.lost += 1;
        } else {
            self.text.push_str(line);
        }
    }

    /// Returns the waiting lines, and a last one that counts the dropped lines.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut text = mem::take(&mut self.text);
        if self.lost > 0 {
            text += &format!("({} lines lost: output is too slow)\n", self.lost);
            self.lost = 0;
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_do_not_fit_are_counted() {
        let mut queue = Queue::default();
        let line = "x".repeat(LIMIT - 1) + "\n";
        queue.push(&line);
        queue.push("lost\n");
        queue.push("lost too\n");
        let text = String::from_utf8(queue.take()).unwrap();
        assert_eq!(text, line + "(2 lines lost: output is too slow)\n");
        queue.push("again\n");
        assert_eq!(queue.take(), b"again\n");
    }
}
