//! What does an attacker get, and how soon?

use super::super::{
    Config, Reason,
    frame::{flag, kind},
};
use super::{
    config,
    raw::{END, PLAIN, Peer, REQUEST, Serve, WHOLE, field, frame},
    run,
};

const CALM: Reason = Reason::ENHANCE_YOUR_CALM;

/// A flood of what `make` makes ends the connection with a reason, within so many frames.
fn floods(serve: Serve, begin: &[u8], within: u32, make: impl Fn(u32) -> Vec<u8>) {
    run(async {
        let (mut peer, server) = Peer::client(serve);
        peer.greet().await;
        peer.say(begin).await;
        for n in 0..within {
            peer.say(&make(n)).await;
        }
        assert_eq!(peer.goaway().await, CALM);
        server.await.unwrap();
    });
}

#[test]
fn rapid_resets_end_the_connection() {
    let open_and_reset = |n: u32| {
        let id = 2 * n + 1;
        [frame(kind::HEADERS, WHOLE | END, id, REQUEST), frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8])]
            .concat()
    };
    floods(Serve::Hang, &[], 200, open_and_reset);
    floods(Serve::Bytes(10), &[], 200, open_and_reset);
}

#[test]
fn resets_that_the_peer_provokes_end_the_connection() {
    let provoke = |after: Vec<u8>| {
        move |n: u32| {
            let id = 2 * n + 1;
            let mut frames = frame(kind::HEADERS, WHOLE, id, REQUEST);
            let mut bad = after.clone();
            bad[5..9].copy_from_slice(&id.to_be_bytes());
            frames.extend(bad);
            frames
        }
    };
    // A window that opens by nothing, one that opens too far, headers twice, a malformed request.
    floods(Serve::Hang, &[], 101, provoke(frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])));
    floods(Serve::Hang, &[], 101, provoke(frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])));
    floods(Serve::Hang, &[], 101, provoke(frame(kind::HEADERS, WHOLE, 0, REQUEST)));
    floods(Serve::Hang, &[], 101, |n| frame(kind::HEADERS, WHOLE | END, 2 * n + 1, &[0x83]));
}

#[test]
fn a_flood_of_continuations_ends_the_connection() {
    let begin = frame(kind::HEADERS, 0, 1, REQUEST);
    floods(Serve::Hang, &begin, 64, |_| frame(kind::CONTINUATION, 0, 1, &field("a", "b")));
    floods(Serve::Hang, &begin, 64, |_| frame(kind::CONTINUATION, 0, 1, &[]));
}

#[test]
fn floods_of_small_frames_end_the_connection() {
    floods(Serve::Hang, &[], 101, |_| frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]));
    floods(Serve::Hang, &[], 101, |_| frame(kind::SETTINGS, flag::ACK, 0, &[]));
    floods(Serve::Hang, &[], 101, |_| frame(kind::PING, 0, 0, &[0; 8]));
    floods(Serve::Hang, &[], 101, |_| frame(kind::PING, flag::ACK, 0, &[0; 8]));
    floods(Serve::Hang, &[], 101, |_| frame(kind::PRIORITY, 0, 9, &[0; 5]));
    floods(Serve::Hang, &[], 101, |_| frame(0xbe, 0, 9, b"unknown"));
    floods(Serve::Hang, &[], 101, |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    let begin = frame(kind::HEADERS, WHOLE, 1, REQUEST);
    floods(Serve::Hang, &begin, 101, |_| frame(kind::DATA, 0, 1, &[]));
    floods(Serve::Hang, &begin, 101, |_| frame(kind::DATA, flag::PADDED, 1, &[1, 0]));
    floods(Serve::Hang, &begin, 1001, |n| frame(kind::DATA, 0, 1, &[0; 1][..(n % 2) as usize]));
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    run(async {
        let (mut peer, _server) = Peer::client_with(Serve::Hang, Config { streams: 3, ..config() });
        peer.greet().await;
        for id in [1, 3, 5, 7, 9] {
            peer.frame(kind::HEADERS, WHOLE | END, id, REQUEST).await;
        }
        assert_eq!(peer.reset().await, (7, Reason::REFUSED_STREAM));
        assert_eq!(peer.reset().await, (9, Reason::REFUSED_STREAM));
        peer.is_alive().await;
        peer.frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]).await;
        peer.frame(kind::HEADERS, WHOLE | END, 11, REQUEST).await;
        peer.is_alive().await;
    });
}

