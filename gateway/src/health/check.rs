//! Does an endpoint say that it serves?
//!
//! One task an endpoint asks `grpc.health.v1.Health/Check` for `suiyue.region.CODE` (or opens a TCP
//! connection) every two seconds, at once when a worker doubts the endpoint, and every 200 ms while it
//! is not in rotation. It has a connection of its own, away from the workers.

use super::{State, Vitals};
use crate::table::Check;
use bytes::{BufMut as _, Bytes, BytesMut};
use rand::Rng as _;
use std::{sync::Arc, time::Duration};
use suiyue_proto::region::Code;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// Time between checks of an endpoint in rotation; ± 10 %.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time between checks of an endpoint that is out of rotation.
const RECOVERY_INTERVAL: Duration = Duration::from_millis(200);
/// Out of rotation longer than this, the pace slows down to [`INTERVAL`].
const RECOVERY_SPAN: Duration = Duration::from_secs(60);
/// A check that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(1);

/// Bad checks in a row that take an endpoint out.
const DOWN: u32 = 3;
/// Good checks in a row that settle a doubt, or bring an endpoint back.
const UP: u32 = 2;

/// Outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Serving,
    /// It answers that it does not serve.
    NotServing,
    /// It answers nonsense, or not in time.
    Failing,
    /// Nobody listens at the address.
    Refused,
}

/// What the checks so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// Never checked.
    #[default]
    Fresh,
    /// It serves.
    Up,
    /// Checks fail: calls may know better.
    Failing,
    /// It says itself that it does not serve.
    Leaving,
    /// Nobody listens at the address.
    Gone,
}

impl Standing {
    /// The sentence for a person.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Fresh => "not checked yet",
            Self::Up => "health check passed",
            Self::Failing => "health check failed",
            Self::Leaving => "it says that it does not serve",
            Self::Gone => "connection refused",
        }
    }
}

/// What the checker tells the control task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// What the checks amount to.
    pub standing: Standing,
    /// Two good checks in a row were made when workers had doubted the endpoint so often: these doubts
    /// are settled, later ones are not.
    pub vouched: Option<u32>,
}

/// Follows the verdicts: three bad ones in a row take out, two good ones restore.
#[derive(Debug, Default)]
struct Streak {
    report: Report,
    good: u32,
    bad: u32,
    /// Doubts before the first good check in a row.
    doubts: u32,
}

impl Streak {
    /// The report after one more check, before which there were so many `doubts`. `suspect`: a worker
    /// doubts the endpoint, and one more reason is enough.
    fn after(&mut self, verdict: Verdict, doubts: u32, suspect: bool) -> Report {
        if verdict == Verdict::Serving {
            self.bad = 0;
            if self.good == 0 || self.doubts != doubts {
                (self.good, self.doubts) = (0, doubts);
            }
            self.good += 1;
            // Of what was never checked before the first word counts.
            if self.good >= UP || self.report.standing == Standing::Fresh {
                self.report = Report { standing: Standing::Up, vouched: Some(doubts) };
            }
            return self.report;
        }
        self.good = 0;
        self.bad += 1;
        if self.bad >= DOWN || (suspect && verdict == Verdict::Refused) {
            self.report.standing = match verdict {
                Verdict::NotServing => Standing::Leaving,
                Verdict::Refused => Standing::Gone,
                Verdict::Serving | Verdict::Failing => Standing::Failing,
            };
        }
        self.report
    }
}

/// A connection for checks, opened when needed.
#[derive(Default)]
struct Line(Option<h2::client::SendRequest<Bytes>>);

/// Checks one endpoint for one region until dropped.
pub async fn watch(vitals: Arc<Vitals>, region: Code) {
    if vitals.endpoint.check == Check::None {
        return recover_by_connecting(&vitals).await;
    }
    let (mut streak, mut line) = (Streak::default(), Line::default());
    loop {
        let doubts = vitals.doubts();
        let verdict = timeout(LIMIT, check(&vitals, region, &mut line)).await.unwrap_or(Verdict::Failing);
        if verdict != Verdict::Serving {
            line = Line::default();
        }
        vitals.report(streak.after(verdict, doubts, vitals.state() != State::Ok));
        pause(&vitals).await;
    }
}

