//! Whatever arrives: no panic, no hang, no memory without bounds.

use super::super::{
    Config, Fields, client,
    frame::{PREFACE, flag, kind, setting},
    server,
};
use super::{
    raw::{PLAIN, REQUEST, RESPONSE, field, frame},
    run,
};
use bytes::Bytes;
use http::HeaderValue;
use proptest::prelude::*;
use std::future::poll_fn;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    task::spawn_local,
};

/// Small windows and few streams: limits are met soon.
const SMALL: Config = Config { stream_window: 500, connection_window: 2_000, streams: 4, header_list: 400 };

fn block() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(REQUEST.to_vec()),
        2 => Just(RESPONSE.to_vec()),
        1 => Just(field("a", "b")),
        1 => Just([REQUEST, &field("te", "trailers")].concat()),
        1 => Just(vec![0x40, 1, b'x', 1, b'y', 0xbe]),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn settings() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![0..100u32, Just(65_535), Just(1 << 14), Just(u32::MAX >> 1), any::<u32>()];
    let id = prop_oneof![Just(setting::INITIAL_WINDOW_SIZE), 0..8u16];
    prop::collection::vec((id, value), 0..3).prop_map(|settings| {
        settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect()
    })
}

/// Frames that are mostly right, of a few streams.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![6 => (0..6u32).prop_map(|n| 2 * n + 1), 1 => 0..14u32];
    let data = prop::collection::vec(any::<u8>(), 0..300);
    let code = (0..14u32).prop_map(|code| code.to_be_bytes().to_vec());
    let increment = prop_oneof![1..2_000u32, 0..u32::MAX];
    let ends = prop_oneof![Just(0), Just(flag::END_STREAM)];
    prop_oneof![
        4 => (id.clone(), ends.clone(), block()).prop_map(|(id, end, block)| {
            frame(kind::HEADERS, flag::END_HEADERS | end, id, &block)
        }),
        1 => (id.clone(), any::<u8>(), block()).prop_map(|(id, flags, block)| {
            frame(kind::HEADERS, flags, id, &block)
        }),
        1 => (id.clone(), any::<u8>(), block()).prop_map(|(id, flags, block)| {
            frame(kind::CONTINUATION, flags, id, &block)
        }),
        4 => (id.clone(), ends, data.clone()).prop_map(|(id, end, data)| frame(kind::DATA, end, id, &data)),
        1 => (id.clone(), any::<u8>(), data.clone()).prop_map(|(id, flags, data)| {
            frame(kind::DATA, flags, id, &data)
        }),
        2 => (id.clone(), code).prop_map(|(id, code)| frame(kind::RST_STREAM, 0, id, &code)),
        3 => (prop_oneof![Just(0), id.clone()], increment).prop_map(|(id, n)| {
            frame(kind::WINDOW_UPDATE, 0, id, &n.to_be_bytes())
        }),
        2 => settings().prop_map(|settings| frame(kind::SETTINGS, 0, 0, &settings)),
        1 => Just(frame(kind::SETTINGS, flag::ACK, 0, &[])),
        1 => Just(frame(kind::PING, 0, 0, &[1; 8])),
        1 => (0..20u32).prop_map(|last| {
            frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
        }),
        1 => (any::<u8>(), any::<u8>(), id, data).prop_map(|(kind, flags, id, data)| {
            frame(kind, flags, id, &data)
        }),
    ]
}

/// Frames, some of their bytes changed.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let frames = prop::collection::vec(any_frame(), 1..60).prop_map(|frames| frames.concat());
    let changes = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ];
    (frames, changes).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// Sends the bytes in pieces, reads whatever comes, and closes.
async fn throw(io: DuplexStream, bytes: Vec<u8>, piece: usize) {
    let (mut from, mut to) = tokio::io::split(io);
    let reading = spawn_local(async move {
        let mut sink = [0; 1000];
        while matches!(from.read(&mut sink).await, Ok(1..)) {}
    });
    for piece in bytes.chunks(piece) {
        if to.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = to.shutdown().await;
    reading.await.unwrap();
}

async fn echo(mut from: super::super::RecvStream, mut respond: server::SendResponse) -> Option<()> {
    let mut to = respond.send_response(PLAIN, false).ok()?;
    while let Some(Ok(data)) = from.data().await {
        let mut rest = data.clone();
        while !rest.is_empty() {
            let n = poll_fn(|cx| to.poll_room(cx, rest.len())).await?;
            to.send_data(rest.split_to(n), false).ok()?;
        }
        from.release(data.len());
    }
    from.trailers().await.ok()?;
    to.send_data(Bytes::from(vec![1; 700]), true).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_server_survives_anything(bytes in anything(), piece in 1..400usize) {
        run(async {
            let (left, right) = duplex(4_096);
            let server = spawn_local(async move {
                let Ok(mut connection) = server::handshake(right, SMALL).await else { return };
                let mut calls = tokio::task::JoinSet::new();
                while let Some(Ok((_, body, respond))) = connection.accept().await {
                    calls.spawn_local(echo(body, respond));
                }
                drop(connection);
                while let Some(ended) = calls.join_next().await {
                    ended.unwrap();
                }
            });
            throw(left, [&PREFACE[..], &bytes].concat(), piece).await;
            server.await.unwrap();
        });
    }

    #[test]
    fn a_client_survives_anything(bytes in anything(), piece in 1..400usize) {
        run(async {
            let (left, right) = duplex(4_096);
            let (sender, connection) = client::handshake(right, SMALL);
            let connection = spawn_local(connection);
            let mut calls = tokio::task::JoinSet::new();
            for n in 0..4 {
                let sender = sender.clone();
                calls.spawn_local(async move {
                    let (path, headers) = (HeaderValue::from_static("/"), Fields::new());
                    let head =
                        client::RequestHead { authority: &path, path: &path, headers: &headers, extra: &[] };
                    let body = Bytes::from(vec![0; n * 300]);
                    let Ok(response) = sender.send_whole(head, body) else { return };
                    let Ok(mut response) = response.await else { return };
                    while let Some(Ok(data)) = response.body.data().await {
                        response.body.release(data.len());
                    }
                    let _ = response.body.trailers().await;
                });
            }
            throw(left, bytes, piece).await;
            let _ = connection.await.unwrap();
            while let Some(ended) = calls.join_next().await {
                ended.unwrap();
            }
        });
    }
}
