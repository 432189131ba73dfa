//! Which keys does a terminal send?
//!
//! A terminal in raw mode sends characters in UTF-8, control characters, and sequences that begin with ESC.
//! An ESC that ends what was read at once is the key; sequences come in one piece.

/// A key, or what counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Return.
    Enter,
    /// Backspace.
    Backspace,
    /// Escape.
    Escape,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// Ctrl-C or Ctrl-D.
    Interrupt,
}

/// Makes keys of bytes. What is cut off in the middle of a character waits for the rest.
#[derive(Debug, Default)]
pub struct Parser(Vec<u8>);

impl Parser {
    /// The keys in what was read.
    pub fn feed(&mut self, read: &[u8]) -> Vec<Key> {
        self.0.extend_from_slice(read);
        let bytes = std::mem::take(&mut self.0);
        let mut keys = Vec::new();
        let mut rest = &bytes[..];
        while let Some((&first, behind)) = rest.split_first() {
            rest = match (first, behind.first()) {
                (0x1b, Some(b'[' | b'O')) => {
                    let (key, behind) = sequence(&behind[1..]);
                    keys.extend(key);
                    behind
                }
                (0x1b, _) => {
                    keys.push(Key::Escape);
                    behind
                }
                (b'\r' | b'\n', _) => {
                    keys.push(Key::Enter);
                    behind
                }
                (0x7f | 0x08, _) => {
                    keys.push(Key::Backspace);
                    behind
                }
                (0x03 | 0x04, _) => {
                    keys.push(Key::Interrupt);
                    behind
                }
                (0x00..=0x1f, _) => behind,
                _ => match character(rest) {
                    Ok((c, length)) => {
                        keys.push(Key::Char(c));
                        &rest[length..]
                    }
                    Err(Broken::CutOff) => {
                        self.0 = rest.to_vec();
                        return keys;
                    }
                    Err(Broken::None) => behind,
                },
            };
        }
        keys
    }
}

/// What comes behind `ESC [`: parameters, and one letter or `~`.
fn sequence(bytes: &[u8]) -> (Option<Key>, &[u8]) {
    let Some(end) = bytes.iter().position(|byte| (0x40..=0x7e).contains(byte)) else { return (None, &[]) };
    let key = match (&bytes[..end], bytes[end]) {
        (b"", b'A') => Some(Key::Up),
        (b"", b'B') => Some(Key::Down),
        (b"5", b'~') => Some(Key::PageUp),
        (b"6", b'~') => Some(Key::PageDown),
        _ => None,
    };
    (key, &bytes[end + 1..])
}

/// Why there is no character.
enum Broken {
    /// The rest is still to come.
    CutOff,
    /// It is no UTF-8.
    None,
}

fn character(bytes: &[u8]) -> Result<(char, usize), Broken> {
    let longest = &bytes[..bytes.len().min(4)];
    let valid = match str::from_utf8(longest) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            str::from_utf8(&longest[..error.valid_up_to()]).unwrap_or("")
        }
        Err(error) if error.error_len().is_none() => return Err(Broken::CutOff),
        Err(_) => return Err(Broken::None),
    };
    valid.chars().next().map(|c| (c, c.len_utf8())).ok_or(Broken::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(read: &[&[u8]], expected: &[Key]) {
        let mut parser = Parser::default();
        let keys: Vec<Key> = read.iter().flat_map(|read| parser.feed(read)).collect();
        assert_eq!(keys, expected, "{read:?}");
    }

    #[test]
    fn bytes_become_keys() {
        use Key::{Backspace, Char, Down, Enter, Escape, Interrupt, PageDown, PageUp, Up};
        check(&[b"q/"], &[Char('q'), Char('/')]);
        check(&[b"\x1b"], &[Escape]);
        check(&[b"\x1b[A\x1b[B\x1bOA\x1b[5~\x1b[6~x"], &[Up, Down, Up, PageUp, PageDown, Char('x')]);
        check(&[b"\x1b[1;5C\x1b[200~q"], &[Char('q')]);
        check(&[b"\r\x7f\x03\x04\x1a"], &[Enter, Backspace, Interrupt, Interrupt]);
        check(&["广州".as_bytes()], &[Char('广'), Char('州')]);
    }

    #[test]
    fn a_character_in_two_pieces_is_one_and_garbage_is_none() {
        check(&[&"广".as_bytes()[..2], &"广".as_bytes()[2..]], &[Key::Char('广')]);
        check(&[b"\xff\xfea"], &[Key::Char('a')]);
        check(&[b"\x1b["], &[]);
    }
}
