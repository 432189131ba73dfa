//! Ours against ours, and ours against the `h2` crate in both roles: every shape of a call.

use super::{
    config,
    peers::{Broken, Client, Kind, PAIRS, serve},
    raw::PLAIN,
    run,
};
use crate::http2::{Config, client, server};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::future::poll_fn;
use tokio::{io::duplex, task::spawn_local};

/// Runs a test for every pair, over a pipe that holds a little and one that holds much, with windows
/// that are small and large.
fn each<F: AsyncFn(Client)>(test: F) {
    for (client, server) in PAIRS {
        for pipe in [61, 1 << 20] {
            for window in [100, 64 << 10] {
                let config = Config { stream_window: window, connection_window: 65_535, ..config() };
                run(async {
                    let (left, right) = duplex(pipe);
                    serve(server, right, config);
                    let client = Client::open(client, left, config).await;
                    test(client).await;
                });
            }
        }
    }
}

fn fields(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    map
}

fn data(n: usize) -> Bytes {
    (0..n).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>().into()
}

#[test]
fn unary_calls_come_back_whole() {
    each(async |client| {
        let headers = fields(&[("x-one", "1"), ("x-two", "a"), ("x-two", "b"), ("te", "trailers")]);
        for n in [0, 1, 123, 5_000] {
            let answer = client.call("/echo", headers.clone(), vec![data(n)]).await.unwrap();
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &data(n)));
            assert_eq!(answer.headers.get_all("x-two").iter().collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
        }
    });
}

#[test]
fn answers_without_data_or_trailers_are_answers() {
    each(async |client| {
        let answer = client.call("/trailers-only", HeaderMap::new(), vec![data(9)]).await.unwrap();
        assert_eq!((answer.body.len(), answer.trailers), (0, None));
        let answer = client.call("/no-trailers", HeaderMap::new(), vec![data(9)]).await.unwrap();
        assert_eq!((answer.body.len(), answer.trailers), (9, None));
        let answer = client.call("/trailers-without-data", HeaderMap::new(), vec![data(9)]).await.unwrap();
        assert_eq!((answer.body.len(), answer.trailers.is_some()), (0, true));
    });
}

#[test]
fn much_passes_through_small_windows() {
    each(async |client| {
        let body: Vec<Bytes> = (0..10).map(|i| data(10_000 + i)).collect();
        let whole: Bytes = body.concat().into();
        for path in ["/echo", "/pump"] {
            let answer = client.call(path, HeaderMap::new(), body.clone()).await.unwrap();
            assert!(answer.body == whole, "{path}: {} of {} bytes", answer.body.len(), whole.len());
            assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
        }
    });
}

#[test]
fn calls_run_at_the_same_time() {
    each(async |client| {
        let calls = (0..90).map(|i| {
            let client = client.clone();
            async move {
                let headers = fields(&[("x-number", &i.to_string())]);
                let answer = client.call("/echo", headers, vec![data(i * 37)]).await.unwrap();
                assert!(answer.body == data(i * 37) && answer.headers["x-number"] == i.to_string());
            }
        });
        join_all(calls).await;
    });
}

#[test]
fn headers_may_be_longer_than_a_frame() {
    each(async |client| {
        let long = "v".repeat(20_000);
        let headers = fields(&[("x-long", &long), ("x-short", "1")]);
        let answer = client.call("/echo", headers, vec![data(10)]).await.unwrap();
        assert!(answer.headers["x-long"] == *long && answer.headers["x-short"] == "1");
    });
}

#[test]
fn resets_arrive_with_their_reason() {
    each(async |client| {
        let refused = client.call("/reset", HeaderMap::new(), vec![data(10)]).await;
        assert_eq!(refused, Err(Broken::ResetByPeer(7)));
        let broken = client.call("/broken", HeaderMap::new(), vec![data(10)]).await;
        assert_eq!(broken, Err(Broken::ResetByPeer(2)));
        // The connection goes on.
        client.call("/echo", HeaderMap::new(), vec![data(10)]).await.unwrap();
    });
}

#[test]
fn an_answer_may_come_before_the_end_of_the_request() {
    each(async |client| {
        let answer = client.call("/early", HeaderMap::new(), vec![data(10), data(200_000)]).await;
        // The answer is there, whether or not the reset that follows it is.
        if let Ok(answer) = answer {
            assert_eq!(answer.status, StatusCode::OK);
        }
        client.call("/echo", HeaderMap::new(), vec![data(10)]).await.unwrap();
    });
}

#[test]
fn a_call_that_nobody_waits_for_is_reset() {
    each(async |client| {
        for _ in 0..20 {
            let mut call = Box::pin(client.call("/hang", HeaderMap::new(), vec![data(10)]));
            assert!(futures_util::poll!(&mut call).is_pending());
            tokio::task::yield_now().await;
            drop(call);
        }
        client.call("/echo", HeaderMap::new(), vec![data(10)]).await.unwrap();
    });
}

#[test]
fn a_client_keeps_to_the_servers_limit_of_streams() {
    run(async {
        let (left, right) = duplex(1 << 16);
        serve(Kind::H2, right, Config { streams: 3, ..config() });
        let Client::Ours(sender) = Client::open(Kind::Ours, left, config()).await else { unreachable!() };
        let client = Client::Ours(sender.clone());
        client.call("/echo", HeaderMap::new(), vec![data(1)]).await.unwrap();
        assert_eq!(sender.current_max_send_streams(), 3);
        let mut hanging: Vec<_> =
            (0..3).map(|_| Box::pin(client.call("/hang", HeaderMap::new(), vec![data(1)]))).collect();
        for call in &mut hanging {
            assert!(futures_util::poll!(call).is_pending());
        }
        assert_eq!(sender.has_room(), Ok(false));
        drop(hanging);
        assert_eq!(sender.has_room(), Ok(true));
        client.call("/echo", HeaderMap::new(), vec![data(1)]).await.unwrap();
    });
}

