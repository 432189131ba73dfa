//! What does a city's own system look like that knows nothing of us?
//!
//! An HTTP/JSON server with the habits of such systems: errors come with HTTP 200 and a number, levels
//! and cities have Chinese names, one method sends numbers where another sends strings. It counts what
//! it is asked. A test can make it slow, failing, garbled, or away, and back.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rand::Rng as _;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use suiyue_node::population::{self, Subject};
use suiyue_proto::{region::Code, sy1::Level};
use tokio::{net::TcpListener, sync::watch};

/// Its codes begin with this.
pub const PREFIX: &str = "GZ2020:";
/// Its codes are good for so long.
const TTL_MS: i64 = 120_000;

/// What is wrong with it at present.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ills {
    /// Every answer takes so long.
    pub slow_ms: u64,
    /// Every answer but that about its health is HTTP 500.
    pub fails: bool,
    /// Every answer but that about its health is a page for people.
    pub garbled: bool,
    /// Every holder has a level that nobody has heard of.
    pub blue: bool,
    /// Every answer is HTTP 200 with an error number that nobody has heard of.
    pub odd_error: bool,
    /// It says that it is not well.
    pub unwell: bool,
}

/// What it was asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// When, by path.
    pub at: Vec<(Instant, String)>,
}

impl Asked {
    /// Requests to this path.
    #[must_use]
    pub fn of(&self, path: &str) -> usize {
        self.at.iter().filter(|(_, asked)| asked == path).count()
    }

    /// The most requests within any second.
    #[must_use]
    pub fn most_in_a_second(&self) -> usize {
        let second = Duration::from_secs(1);
        let from = |at: usize| {
            let until = self.at[at].0 + second;
            self.at[at..].iter().take_while(|(when, _)| *when < until).count()
        };
        (0..self.at.len()).map(from).max().unwrap_or(0)
    }
}

#[derive(Default)]
struct Inside {
    holders: HashMap<Subject, Level>,
    codes: HashMap<u64, (Subject, i64)>,
    ills: Ills,
    asked: Asked,
}

/// A running one. It is away when it is dropped.
pub struct OldSystem {
    /// Where it serves.
    pub address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    running: Option<watch::Sender<()>>,
}

impl OldSystem {
    /// Guangzhou's, with so many holders of the generated population.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(holders: u64, seed: u64) -> anyhow::Result<Self> {
        let guangzhou = Code::new(crate::region::GUANGZHOU).context("a region")?;
        let all = (0..holders).map(|index| population::holder(guangzhou, index, seed));
        let inside = Inside { holders: all.map(|h| (h.subject, h.level)).collect(), ..Inside::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut system = Self { address, inside: Arc::new(Mutex::new(inside)), running: None };
        system.serve(listener);
        Ok(system)
    }

    /// Makes it sick in these ways and no others.
    pub fn arrange(&self, ills: Ills) {
        lock(&self.inside).ills = ills;
    }

    /// What it was asked since the last time.
    #[must_use]
    pub fn asked(&self) -> Asked {
        std::mem::take(&mut lock(&self.inside).asked)
    }

    /// It goes away, with all connections.
    pub fn go(&mut self) {
        self.running = None;
    }

    /// It comes back on its port.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn come_back(&mut self) -> anyhow::Result<()> {
        let listener = crate::eventually::eventually("the port is free again", async || {
            Ok(TcpListener::bind(self.address).await?)
        });
        let listener = listener.await?;
        self.serve(listener);
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener) {
        let (running, mut end) = watch::channel(());
        let inside = self.inside.clone();
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    _ = end.changed() => return,
                    Ok((stream, _)) = listener.accept() => stream,
                };
                let (inside, mut end) = (inside.clone(), end.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(inside.clone(), request));
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        _ = end.changed() => {}
                        _ = serving => {}
                    }
                });
            }
        });
        self.running = Some(running);
    }
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answer = Response<Full<Bytes>>;

