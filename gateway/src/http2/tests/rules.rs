//! What does each broken rule cost: a stream, or the connection?

use super::super::{
    Fields, Reason, client,
    frame::{flag, kind},
};
use super::{
    raw::{END, Peer, REQUEST, RESPONSE, Serve, WHOLE, field},
    run,
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use std::future::poll_fn;

/// A frame of the client, and the reason with which the connection ends.
fn breaks_connection(frames: &[(u8, u8, u32, &[u8])], reason: Reason) {
    run(async {
        let (mut peer, server) = Peer::client(Serve::Hang);
        peer.greet().await;
        for &(kind, flags, stream, payload) in frames {
            peer.frame(kind, flags, stream, payload).await;
        }
        assert_eq!(peer.goaway().await, reason, "{frames:?}");
        server.await.unwrap();
    });
}

#[test]
fn rules_of_the_connection() {
    use kind::{CONTINUATION, DATA, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS};
    let open: (u8, u8, u32, &[u8]) = (HEADERS, WHOLE, 1, REQUEST);
    let protocol = Reason::PROTOCOL_ERROR;
    breaks_connection(&[(DATA, 0, 0, b"x")], protocol);
    breaks_connection(&[(DATA, 0, 1, b"x")], protocol);
    breaks_connection(&[(HEADERS, WHOLE, 0, REQUEST)], protocol);
    breaks_connection(&[(HEADERS, WHOLE, 2, REQUEST)], protocol);
    breaks_connection(&[(CONTINUATION, WHOLE, 1, REQUEST)], protocol);
    breaks_connection(&[(HEADERS, 0, 1, REQUEST), (PING, 0, 0, &[0; 8])], protocol);
    breaks_connection(&[(HEADERS, 0, 1, REQUEST), (CONTINUATION, WHOLE, 3, REQUEST)], protocol);
    breaks_connection(&[(PUSH_PROMISE, WHOLE, 1, REQUEST)], protocol);
    breaks_connection(&[(RST_STREAM, 0, 1, &[0; 4])], protocol);
    breaks_connection(&[(RST_STREAM, 0, 0, &[0; 4])], protocol);
    breaks_connection(&[(PRIORITY, 0, 0, &[0; 5])], protocol);
    breaks_connection(&[(PING, 0, 1, &[0; 8])], protocol);
    breaks_connection(&[(GOAWAY, 0, 1, &[0; 8])], protocol);
    breaks_connection(&[(SETTINGS, 0, 1, &[])], protocol);
    breaks_connection(&[(kind::WINDOW_UPDATE, 0, 0, &[0; 4])], protocol);
    breaks_connection(&[(kind::WINDOW_UPDATE, 0, 5, &[0, 0, 0, 1])], protocol);
    breaks_connection(&[(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])], protocol);
    breaks_connection(&[(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])], protocol);
    let flow = Reason::FLOW_CONTROL_ERROR;
    breaks_connection(&[(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])], flow);
    breaks_connection(&[(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])], flow);
    breaks_connection(
        &[
            open,
            (kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0, 0]),
            (SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        ],
        flow,
    );
    let size = Reason::FRAME_SIZE_ERROR;
    breaks_connection(&[(DATA, 0, 1, &[0; 16_385])], size);
    breaks_connection(&[(SETTINGS, 0, 0, &[0; 7])], size);
    breaks_connection(&[(SETTINGS, flag::ACK, 0, &[0; 6])], size);
    breaks_connection(&[(PING, 0, 0, &[0; 7])], size);
    breaks_connection(&[(GOAWAY, 0, 0, &[0; 7])], size);
    breaks_connection(&[open, (RST_STREAM, 0, 1, &[0; 5])], size);
    breaks_connection(&[(PRIORITY, 0, 1, &[0; 4])], size);
    breaks_connection(&[(HEADERS, WHOLE, 1, &[0xff; 9])], Reason::COMPRESSION_ERROR);
    breaks_connection(&[open, (DATA, flag::PADDED, 1, b"\x09short")], protocol);
}