#[test]
fn a_server_that_goes_away_finishes_what_it_has() {
    for client_kind in [Kind::Ours, Kind::H2] {
        run(async {
            let (left, right) = duplex(1 << 16);
            let (go, gone) = tokio::sync::oneshot::channel::<()>();
            let server = spawn_local(async move {
                let mut connection = server::handshake(right, config()).await.unwrap();
                let (_, request, mut respond) = connection.accept().await.unwrap().unwrap();
                connection.graceful_shutdown();
                connection.last_call();
                spawn_local(async move {
                    gone.await.unwrap();
                    respond.send_whole(PLAIN, Bytes::from_static(b"late"), None).unwrap();
                    drop(request);
                });
                assert!(connection.accept().await.is_none());
            });
            let client = Client::open(client_kind, left, config()).await;
            let first = client.clone();
            let first = spawn_local(async move { first.call("/one", HeaderMap::new(), vec![data(1)]).await });
            // Until GOAWAY has come.
            while match &client {
                Client::Ours(sender) => sender.has_room().is_ok(),
                Client::H2(sender) => futures_util::poll!(Box::pin(sender.clone().ready())).is_pending(),
            } {
                tokio::task::yield_now().await;
                if matches!(&client, Client::H2(_)) {
                    break;
                }
            }
            go.send(()).unwrap();
            assert_eq!(first.await.unwrap().unwrap().body, "late");
            server.await.unwrap();
        });
    }
}

#[test]
fn a_goodbye_overtakes_answers_that_are_held_back() {
    run(async {
        let (left, right) = duplex(1 << 16);
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let server = spawn_local(async move {
            let mut connection = server::handshake(right, config()).await.unwrap();
            let (_, request, mut respond) = connection.accept().await.unwrap().unwrap();
            connection.hold();
            respond.send_whole(PLAIN, Bytes::from_static(b"held"), None).unwrap();
            drop(request);
            let running = poll_fn(|cx| connection.poll_accept(cx).map(|_| ()));
            assert!(futures_util::poll!(std::pin::pin!(running)).is_pending());
            connection.graceful_shutdown();
            tokio::select! {
                call = connection.accept() => assert!(call.is_none()),
                told = gone => told.unwrap(),
            }
            connection.unhold();
            connection.last_call();
            assert!(connection.accept().await.is_none());
        });
        let Client::Ours(sender) = Client::open(Kind::Ours, left, config()).await else { unreachable!() };
        let client = Client::Ours(sender.clone());
        let mut call = Box::pin(client.call("/one", HeaderMap::new(), vec![data(1)]));
        while sender.has_room().is_ok() {
            assert!(futures_util::poll!(&mut call).is_pending(), "answered before the goodbye");
            tokio::task::yield_now().await;
        }
        assert!(futures_util::poll!(&mut call).is_pending());
        go.send(()).unwrap();
        assert_eq!(call.await.unwrap().body, "held");
        server.await.unwrap();
    });
}

#[test]
fn streams_above_the_last_of_a_goaway_were_not_processed() {
    run(async {
        let (left, right) = duplex(1 << 16);
        let server = spawn_local(async move {
            let mut connection = h2::server::handshake(right).await.unwrap();
            let (_request, _respond) = connection.accept().await.unwrap().unwrap();
            connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
            let _ = poll_fn(|cx| connection.poll_closed(cx)).await;
        });
        let client = Client::open(Kind::Ours, left, config()).await;
        let broken = client.call("/hang", HeaderMap::new(), vec![data(1)]).await.unwrap_err();
        assert!(!matches!(broken, Broken::ResetByPeer(_)), "{broken:?}");
        server.await.unwrap();
    });
}

#[test]
fn a_ping_is_answered() {
    for server in [Kind::Ours, Kind::H2] {
        run(async {
            let (left, right) = duplex(1 << 16);
            serve(server, right, config());
            let (sender, connection) = client::handshake(left, config());
            let mut pinger = connection.ping_pong();
            let connection = spawn_local(connection);
            pinger.ping().await.unwrap();
            pinger.ping().await.unwrap();
            drop(sender);
            // Nobody can use the connection any more: it ends, and pings say so.
            connection.await.unwrap().unwrap();
            assert!(pinger.ping().await.is_err());
        });
    }
}

#[test]
fn a_lost_connection_breaks_its_calls() {
    run(async {
        let (left, right) = duplex(1 << 16);
        let server = spawn_local(async move {
            let mut connection = server::handshake(right, config()).await.unwrap();
            let _call = connection.accept().await.unwrap().unwrap();
        });
        let (sender, connection) = client::handshake(left, config());
        let connection = spawn_local(connection);
        let client = Client::Ours(sender.clone());
        let broken = client.call("/hang", HeaderMap::new(), vec![data(1)]).await.unwrap_err();
        assert!(matches!(broken, Broken::Other(_) | Broken::ResetByPeer(_)), "{broken:?}");
        assert!(connection.await.unwrap().is_err() && sender.has_room().is_err());
        server.await.unwrap();
    });
}