/// An endpoint whose configuration forbids checks is doubted no more once it accepts a connection.
async fn recover_by_connecting(vitals: &Vitals) {
    loop {
        vitals.look.notified().await;
        loop {
            let doubts = vitals.doubts();
            match timeout(LIMIT, TcpStream::connect(&*vitals.endpoint.address)).await {
                Ok(Ok(_)) => {
                    vitals.report(Report { standing: Standing::Up, vouched: Some(doubts) });
                    break;
                }
                _ => {
                    vitals.report(Report { standing: Standing::Gone, vouched: None });
                    tokio::time::sleep(RECOVERY_INTERVAL).await;
                }
            }
        }
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
        None => match connect(vitals).await {
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
    match verdict {
        Some(Answer::Serving) => Verdict::Serving,
        Some(Answer::NotServing) => Verdict::NotServing,
        Some(Answer::Unknown) | None => Verdict::Failing,
    }
}

async fn connect(vitals: &Vitals) -> Result<h2::client::SendRequest<Bytes>, Verdict> {
    let socket = TcpStream::connect(&*vitals.endpoint.address).await.map_err(|_| Verdict::Refused)?;
    socket.set_nodelay(true).map_err(|_| Verdict::Failing)?;
    let Some(dialer) = &vitals.dialer else { return shake(socket, std::future::pending()).await };
    let (socket, leaf) = dialer.secure(socket).await.map_err(|_| Verdict::Failing)?;
    let trust = dialer.trust().clone();
    // The next check opens another one, with the certificates of then.
    shake(socket, async move { trust.ends(&leaf).await }).await
}

/// Begins HTTP/2; the connection lasts until the sender is dropped, or until `end`.
async fn shake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    socket: S,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<h2::client::SendRequest<Bytes>, Verdict> {
    let (sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .handshake(socket)
        .await
        .map_err(|_| Verdict::Failing)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = connection => {}
            () = end => {}
        }
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
        b"5" | b"12" => Answer::Unknown,
        _ => Answer::NotServing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks with the doubts before each; expects the last report.
    #[track_caller]
    fn check(verdicts: &[(Verdict, u32)], suspect: bool, expected: (Standing, Option<u32>)) {
        let mut streak = Streak::default();
        let mut report = Report::default();
        for &(verdict, doubts) in verdicts {
            report = streak.after(verdict, doubts, suspect);
        }
        assert_eq!((report.standing, report.vouched), expected, "{verdicts:?}");
    }

    #[test]
    fn checks_take_out_after_three_and_restore_after_two() {
        use {
            Standing::{Gone, Leaving, Up},
            Verdict::*,
        };
        const UP: (Verdict, u32) = (Serving, 0);
        const BAD: (Verdict, u32) = (Failing, 0);
        check(&[UP], false, (Up, Some(0)));
        check(&[UP, BAD, BAD], false, (Up, Some(0)));
        check(&[UP, BAD, BAD, BAD], false, (Standing::Failing, Some(0)));
        check(&[UP, BAD, BAD, UP, BAD], false, (Up, Some(0)));
        check(&[UP, BAD, BAD, BAD, UP], false, (Standing::Failing, Some(0)));
        check(&[UP, BAD, BAD, BAD, UP, UP], false, (Up, Some(0)));
        check(&[UP, (NotServing, 0), (NotServing, 0), (NotServing, 0)], false, (Leaving, Some(0)));
        check(&[UP, (Refused, 0)], false, (Up, Some(0)));
        check(&[(Refused, 0)], true, (Gone, None));
    }

    #[test]
    fn a_doubt_is_settled_by_two_checks_that_began_after_it() {
        use {Standing::Up, Verdict::*};
        check(&[(Serving, 0), (Serving, 0), (Serving, 1)], true, (Up, Some(0)));
        check(&[(Serving, 0), (Serving, 1), (Serving, 1)], true, (Up, Some(1)));
        check(&[(Serving, 0), (Serving, 1), (Failing, 1), (Serving, 1)], true, (Up, Some(0)));
        check(&[(Serving, 0), (Serving, 1), (Serving, 2), (Serving, 3)], true, (Up, Some(0)));
    }
}
