//! How do strings become shorter?
//!
//! The code of RFC 7541, Appendix B. It is canonical: the codes follow from their lengths, so only the
//! lengths stand here. Decoding looks eight bits up at once (most characters need no more) and compares
//! longer codes with the first code of each length.

use super::Error;
use bytes::{BufMut as _, BytesMut};

/// Bits of the code of each byte, and of the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const LONGEST: usize = 30;
/// Bits looked up at once.
const FIRST: u32 = 8;

struct Code {
    /// Codes by byte.
    codes: [u32; 257],
    /// Bytes in the order of their codes.
    symbols: [u16; 257],
    /// Of each length: how many codes there are, the first of them, and its place in `symbols`.
    counts: [u32; LONGEST + 1],
    firsts: [u32; LONGEST + 1],
    places: [u32; LONGEST + 1],
    /// By the next eight bits: the byte and the length of its code; length 0: the code is longer.
    short: [(u8, u8); 1 << FIRST],
}

/// Codes of one length count up, and double with every further bit (RFC 1951, 3.2.2).
const CODE: Code = {
    let mut code = Code {
        codes: [0; 257],
        symbols: [0; 257],
        counts: [0; LONGEST + 1],
        firsts: [0; LONGEST + 1],
        places: [0; LONGEST + 1],
        short: [(0, 0); 1 << FIRST],
    };
    let (mut next, mut place, mut length) = (0u32, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.firsts[length] = next;
        code.places[length] = place as u32;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = next;
                code.symbols[place] = symbol as u16;
                if length as u32 <= FIRST {
                    let free = FIRST - length as u32;
                    let mut at = next << free;
                    while at < (next + 1) << free {
                        code.short[at as usize] = (symbol as u8, length as u8);
                        at += 1;
                    }
                }
                next += 1;
                place += 1;
                code.counts[length] += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
};

static TABLES: Code = CODE;

/// Bytes that a string needs when it is coded.
#[must_use]
pub(super) fn coded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Codes a string.
pub(super) fn encode(text: &[u8], out: &mut BytesMut) {
    let (mut bits, mut held) = (0u64, 0u32);
    for &byte in text {
        let symbol = usize::from(byte);
        let length = u32::from(LENGTHS[symbol]);
        bits = bits << length | u64::from(TABLES.codes[symbol]);
        held += length;
        while held >= 8 {
            held -= 8;
            out.put_u8((bits >> held) as u8);
        }
    }
    if held > 0 {
        // Padded with the beginning of the end-of-string code, which is ones.
        out.put_u8((bits << (8 - held)) as u8 | 0xff >> held);
    }
}

/// Decodes a string.
///
/// # Errors
/// [`Error::Huffman`].
pub(super) fn decode(coded: &[u8], out: &mut BytesMut) -> Result<(), Error> {
    out.reserve(coded.len() * 8 / 5);
    let mut input = coded.iter();
    // The next bits, left-aligned, and how many they are.
    let (mut bits, mut held) = (0u64, 0u32);
    loop {
        while held <= 56 {
            let Some(&byte) = input.next() else { break };
            bits |= u64::from(byte) << (56 - held);
            held += 8;
        }
        let (byte, length) = TABLES.short[(bits >> (64 - FIRST)) as usize];
        let (byte, length) = if length > 0 { (byte, u32::from(length)) } else { long(bits, held)? };
        if length > held {
            return padding(bits, held);
        }
        out.put_u8(byte);
        bits <<= length;
        held -= length;
    }
}

/// The rest of a string must be the beginning of the end-of-string code, shorter than a byte.
fn padding(bits: u64, held: u32) -> Result<(), Error> {
    let ones = held < 8 && (held == 0 || bits >> (64 - held) == (1 << held) - 1);
    if ones { Ok(()) } else { Err(Error::Huffman) }
}

/// A code of more than eight bits; too long for what is held if only padding is left.
fn long(bits: u64, held: u32) -> Result<(u8, u32), Error> {
    for length in FIRST as usize + 1..=LONGEST {
        let code = (bits >> (64 - length)) as u32;
        let index = code.wrapping_sub(TABLES.firsts[length]);
        if index < TABLES.counts[length] {
            if length as u32 > held {
                return Ok((0, length as u32));
            }
            let symbol = TABLES.symbols[(TABLES.places[length] + index) as usize];
            return u8::try_from(symbol).map(|byte| (byte, length as u32)).map_err(|_| Error::Huffman);
        }
    }
    Ok((0, u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn coded(text: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        encode(text, &mut out);
        out
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = BytesMut::new();
        decode(bytes, &mut out).map(|()| out.to_vec())
    }

    #[test]
    fn the_code_is_that_of_the_rfc() {
        // RFC 7541, C.4.1, C.4.3, C.6.1.
        for (text, bytes) in [
            (
                "www.example.com",
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
            ),
            ("custom-value", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]),
            ("302", &[0x64, 0x02]),
            ("", &[]),
        ] {
            assert_eq!(coded(text.as_bytes()), bytes);
            assert_eq!(decoded(bytes).unwrap(), text.as_bytes());
            assert_eq!(coded_len(text.as_bytes()), bytes.len());
        }
        assert_eq!(TABLES.codes[256], 0x3fff_ffff);
    }

    #[test]
    fn what_is_no_code_is_refused() {
        // Padding of zeros, a whole byte of padding, the end-of-string code itself.
        for bad in [&[0x00][..], &[0xff], &[0x64, 0x02, 0xff], &[0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(decoded(bad), Err(Error::Huffman), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_string_comes_back(text: Vec<u8>) {
            let bytes = coded(&text);
            prop_assert_eq!(bytes.len(), coded_len(&text));
            prop_assert_eq!(decoded(&bytes).unwrap(), text);
        }

        #[test]
        fn whatever_decodes_is_coded_the_same_way(bytes: Vec<u8>) {
            if let Ok(text) = decoded(&bytes) {
                prop_assert_eq!(&coded(&text)[..], &bytes[..]);
            }
        }
    }
}