#[test]
fn rules_of_a_stream() {
    let check = |block: &[u8], reason: Reason| {
        run(async {
            let (mut peer, _server) = Peer::client(Serve::Hang);
            peer.greet().await;
            peer.frame(kind::HEADERS, WHOLE, 1, block).await;
            assert_eq!(peer.reset().await, (1, reason), "{block:x?}");
            peer.is_alive().await;
        });
    };
    let protocol = Reason::PROTOCOL_ERROR;
    let with = |name, value| [REQUEST, &field(name, value)].concat();
    check(&[], protocol);
    check(&[0x83, 0x84], protocol);
    check(&[0x83, 0x86], protocol);
    check(&[0x83, 0x83, 0x86, 0x84], protocol);
    check(&[REQUEST, RESPONSE].concat(), protocol);
    check(&[&field("a", "b"), REQUEST].concat(), protocol);
    check(&with(":unknown", "x"), protocol);
    check(&with("Upper", "x"), protocol);
    check(&with("connection", "close"), protocol);
    check(&with("transfer-encoding", "chunked"), protocol);
    check(&with("keep-alive", "1"), protocol);
    check(&with("te", "gzip"), protocol);
    check(&with("a", "b\nc"), protocol);
}

#[test]
fn a_stream_that_has_ended_takes_no_more() {
    run(async {
        let (mut peer, _server) = Peer::client(Serve::Hang);
        peer.greet().await;
        peer.frame(kind::HEADERS, WHOLE | END, 1, REQUEST).await;
        peer.frame(kind::DATA, 0, 1, b"more").await;
        assert_eq!(peer.reset().await, (1, Reason::STREAM_CLOSED));
        // Late frames of a stream that we have reset are nobody's fault.
        peer.frame(kind::DATA, 0, 1, b"more").await;
        peer.frame(kind::HEADERS, WHOLE | END, 1, REQUEST).await;
        peer.frame(kind::RST_STREAM, 0, 1, &[0; 4]).await;
        peer.frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]).await;
        peer.is_alive().await;
    });
}

#[test]
fn more_than_the_window_is_too_much() {
    run(async {
        let (mut peer, _server) = Peer::client(Serve::Hang);
        peer.greet().await;
        peer.frame(kind::HEADERS, WHOLE, 1, REQUEST).await;
        for _ in 0..4 {
            peer.frame(kind::DATA, 0, 1, &[0; 16_384]).await;
        }
        peer.frame(kind::DATA, 0, 1, &[0; 1]).await;
        assert_eq!(peer.reset().await, (1, Reason::FLOW_CONTROL_ERROR));
        peer.is_alive().await;
    });
}

#[test]
fn trailers_without_an_end_are_malformed() {
    run(async {
        let (mut peer, _server) = Peer::client(Serve::Hang);
        peer.greet().await;
        peer.frame(kind::HEADERS, WHOLE, 1, REQUEST).await;
        peer.frame(kind::HEADERS, WHOLE, 1, &field("a", "b")).await;
        assert_eq!(peer.reset().await, (1, Reason::PROTOCOL_ERROR));
        peer.frame(kind::HEADERS, WHOLE, 3, REQUEST).await;
        peer.frame(kind::HEADERS, WHOLE | END, 3, &[0x84]).await;
        assert_eq!(peer.reset().await, (3, Reason::PROTOCOL_ERROR));
        peer.is_alive().await;
    });
}

#[test]
fn padding_and_priorities_are_taken_off() {
    run(async {
        let (mut peer, _server) = Peer::client(Serve::Bytes(3));
        peer.greet().await;
        let padded = [&[2, 0, 0, 0, 0, 9][..], REQUEST, &[0, 0]].concat();
        peer.frame(kind::HEADERS, WHOLE | flag::PADDED | flag::PRIORITY, 1, &padded).await;
        peer.frame(kind::DATA, flag::PADDED | END, 1, b"\x02abc\0\0").await;
        let (head, data) = peer.next_of(kind::DATA).await;
        assert_eq!((head.stream, data.len()), (1, 3));
        let (head, _) = peer.next_of(kind::HEADERS).await;
        assert!(head.has(END));
        peer.is_alive().await;
    });
}

