use super::*;
use bytes::BytesMut;
use http::HeaderValue;
use proptest::prelude::*;

type Fields = Vec<(String, Vec<u8>)>;

fn decode(decoder: &mut Decoder, block: &[u8], max_list: usize) -> Result<(Fields, Decoded), Error> {
    let mut fields = Vec::new();
    let decoded = decoder.decode(block, max_list, |name, value| {
        fields.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
    })?;
    Ok((fields, decoded))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[track_caller]
fn check(decoder: &mut Decoder, block: &str, expected: &[(&str, &str)]) {
    let (fields, decoded) = decode(decoder, &hex(block), usize::MAX).unwrap();
    let fields: Vec<_> =
        fields.iter().map(|(n, v)| (n.as_str(), std::str::from_utf8(v).unwrap().to_owned())).collect();
    let expected: Vec<_> = expected.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
    assert_eq!(fields, expected);
    assert!(!decoded.malformed);
}

#[test]
fn the_requests_of_the_rfc_are_read() {
    // RFC 7541, C.4.
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    let common = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    check(&mut decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &common);
    let second = [&common[..], &[("cache-control", "no-cache")]].concat();
    check(&mut decoder, "8286 84be 5886 a8eb 1064 9cbf", &second);
    check(
        &mut decoder,
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ],
    );
}

#[test]
fn the_responses_of_the_rfc_are_read_while_the_table_forgets() {
    // RFC 7541, C.6, with a table of 256 bytes.
    let mut decoder = Decoder::new(256);
    let date = "Mon, 21 Oct 2013 20:13:21 GMT";
    let location = ("location", "https://www.example.com");
    check(
        &mut decoder,
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
         919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        &[(":status", "302"), ("cache-control", "private"), ("date", date), location],
    );
    check(
        &mut decoder,
        "4883 640e ffc1 c0bf",
        &[(":status", "307"), ("cache-control", "private"), ("date", date), location],
    );
}

#[test]
fn blocks_that_break_the_compression_are_refused() {
    for (block, error) in [
        ("80", Error::IndexUnknown),
        ("be", Error::IndexUnknown),
        ("7f", Error::Truncated),
        ("ffff ffff ffff 7f", Error::IntegerTooLarge),
        ("4003 6162", Error::Truncated),
        ("4084 ffff ffff 0161", Error::Huffman),
        ("3fe2 1f", Error::TableSize),
        ("8220", Error::TableSize),
        ("40", Error::Truncated),
    ] {
        let mut decoder = Decoder::new(DEFAULT_TABLE);
        assert_eq!(decode(&mut decoder, &hex(block), usize::MAX).unwrap_err(), error, "{block}");
    }
}

#[test]
fn a_malformed_field_spoils_its_message_and_not_the_table() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    // `X: a` into the table, then `y: b`.
    let (fields, decoded) = decode(&mut decoder, &hex("4001 5801 6140 0179 0162"), usize::MAX).unwrap();
    assert!(decoded.malformed);
    assert_eq!(fields, [("y".to_owned(), b"b".to_vec())]);
    // Both are still there, each as good as it was; so is a name that is referred to.
    let (fields, decoded) = decode(&mut decoder, &hex("be"), usize::MAX).unwrap();
    assert_eq!((fields.len(), decoded.malformed), (1, false));
    for block in ["bf", "0f30 0162"] {
        let (fields, decoded) = decode(&mut decoder, &hex(block), usize::MAX).unwrap();
        assert_eq!((fields.len(), decoded.malformed), (0, true), "{block}");
    }
}

#[test]
fn fields_beyond_the_limit_are_counted_and_not_handed_over() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    let (fields, decoded) = decode(&mut decoder, &hex("8286 84"), 90).unwrap();
    assert_eq!((fields.len(), decoded.list_size), (2, 42 + 43 + 38));
}

#[test]
fn a_field_said_twice_costs_one_byte_from_then_on() {
    let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
    let (name, value) = (HeaderName::from_static("user-agent"), HeaderValue::from_static("grpc-go/1.70"));
    let mut sizes = Vec::new();
    for _ in 0..4 {
        out.clear();
        encoder.start(&mut out);
        encoder.field(&name, &value, &mut out);
        sizes.push(out.len());
    }
    assert_eq!(sizes[2..], [1, 1]);
    assert!(sizes[0] > 1 && sizes[1] > 1);
    out.clear();
    encoder.pseudo(Pseudo::Status, &HeaderValue::from_static("200"), &mut out);
    assert_eq!(out[..], [0x88]);
}

#[test]
fn what_must_not_be_remembered_is_not() {
    let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
    let name = HeaderName::from_static("authorization");
    let mut value = HeaderValue::from_static("Bearer secret");
    value.set_sensitive(true);
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    for _ in 0..3 {
        out.clear();
        encoder.field(&name, &value, &mut out);
        assert_eq!(out[0] & 0xf0, 0x10);
        let block = out.clone().freeze();
        decoder.decode(&block, usize::MAX, |_, value| assert!(value.is_sensitive())).unwrap();
    }
}

#[test]
fn the_peer_is_told_of_every_change_of_the_table() {
    let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
    encoder.resize(100);
    encoder.resize(0);
    encoder.resize(1 << 20);
    encoder.start(&mut out);
    // First the smallest, then what holds now.
    assert_eq!(out[..], hex("20 3fe11f")[..]);
    out.clear();
    encoder.start(&mut out);
    assert!(out.is_empty());
}

prop_compose! {
    /// Few names and values, so that they come again; and some that are odd, long or secret.
    fn field()(
        name in prop_oneof![
            4 => prop::sample::select(vec!["te", "content-type", "x-a", "x-b", "grpc-timeout"]).prop_map(String::from),
            1 => "[a-z][a-z0-9-]{0,40}",
        ],
        value in prop_oneof![4 => "[ab]", 1 => "[ -~]{0,300}", 1 => "[0-9a-f]{32}"],
        sensitive in prop::bool::weighted(0.1),
    ) -> (HeaderName, HeaderValue) {
        let mut value = HeaderValue::from_str(&value).unwrap();
        value.set_sensitive(sensitive);
        (HeaderName::from_lowercase(name.as_bytes()).unwrap(), value)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_said_is_understood(
        blocks in prop::collection::vec((prop::collection::vec(field(), 0..12), prop::option::weighted(0.2, 0..5_000usize)), 1..20),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
        for (fields, resize) in blocks {
            if let Some(max) = resize {
                encoder.resize(max);
            }
            let mut out = BytesMut::new();
            encoder.start(&mut out);
            encoder.pseudo(Pseudo::Path, &HeaderValue::from_static("/a.B/C"), &mut out);
            for (name, value) in &fields {
                encoder.field(name, value, &mut out);
            }
            let mut heard = Vec::new();
            let decoded = decoder.decode(&out, usize::MAX, |name, value| heard.push((name, value))).unwrap();
            prop_assert!(!decoded.malformed);
            prop_assert_eq!(&heard[0].0, &Name::Pseudo(Pseudo::Path));
            let expected: Vec<_> = fields.into_iter().map(|(name, value)| (Name::Field(name), value)).collect();
            prop_assert_eq!(&heard[1..], &expected[..]);
        }
    }

    #[test]
    fn no_block_does_harm(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5)) {
        let mut decoder = Decoder::new(DEFAULT_TABLE);
        for block in blocks {
            if decode(&mut decoder, &block, 1 << 14).is_err() {
                break;
            }
        }
    }
}