async fn answer(inside: Arc<Mutex<Inside>>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let ills = {
        let mut inside = lock(&inside);
        inside.asked.at.push((Instant::now(), head.uri.path().to_owned()));
        inside.ills
    };
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if ills.slow_ms > 0 {
        tokio::time::sleep(Duration::from_millis(ills.slow_ms)).await;
    }
    if head.uri.path() == "/health" {
        let status = if ills.unwell { "DOWN" } else { "UP" };
        return Ok(document(&json!({ "status": status })));
    }
    if ills.fails {
        let mut page = Response::new(Full::from("<html>500 java.lang.NullPointerException</html>"));
        *page.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(page);
    }
    if ills.garbled {
        return Ok(Response::new(Full::from("<html>系统维护中</html>")));
    }
    if ills.odd_error {
        return Ok(document(&json!({ "errcode": 77777, "msg": "未知错误" })));
    }
    let sent: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let said = match (&head.method, head.uri.path()) {
        (&Method::POST, "/api/v2/qr") => show(&mut lock(&inside), &sent),
        (&Method::POST, "/api/v2/scan") => scan(&lock(&inside), &sent),
        (&Method::GET, "/api/v2/person") => person(&lock(&inside), head.uri.query().unwrap_or("")),
        _ => {
            let mut nothing = document(&json!({ "error": "Not Found" }));
            *nothing.status_mut() = StatusCode::NOT_FOUND;
            return Ok(nothing);
        }
    };
    Ok(document(&said))
}

fn document(value: &Value) -> Answer {
    let mut answer = Response::new(Full::from(value.to_string()));
    let kind = hyper::header::HeaderValue::from_static("application/json;charset=UTF-8");
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    answer
}

fn error(number: u32, words: &str) -> Value {
    json!({ "errcode": number, "msg": words, "data": null })
}

fn color(level: Level, ills: Ills) -> &'static str {
    match level {
        _ if ills.blue => "蓝码",
        Level::Green => "绿码",
        Level::Yellow => "黄码",
        Level::Red => "红码",
    }
}

fn show(inside: &mut Inside, sent: &Value) -> Value {
    if sent["city"] != "广州市" {
        return error(40001, "城市错误");
    }
    let subject = sent["uid"].as_str().and_then(population::unhex);
    let Some((subject, level)) = subject.and_then(|s| Some((s, *inside.holders.get(&s)?))) else {
        return error(40401, "无此用户");
    };
    let (id, now) = (rand::rng().random::<u64>() >> 1, now_ms());
    inside.codes.insert(id, (subject, now));
    let qr = format!("{PREFIX}{id:016x}{:08x}", check(id));
    json!({ "errcode": 0, "msg": "成功", "data": { "qr": qr, "color": color(level, inside.ills), "ts": now } })
}

fn scan(inside: &Inside, sent: &Value) -> Value {
    let text = sent["qr"].as_str().and_then(|text| text.strip_prefix(PREFIX)).unwrap_or("");
    let parts = text.split_at_checked(16).filter(|(_, rest)| rest.len() == 8);
    let number = |part: &str| u64::from_str_radix(part, 16).ok();
    let read = parts.and_then(|(id, sum)| Some((number(id)?, number(sum)?)));
    let Some((id, _)) = read.filter(|(id, sum)| *sum == u64::from(check(*id))) else {
        return error(50001, "二维码无效");
    };
    let Some((subject, made)) = inside.codes.get(&id) else { return error(50002, "二维码过期") };
    if now_ms() > made + TTL_MS {
        return error(50002, "二维码过期");
    }
    let Some(level) = inside.holders.get(subject) else { return error(40401, "无此用户") };
    let color = color(*level, inside.ills);
    json!({ "errcode": 0, "data": {
        "color": color, "city": "广州市", "why": "", "made": made, "ends": (made + TTL_MS).to_string(),
    } })
}

fn person(inside: &Inside, query: &str) -> Value {
    let uid = query.split('&').find_map(|field| field.strip_prefix("uid="));
    let level = uid.and_then(population::unhex).and_then(|subject| inside.holders.get(&subject));
    match level {
        None => error(40401, "无此用户"),
        // Here the number is a string, and so is the time.
        Some(level) => json!({ "errcode": "0", "data": {
            "color": color(*level, inside.ills), "since": "1700000000", "why": "TEST OVERDUE",
        } }),
    }
}

/// What makes one of its codes hard to guess; it keeps the ids that it has given out besides.
fn check(id: u64) -> u32 {
    let mixed = (id ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 32) as u32
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