#[test]
fn a_shrunken_window_holds_data_back_until_it_opens() {
    run(async {
        let (mut peer, _server) = Peer::client(Serve::Bytes(1000));
        peer.greet().await;
        // Initial windows of 10, then 20, then opened by 970.
        peer.frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]).await;
        peer.frame(kind::HEADERS, WHOLE | END, 1, REQUEST).await;
        assert_eq!(peer.next_of(kind::DATA).await.1.len(), 10);
        peer.is_alive().await;
        peer.frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 20]).await;
        assert_eq!(peer.next_of(kind::DATA).await.1.len(), 10);
        // Negative for a while: ten more open nothing.
        peer.frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]).await;
        peer.frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 10]).await;
        peer.is_alive().await;
        peer.frame(kind::WINDOW_UPDATE, 0, 1, &980u32.to_be_bytes()).await;
        assert_eq!(peer.next_of(kind::DATA).await.1.len(), 980);
        assert!(peer.next_of(kind::HEADERS).await.0.has(END));
    });
}

fn head<'a>(path: &'a HeaderValue, headers: &'a Fields) -> client::RequestHead<'a> {
    client::RequestHead { authority: path, path, headers, extra: &[] }
}

#[test]
fn a_client_waits_for_the_real_answer() {
    run(async {
        let (mut peer, sender, _connection) = Peer::server();
        let (path, headers) = (HeaderValue::from_static("/"), Fields::new());
        let response = sender.send_whole(head(&path, &headers), Bytes::from_static(b"body")).unwrap();
        peer.preface().await;
        peer.frame(kind::SETTINGS, 0, 0, &[]).await;
        assert!(!peer.next_of(kind::HEADERS).await.0.has(END));
        assert_eq!(peer.next_of(kind::DATA).await.1, b"body");
        // 103, then 200.
        let early = [&[0x08, 3][..], b"103"].concat();
        peer.frame(kind::HEADERS, WHOLE, 1, &early).await;
        peer.frame(kind::HEADERS, WHOLE, 1, RESPONSE).await;
        peer.frame(kind::DATA, END, 1, b"answer").await;
        let mut response = response.await.unwrap();
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(response.body.data().await.unwrap().unwrap(), "answer");
        assert!(response.body.data().await.is_none());
    });
}

#[test]
fn a_client_knows_what_goaway_means_for_its_calls() {
    run(async {
        let (mut peer, sender, connection) = Peer::server();
        let (path, headers) = (HeaderValue::from_static("/"), Fields::new());
        let first = sender.send_whole(head(&path, &headers), Bytes::new()).unwrap();
        let second = sender.send_whole(head(&path, &headers), Bytes::new()).unwrap();
        peer.preface().await;
        peer.frame(kind::SETTINGS, 0, 0, &[]).await;
        peer.frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
        let refused = second.await.unwrap_err();
        assert!(refused.is_go_away() && refused.is_remote(), "{refused:?}");
        assert!(sender.has_room().unwrap_err().is_go_away());
        peer.frame(kind::HEADERS, WHOLE | END, 1, RESPONSE).await;
        assert_eq!(first.await.unwrap().status, StatusCode::OK);
        // Nothing is left to wait for.
        connection.await.unwrap().unwrap();
    });
}

#[test]
fn a_client_lets_no_answer_break_more_than_its_stream() {
    run(async {
        let (mut peer, sender, _connection) = Peer::server();
        let (path, headers) = (HeaderValue::from_static("/"), Fields::new());
        peer.preface().await;
        peer.frame(kind::SETTINGS, 0, 0, &[]).await;
        for (id, bad) in [(1, &b"\x83"[..]), (3, &[]), (5, &[0x88, 0x88])] {
            let response = sender.send_whole(head(&path, &headers), Bytes::new()).unwrap();
            peer.next_of(kind::HEADERS).await;
            peer.frame(kind::HEADERS, WHOLE, id, bad).await;
            assert!(response.await.is_err());
            assert_eq!(peer.reset().await, (id, Reason::PROTOCOL_ERROR));
        }
        // Data before the answer's headers.
        let mut response = sender.send_whole(head(&path, &headers), Bytes::new()).unwrap();
        peer.next_of(kind::HEADERS).await;
        peer.frame(kind::DATA, 0, 7, b"x").await;
        assert!(poll_fn(|cx| response.poll_response(cx)).await.is_err());
        peer.is_alive().await;
    });
}
