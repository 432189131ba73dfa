//! Does an endpoint say that it serves?
//!
//! One task an endpoint asks `grpc.health.v1.Health/Check` for `suiyue.region.CODE` (or opens a TCP
//! connection) every two seconds, at once when a worker doubts the endpoint, and every 200 ms while it
//! is not in rotation. It has a connection of its own, away from the workers.

use super::{State, Streak, Vitals};
use crate::table::Check;
use bytes::{BufMut as _, Bytes, BytesMut};
use rand::Rng as _;
use std::{sync::Arc, time::Duration};
use suiyue_proto::region::Code;
use tokio::{net::TcpStream, time::timeout};

/// Time between checks of an endpoint in rotation; ± 10 %.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time between checks of an endpoint that is out of rotation.
const RECOVERY_INTERVAL: Duration = Duration::from_millis(200);
/// Out of rotation longer than this, the pace slows down to [`INTERVAL`].
const RECOVERY_SPAN: Duration = Duration::from_secs(60);
/// A check that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(1);

/// Outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Serving,
    /// It answers that it does not serve, answers nonsense, or not in time.
    Failing,
    /// Nobody listens at the address.
    Refused,
}

/// A connection for checks, opened when needed.
#[derive(Default)]
struct Line(Option<h2::client::SendRequest<Bytes>>);

/// Checks one endpoint for one region until dropped.
pub async fn watch(vitals: Arc<Vitals>, region: Code) {
    if vitals.endpoint.check == Check::None {
        return recover_by_connecting(&vitals).await;
    }
    let (mut streak, mut line, mut fresh) = (Streak::default(), Line::default(), true);
    let mut known = vitals.state();
    loop {
        let verdict = timeout(LIMIT, check(&vitals, region, &mut line)).await.unwrap_or(Verdict::Failing);
        if verdict != Verdict::Serving {
            line = Line::default();
        }
        let before = vitals.state();
        if before != known {
            // A worker lost its connection meanwhile: what was heard before does not count.
            streak = Streak::default();
        }
        let after = streak.after(before, verdict, fresh);
        fresh &= verdict != Verdict::Serving;
        if after != before {
            vitals.enter(after, reason(verdict));
        }
        known = after;
        pause(&vitals).await;
    }
}

/// An endpoint whose configuration forbids checks comes back as soon as it accepts a connection.
async fn recover_by_connecting(vitals: &Vitals) {
    loop {
        vitals.look.notified().await;
        while vitals.state() != State::Ok {
            match timeout(LIMIT, TcpStream::connect(&*vitals.endpoint.address)).await {
                Ok(Ok(_)) => {
                    vitals.enter(State::Ok, "connection accepted");
                }
                _ => {
                    vitals.enter(State::Ejected, "connection refused");
                    tokio::time::sleep(RECOVERY_INTERVAL).await;
                }
            }
        }
    }
}

const fn reason(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Serving => "health check passed",
        Verdict::Failing => "health check failed",
        Verdict::Refused => "connection refused",
    }
}

async fn pause(vitals: &Vitals) {
    let (since, _) = vitals.since();
    let recovering = vitals.state() != State::Ok && since.elapsed() < RECOVERY_SPAN;
    let base = if recovering { RECOVERY_INTERVAL } else { INTERVAL };
    let jittered = base.mul_f64(rand::rng().random_range(0.9..1.1));
    tokio::select! {
        () = tokio::time::sleep(jittered) => {}
        // A burst of doubts asks once, and never more often than the recovery pace.
        () = vitals.look.notified(), if !recovering => {}
    }
}

async fn check(vitals: &Vitals, region: Code, line: &mut Line) -> Verdict {
    if vitals.endpoint.check == Check::Tcp {
        return match TcpStream::connect(&*vitals.endpoint.address).await {
            Ok(_) => Verdict::Serving,
            Err(_) => Verdict::Refused,
        };
    }
    let mut sender = match line.0.take() {
        Some(sender) => sender,
        None => match connect(&vitals.endpoint.address).await {
            Ok(sender) => sender,
            Err(verdict) => return verdict,
        },
    };
    let named = ask(&mut sender, &vitals.endpoint.address, &format!("suiyue.region.{region}")).await;
    let verdict = match named {
        // A foreign server knows no services by region: its overall health counts.
        Some(Answer::Unknown) => ask(&mut sender, &vitals.endpoint.address, "").await,
        other => other,
    };
    line.0 = Some(sender);
    if verdict == Some(Answer::Serving) { Verdict::Serving } else { Verdict::Failing }
}

async fn connect(address: &str) -> Result<h2::client::SendRequest<Bytes>, Verdict> {
    let socket = TcpStream::connect(address).await.map_err(|_| Verdict::Refused)?;
    socket.set_nodelay(true).map_err(|_| Verdict::Failing)?;
    let (sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .handshake(socket)
        .await
        .map_err(|_| Verdict::Failing)?;
    // Ends when the sender is dropped.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

#[derive(PartialEq, Eq, Debug)]
enum Answer {
    Serving,
    NotServing,
    Unknown,
}

/// One health call; `None` when the connection or the protocol failed.
async fn ask(sender: &mut h2::client::SendRequest<Bytes>, address: &str, service: &str) -> Option<Answer> {
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .ok()?;
    let mut body = BytesMut::with_capacity(7 + service.len());
    body.put_u8(0);
    body.put_u32(if service.is_empty() { 0 } else { 2 + service.len() as u32 });
    if !service.is_empty() {
        body.put_slice(&[0x0a, service.len() as u8]);
        body.put_slice(service.as_bytes());
    }
    futures_util::future::poll_fn(|cx| sender.poll_ready(cx)).await.ok()?;
    let (response, mut stream) = sender.send_request(request, false).ok()?;
    stream.send_data(body.freeze(), true).ok()?;
    let (head, mut body) = response.await.ok()?.into_parts();
    let mut answer = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        body.flow_control().release_capacity(data.len()).ok()?;
        if answer.len() < 1024 {
            answer.extend_from_slice(&data);
        }
    }
    let trailers = body.trailers().await.ok()?;
    let status =
        trailers.as_ref().and_then(|t| t.get("grpc-status")).or_else(|| head.headers.get("grpc-status"))?;
    Some(match status.as_bytes() {
        // HealthCheckResponse { status = 1 } with SERVING = 1.
        b"0" if answer.get(5..7) == Some(&[0x08, 0x01]) => Answer::Serving,
        // NOT_FOUND: the service name is unknown; UNIMPLEMENTED: there is no health service.
        b"5" | b"12" if !service.is_empty() => Answer::Unknown,
        _ => Answer::NotServing,
    })
}
