//! Where does a gRPC message end, and which region stands in its field 1?
//!
//! Looks at the five-byte prefixes and, for routing, at top-level protobuf tags up to field 1. Nothing
//! else is decoded.

use suiyue_proto::reason::Reason;

/// Bytes of the prefix of a message: a flag and a length.
pub const PREFIX: usize = 5;

/// Length of the first message in `bytes`, prefix included; `None`: the prefix is not complete.
#[must_use]
pub fn framed_len(bytes: &[u8]) -> Option<usize> {
    let prefix: &[u8; PREFIX] = bytes.first_chunk()?;
    Some(PREFIX + u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize)
}

/// What a look at the beginning of a first message tells about its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Field 1 is a number: the region.
    Region(u32),
    /// Field 1 is absent or no number.
    None,
    /// More bytes are needed.
    More,
}

/// Looks for field 1 (`uint32 region`) in the framed message that `bytes` begins with. A region that
/// stands twice counts as its last occurrence in protobuf; the first is taken here, and a node that
/// reads another answers `REGION_MISMATCH`.
///
/// # Errors
/// [`Reason::CompressedNeedsRegion`], or [`Reason::MessageMalformed`] when the bytes are no protobuf.
pub fn peek(bytes: &[u8]) -> Result<Peek, Reason> {
    let Some(len) = framed_len(bytes) else { return Ok(Peek::More) };
    if bytes[0] != 0 {
        return Err(Reason::CompressedNeedsRegion);
    }
    let complete = bytes.len() >= len;
    let mut rest = &bytes[PREFIX..bytes.len().min(len)];
    let missing = |complete: bool| if complete { Err(Reason::MessageMalformed) } else { Ok(Peek::More) };
    loop {
        if rest.is_empty() {
            return Ok(if complete { Peek::None } else { Peek::More });
        }
        let Some(tag) = varint(&mut rest)? else { return missing(complete) };
        let (field, wire) = (tag >> 3, tag & 7);
        let skip = match wire {
            0 => {
                let Some(value) = varint(&mut rest)? else { return missing(complete) };
                if field == 1 {
                    return Ok(u32::try_from(value)
                        .map_or(Peek::None, |n| if n == 0 { Peek::None } else { Peek::Region(n) }));
                }
                0
            }
            1 => 8,
            2 => match varint(&mut rest)? {
                Some(len) => usize::try_from(len).map_err(|_| Reason::MessageMalformed)?,
                None => return missing(complete),
            },
            5 => 4,
            _ => return Err(Reason::MessageMalformed),
        };
        if field == 0 {
            return Err(Reason::MessageMalformed);
        }
        if field == 1 {
            return Ok(Peek::None);
        }
        if rest.len() < skip {
            return missing(complete);
        }
        rest = &rest[skip..];
    }
}

/// Takes a varint; `None`: it is not complete.
fn varint(rest: &mut &[u8]) -> Result<Option<u64>, Reason> {
    let mut value = 0u64;
    for (i, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *rest = &rest[i + 1..];
            return Ok(Some(value));
        }
    }
    if rest.len() >= 10 { Err(Reason::MessageMalformed) } else { Ok(None) }
}

/// Follows message boundaries through a stream of bytes, to refuse a message over the limit.
#[derive(Debug, Default)]
pub struct Boundaries {
    prefix: [u8; PREFIX],
    have: usize,
    left: usize,
}

impl Boundaries {
    /// Looks at the next bytes of the stream.
    ///
    /// # Errors
    /// [`Reason::MessageTooLarge`] as soon as a prefix announces more than `limit` bytes.
    pub fn pass(&mut self, mut bytes: &[u8], limit: usize) -> Result<(), Reason> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = self.left.min(bytes.len());
                self.left -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (PREFIX - self.have).min(bytes.len());
            self.prefix[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == PREFIX {
                self.have = 0;
                self.left = framed_len(&self.prefix).unwrap_or(PREFIX) - PREFIX;
                if self.left > limit {
                    return Err(Reason::MessageTooLarge);
                }
            }
        }
        Ok(())
    }

    /// The stream may end here: between two messages.
    #[must_use]
    pub const fn between(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((message.len() as u32).to_be_bytes());
        bytes.extend(message);
        bytes
    }

    #[test]
    fn field_one_is_found_and_nothing_else_is_needed() {
        let check = |message: &[u8], expected| assert_eq!(peek(&framed(message)), expected, "{message:x?}");
        let region = [0x08, 0xa4, 0xee, 0x1a]; // field 1 = 440100
        check(&region, Ok(Peek::Region(440_100)));
        check(
            &[&[0x12, 2, b'a', b'b', 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0][..], &region].concat(),
            Ok(Peek::Region(440_100)),
        );
        check(&[], Ok(Peek::None));
        check(&[0x08, 0], Ok(Peek::None));
        check(&[0x0a, 1, b'x'], Ok(Peek::None));
        check(&[0x12, 200, 1], Err(Reason::MessageMalformed));
        check(&[0x0b], Err(Reason::MessageMalformed));
        check(&[0x00, 0x00], Err(Reason::MessageMalformed));
        check(&[0xff; 12], Err(Reason::MessageMalformed));
        let whole = framed(&region);
        for cut in 0..whole.len() {
            assert_eq!(peek(&whole[..cut]), Ok(Peek::More), "{cut}");
        }
        assert_eq!(peek(&[1, 0, 0, 0, 0]), Err(Reason::CompressedNeedsRegion));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(bytes: Vec<u8>) {
            let _ = peek(&bytes);
        }

        #[test]
        fn boundaries_do_not_depend_on_how_the_bytes_are_cut(
            lens in prop::collection::vec(0..50usize, 1..8), cuts in prop::collection::vec(1..9usize, 1..200),
        ) {
            let bytes: Vec<u8> = lens.iter().flat_map(|&n| framed(&vec![7; n])).collect();
            let (mut boundaries, mut rest, mut cuts) = (Boundaries::default(), &bytes[..], cuts.iter().cycle());
            let mut result = Ok(());
            while !rest.is_empty() && result.is_ok() {
                let n = (*cuts.next().unwrap()).min(rest.len());
                result = boundaries.pass(&rest[..n], 40);
                rest = &rest[n..];
            }
            prop_assert_eq!(result.is_err(), lens.iter().any(|&n| n > 40));
            prop_assert!(result.is_err() || boundaries.between());
        }
    }
}