#[test]
fn a_header_list_over_the_limit_is_answered_431() {
    run(async {
        let (mut peer, _server) = Peer::client_with(Serve::Hang, Config { header_list: 1000, ..config() });
        peer.greet().await;
        let block = [REQUEST, &field("a", &"v".repeat(120)).repeat(8)].concat();
        peer.frame(kind::HEADERS, WHOLE, 1, &block).await;
        let (head, answer) = peer.next_of(kind::HEADERS).await;
        assert!(head.has(END) && answer.windows(3).any(|text| text == b"431"), "{answer:x?}");
        assert_eq!(peer.reset().await, (1, Reason::NO_ERROR));
        // A field that is small on the wire and large in the table, again and again.
        let bomb = [REQUEST, &[0x40, 1, b'b', 100], "v".repeat(100).as_bytes(), &[0xbe; 200]].concat();
        peer.frame(kind::HEADERS, WHOLE | END, 3, &bomb).await;
        assert!(peer.next_of(kind::HEADERS).await.0.has(END));
        peer.is_alive().await;
    });
}

#[test]
fn what_is_no_http2_is_closed_at_once() {
    run(async {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSX", b"\x16\x03\x01"] {
            let (mut peer, server) = Peer::client(Serve::Hang);
            peer.say(garbage).await;
            server.await.unwrap();
            while peer.next().await.is_some() {}
        }
    });
}

#[test]
fn a_reader_that_does_not_read_is_found_out() {
    run(async {
        let (left, right) = tokio::io::duplex(1 << 20);
        let answers = tokio::task::spawn_local(async move {
            let mut connection = super::super::server::handshake(right, config()).await.unwrap();
            let pinger = connection.ping_pong();
            let mut answers = Vec::new();
            while answers.len() < 20 {
                let (_, _, mut respond) = connection.accept().await.unwrap().unwrap();
                respond.send_whole(PLAIN, vec![0; 60_000].into(), None).unwrap();
                answers.push(respond);
            }
            // At most a MiB is kept for those who do not move, and the second look is the last.
            assert!(pinger.moves());
            let reset = |respond: &mut super::super::server::SendResponse| {
                futures_util::FutureExt::now_or_never(std::future::poll_fn(|cx| respond.poll_reset(cx)))
                    .is_some()
            };
            assert_eq!(answers.iter_mut().filter_map(|r| reset(r).then_some(())).count(), 3);
            assert!(!pinger.moves());
        });
        let mut peer = Peer::over(left);
        peer.greet().await;
        peer.frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
        for n in 0..20 {
            peer.frame(kind::HEADERS, WHOLE | END, 2 * n + 1, REQUEST).await;
        }
        answers.await.unwrap();
    });
}

#[test]
fn a_reader_that_reads_may_be_slow() {
    run(async {
        let (left, right) = tokio::io::duplex(1 << 20);
        let answer = tokio::task::spawn_local(async move {
            let mut connection = super::super::server::handshake(right, config()).await.unwrap();
            let pinger = connection.ping_pong();
            let (_, _, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_whole(PLAIN, vec![0; 400_000].into(), None).unwrap();
            drop(respond);
            for _ in 0..10 {
                assert!(pinger.moves());
                // Until the next update of the window has come.
                let step = connection.accept();
                assert!(tokio::time::timeout(std::time::Duration::from_millis(20), step).await.is_err());
            }
        });
        let mut peer = Peer::over(left);
        peer.greet().await;
        peer.frame(kind::HEADERS, WHOLE | END, 1, REQUEST).await;
        while !answer.is_finished() {
            for id in [0, 1] {
                peer.frame(kind::WINDOW_UPDATE, 0, id, &[0, 0, 0, 9]).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        answer.await.unwrap();
    });
}
