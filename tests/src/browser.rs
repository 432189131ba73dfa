//! How does a test open the web console without a browser?
//!
//! Requests as a browser makes them, one a connection, with the cookies that were set; what scripts and
//! screens do is asked in a real browser (`tests/browser`). Streams of events are read until a text has come.

use crate::eventually::ends;
use anyhow::{Context as _, ensure};
use std::{fmt::Write as _, net::SocketAddr, sync::Arc};
use suiyue_proto::identity::{Identity, tls};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Somebody at a browser.
#[derive(Default)]
pub struct Browser {
    address: Option<SocketAddr>,
    tls: Option<TlsConnector>,
    /// Cookies by name.
    pub cookies: Vec<(String, String)>,
    /// The secret of the last form that was seen.
    pub csrf: String,
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Debug)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// Headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The text.
    pub text: String,
}

impl Page {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The value of a field that the page has.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.text.split_once(&format!("name=\"{name}\" value=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    }
}

/// A stream that can be read and written.
trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

impl Browser {
    /// Somebody without anything, at an admin port.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }

    /// The same with a certificate, over TLS.
    #[must_use]
    pub fn certified(address: SocketAddr, own: &Identity) -> Self {
        let config = tls::client(own, Arc::new(own.clone()), Arc::new(|_| true));
        let mut config = rustls::ClientConfig::clone(&config);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: Some(TlsConnector::from(Arc::new(config))), ..Self::at(address) }
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Both>> {
        let socket = TcpStream::connect(self.address.context("an address")?).await?;
        Ok(match &self.tls {
            None => Box::new(socket),
            Some(tls) => Box::new(tls.connect(tls::no_name(), socket).await?),
        })
    }

    fn head(&self, method: &str, path: &str, extra: &[(&str, &str)]) -> anyhow::Result<String> {
        let address = self.address.context("an address")?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            write!(head, "cookie: {}\r\n", cookies.join("; "))?;
        }
        for (name, value) in extra {
            write!(head, "{name}: {value}\r\n")?;
        }
        Ok(head)
    }

    async fn ask(&mut self, request: String) -> anyhow::Result<Page> {
        let mut stream = self.connect().await?;
        let answered = async {
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            // A TLS connection may be closed without a word.
            if let Err(error) = stream.read_to_end(&mut answer).await {
                ensure!(!answer.is_empty(), error);
            }
            Ok(answer)
        };
        let answer = String::from_utf8(ends("an answer of the console", answered).await??)?;
        let page = parse(&answer)?;
        for (_, cookie) in page.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) =
                cookie.split(';').next().and_then(|pair| pair.split_once('=')).context("a cookie")?;
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        if let Some(csrf) = page.field("csrf") {
            csrf.clone_into(&mut self.csrf);
        }
        Ok(page)
    }

    /// Opens a page.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Page> {
        self.get_with(path, &[]).await
    }

    /// The same with more headers.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Page> {
        let head = self.head("GET", path, headers)?;
        self.ask(head + "\r\n").await
    }

    /// Sends a form with the secret of the last page.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&mut self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Page> {
        let csrf = self.csrf.clone();
        let fields = [&[("csrf", csrf.as_str())], fields].concat();
        self.post(path, &fields, &[("sec-fetch-site", "same-origin")]).await
    }

    /// Sends a form as it stands.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Page> {
        let body = query(fields);
        let length = body.len().to_string();
        let kind = [("content-type", "application/x-www-form-urlencoded"), ("content-length", &length)];
        let head = self.head("POST", path, &[&kind[..], headers].concat())?;
        self.ask(format!("{head}\r\n{body}")).await
    }

    /// Opens a stream of events.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn listen(&self, path: &str) -> anyhow::Result<Events> {
        let mut stream = self.connect().await?;
        stream.write_all((self.head("GET", path, &[])? + "\r\n").as_bytes()).await?;
        Ok(Events { stream, heard: Vec::new() })
    }
}

/// Fields as a form or a query has them.
#[must_use]
pub fn query(fields: &[(&str, &str)]) -> String {
    let escaped = |text: &str| {
        text.bytes().fold(String::new(), |mut all, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => all.push(byte.into()),
                _ => all.push_str(&format!("%{byte:02X}")),
            }
            all
        })
    };
    fields
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect::<Vec<_>>()
        .join("&")
}

fn parse(answer: &str) -> anyhow::Result<Page> {
    let (head, text) = answer.split_once("\r\n\r\n").context("a head and a body")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("a status")?.parse()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Page { status, headers: lines.filter_map(header).collect(), text: text.to_owned() })
}

/// A stream of events.
pub struct Events {
    stream: Box<dyn Both>,
    heard: Vec<u8>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("heard", &self.heard.len()).finish_non_exhaustive()
    }
}

impl Events {
    /// Reads until a text has come; all that has come since the last time.
    ///
    /// # Errors
    /// The stream ends before.
    pub async fn until(&mut self, text: &str) -> anyhow::Result<String> {
        let reading = async {
            loop {
                let heard = String::from_utf8_lossy(&self.heard).into_owned();
                if heard.contains(text) {
                    self.heard.clear();
                    return Ok(heard);
                }
                let read = self.stream.read_buf(&mut self.heard).await?;
                ensure!(read > 0, "the stream ended without {text:?}: {heard}");
            }
        };
        ends(&format!("{text:?} in the stream"), reading).await?
    }
}
