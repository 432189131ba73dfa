//! What is left to others when a stream ends early, or comes too late?

use super::super::{
    Config, Fields, Reason, RecvStream, client,
    frame::{flag, kind, number},
    server,
};
use super::{
    config,
    raw::{END, PLAIN, Peer, REQUEST, Serve, WHOLE, frame},
    run,
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::HeaderValue;
use std::future::poll_fn;
use tokio::{io::duplex, sync::mpsc, task::spawn_local};

#[test]
fn a_request_that_waits_for_the_window_ends_with_its_caller() {
    run(async {
        let (mut peer, sender, _connection) = Peer::server();
        let (path, headers) = (HeaderValue::from_static("/"), Fields::new());
        let head = client::RequestHead { authority: &path, path: &path, headers: &headers, extra: &[] };
        drop(sender.send_whole(head, Bytes::from(vec![0; 100_000])).unwrap());
        peer.preface().await;
        assert_eq!(peer.reset().await, (1, Reason::CANCEL));
    });
}

#[test]
fn a_read_that_fills_the_queue_is_not_the_last() {
    run(async {
        const PINGS: usize = 20_000;
        let (mut peer, _sender, _connection) = Peer::server();
        peer.say(&frame(kind::PING, 0, 0, &[0; 8]).repeat(PINGS)).await;
        peer.preface().await;
        for _ in 0..PINGS {
            assert!(peer.next_of(kind::PING).await.0.has(flag::ACK));
        }
    });
}

#[test]
fn a_stream_that_comes_after_the_last_is_ignored_to_its_end() {
    run(async {
        let (left, right) = duplex(1 << 20);
        spawn_local(async move {
            let mut connection = server::handshake(right, config()).await.unwrap();
            let _first = connection.accept().await.unwrap().unwrap();
            connection.graceful_shutdown();
            connection.last_call();
            assert!(connection.accept().await.unwrap().is_err());
        });
        let mut peer = Peer::over(left);
        peer.greet().await;
        peer.frame(kind::HEADERS, WHOLE, 1, REQUEST).await;
        let goodbye = peer.next_of(kind::PING).await.1;
        peer.frame(kind::PING, flag::ACK, 0, &goodbye).await;
        let last = |payload: &[u8]| number(&[payload[0], payload[1], payload[2], payload[3]]);
        assert_eq!(last(&peer.next_of(kind::GOAWAY).await.1), 1);
        peer.frame(kind::HEADERS, WHOLE, 3, REQUEST).await;
        peer.frame(kind::DATA, END, 3, b"late").await;
        peer.is_alive().await;
        // No later goodbye takes back what the first one said.
        peer.frame(kind::DATA, 0, 0, b"x").await;
        assert_eq!(last(&peer.next_of(kind::GOAWAY).await.1), 1);
    });
}

#[test]
fn the_body_of_a_refused_stream_may_come_in_many_pieces() {
    run(async {
        let (mut peer, _server) = Peer::client_with(Serve::Hang, Config { streams: 1, ..config() });
        peer.greet().await;
        peer.frame(kind::HEADERS, WHOLE, 1, REQUEST).await;
        peer.frame(kind::HEADERS, WHOLE, 3, REQUEST).await;
        assert_eq!(peer.reset().await, (3, Reason::REFUSED_STREAM));
        peer.say(&frame(kind::DATA, 0, 3, b"x").repeat(1500)).await;
        peer.is_alive().await;
        peer.say(&frame(kind::DATA, 0, 3, b"").repeat(1001)).await;
        assert_eq!(peer.goaway().await, Reason::ENHANCE_YOUR_CALM);
    });
}

#[test]
fn small_pieces_are_joined_until_they_are_read() {
    run(async {
        let (left, right) = duplex(1 << 20);
        let (sender, mut bodies) = mpsc::unbounded_channel::<(RecvStream, server::SendResponse)>();
        spawn_local(async move {
            let mut connection = server::handshake(right, config()).await.unwrap();
            while let Some(Ok((_, body, respond))) = connection.accept().await {
                sender.send((body, respond)).ok().unwrap();
            }
        });
        let mut peer = Peer::over(left);
        peer.greet().await;
        peer.frame(kind::HEADERS, WHOLE, 1, REQUEST).await;
        for n in 0..10_000 {
            peer.frame(kind::DATA, 0, 1, &[n as u8]).await;
        }
        peer.frame(kind::DATA, END, 1, &[7; 4096]).await;
        peer.is_alive().await;
        let (mut body, _respond) = bodies.recv().await.unwrap();
        let mut pieces = Vec::new();
        while let Some(piece) = body.data().now_or_never().unwrap() {
            pieces.push(piece.unwrap());
        }
        let expected: Vec<u8> = (0..10_000).map(|n| n as u8).chain([7; 4096]).collect();
        assert_eq!(pieces.concat(), expected);
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [4096, 4096, 1808, 4096]);
    });
}

#[test]
fn the_window_of_a_writer_that_dies_goes_to_the_next() {
    run(async {
        let (left, right) = duplex(1 << 20);
        let (sender, mut rooms) = mpsc::unbounded_channel();
        spawn_local(async move {
            let mut connection = server::handshake(right, config()).await.unwrap();
            let mut held = Vec::new();
            while let Some(Ok((_, body, mut respond))) = connection.accept().await {
                let mut out = respond.send_response(PLAIN, false).unwrap();
                let (first, sender) = (held.is_empty(), sender.clone());
                held.push((body, respond));
                if first {
                    out.send_data(Bytes::from(vec![0; 65_535]), false).unwrap();
                }
                spawn_local(async move {
                    let room = poll_fn(|cx| out.poll_room(cx, 10)).await;
                    sender.send((first, room)).unwrap();
                    poll_fn(|cx| out.poll_reset(cx)).await;
                });
            }
        });
        let mut peer = Peer::over(left);
        peer.greet().await;
        peer.frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 16, 0, 0]).await;
        for id in [1, 3, 5] {
            peer.frame(kind::HEADERS, WHOLE, id, REQUEST).await;
            peer.is_alive().await;
        }
        // It goes to the first in line, which is reset before it runs.
        let window = frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 10]);
        peer.say(&[window, frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat()).await;
        assert_eq!(rooms.recv().await, Some((true, None)));
        assert_eq!(rooms.recv().await, Some((false, Some(10))));
    });
}

#[test]
fn a_call_that_is_reset_before_it_is_taken_does_not_run() {
    run(async {
        let (left, right) = duplex(1 << 20);
        let mut peer = Peer::over(left);
        peer.greet().await;
        peer.frame(kind::HEADERS, WHOLE | END, 1, REQUEST).await;
        peer.frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]).await;
        // `/index.html`
        peer.frame(kind::HEADERS, WHOLE | END, 3, &[0x83, 0x86, 0x85]).await;
        let mut connection = server::handshake(right, config()).await.unwrap();
        let (head, ..) = connection.accept().await.unwrap().unwrap();
        assert_eq!(head.path, "/index.html");
    });
}

#[test]
fn half_a_header_block_is_not_kept_for_long() {
    run(async {
        let (mut peer, _server) = Peer::client_with(Serve::Hang, Config { header_list: 8 << 10, ..config() });
        peer.greet().await;
        peer.frame(kind::HEADERS, 0, 1, REQUEST).await;
        peer.frame(kind::CONTINUATION, 0, 1, &[0; 16 << 10]).await;
        peer.frame(kind::CONTINUATION, 0, 1, &[0; 16 << 10]).await;
        assert_eq!(peer.goaway().await, Reason::ENHANCE_YOUR_CALM);
    });
}
