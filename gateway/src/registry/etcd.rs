//! How do we talk to etcd?
//!
//! The only module that knows the client. One client a member, used in turn: a call that could not
//! reach its member moves everybody on to the next one, which a balanced channel over all members
//! would not do. Each error of the client is classed here (`errors`); above it nobody has to know
//! what etcd's words mean.
//!
//! A watch advances only on events and on the store's periodic progress: a *requested* progress may run
//! ahead of events before etcd 3.4.25 and 3.5.8, so that it is no more than a sign of life.
//! Each keep-alive is a stream of its own, because the client's streams end and stay ended.

mod errors;
mod watching;

use super::{Entry, Error, Listing, Outcome, Registry, Txn, Update};
use crate::config::EtcdTls;
use errors::{class_read, class_write};
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, KeyValue, PutOptions,
    TlsOptions, TxnOp, TxnOpResponse,
};
use futures_util::future::{BoxFuture, FutureExt as _};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};

/// A member that does not answer a call within this time is left.
const CALL_WITHIN: Duration = Duration::from_secs(3);
/// A connection is made within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// HTTP/2 keep-alive: below 5 s etcd drops the connection; without it a frozen member is not noticed.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));
/// Entries of a page.
const PAGE: i64 = 500;
/// Bytes of an answer that are taken; a page that is larger is asked for in halves.
const MAX_ANSWER: usize = 32 << 20;

/// An etcd cluster.
pub struct Etcd {
    members: Vec<Client>,
    /// The member in use.
    current: Arc<AtomicUsize>,
    /// The cluster that answered last; 0: none yet.
    cluster: AtomicU64,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Gets ready to talk to the members, e.g. `http://127.0.0.1:2379`. Connections are made when
    /// they are needed: an etcd that is away now is no error.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no endpoint, or one is no address.
    pub async fn connect<E: AsRef<str>>(endpoints: &[E]) -> Result<Self, Error> {
        Self::connect_with(endpoints, None).await
    }

    /// The same over TLS, where `tls` is given and the members are `https://`. The files behind it are
    /// read once: connections to etcd outlive certificates.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub async fn connect_with<E: AsRef<str>>(endpoints: &[E], tls: Option<&EtcdTls>) -> Result<Self, Error> {
        let mut options = ConnectOptions::new()
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_connect_timeout(CONNECT_WITHIN)
            .with_require_leader(true);
        if let Some(tls) = tls {
            let mut wanted = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
            if let Some((cert, key)) = &tls.client {
                wanted = wanted.identity(Identity::from_pem(cert, key));
            }
            options = options.with_tls(wanted);
        }
        let mut members = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let client = Client::connect([endpoint.as_ref()], Some(options.clone())).await;
            members.push(client.map_err(|e| Error::Refused(format!("{}: {e}", endpoint.as_ref())))?);
        }
        if members.is_empty() {
            return Err(Error::Refused("no endpoint of etcd is given".to_owned()));
        }
        Ok(Self { members, current: Arc::default(), cluster: AtomicU64::new(0) })
    }

    /// One call at the member in use. If that cannot be reached the next caller gets the next one.
    async fn call<T, F: Future<Output = Result<T, etcd_client::Error>>>(
        &self,
        call: impl FnOnce(Client) -> F,
        class: fn(etcd_client::Error) -> Error,
        late: fn(String) -> Error,
    ) -> Result<T, Error> {
        let at = self.current.load(Ordering::Relaxed);
        let result = match timeout(CALL_WITHIN, call(self.members[at].clone())).await {
            Ok(result) => result.map_err(class),
            Err(_) => Err(late(format!("no answer within {CALL_WITHIN:?}"))),
        };
        if matches!(result, Err(Error::Unreachable(_) | Error::Unknown(_))) {
            self.leave(at);
        }
        result
    }

    /// A call that may be made again without harm: every member is tried once.
    async fn read<T, F: Future<Output = Result<T, etcd_client::Error>>>(
        &self,
        call: impl Fn(Client) -> F,
    ) -> Result<T, Error> {
        let mut tried = 0;
        loop {
            let result = self.call(&call, class_read, Error::Unreachable).await;
            tried += 1;
            if tried == self.members.len() || !matches!(result, Err(Error::Unreachable(_))) {
                return result;
            }
        }
    }

    /// The member cannot be used: go on with the next one, once for all who find out.
    fn leave(&self, at: usize) {
        leave(&self.current, at, self.members.len());
    }

    /// One page from `from` on, at `revision` (0: the newest).
    async fn page(&self, from: &str, end: &str, limit: i64, revision: i64) -> Result<Page, Error> {
        let options = GetOptions::new().with_range(end).with_limit(limit).with_revision(revision);
        let get = |client: Client| {
            let (from, options) = (from.to_owned(), options.clone());
            async move { client.kv_client().max_decoding_message_size(MAX_ANSWER).get(from, Some(options)).await }
        };
        let response = self.read(get).await?;
        let header =
            response.header().ok_or_else(|| Error::Unreachable("an answer without header".to_owned()))?;
        self.cluster.store(header.cluster_id(), Ordering::Relaxed);
        Ok(Page {
            revision: header.revision(),
            more: response.more(),
            entries: response.kvs().iter().map(entry).collect(),
        })
    }

    async fn pages(&self, prefix: &str) -> Result<Listing, Error> {
        let end = range_end(prefix);
        let mut listing = Listing::default();
        let (mut from, mut limit) = (prefix.to_owned(), PAGE);
        loop {
            let page = match self.page(&from, &end, limit, listing.revision).await {
                Ok(page) => page,
                // Too large for one message: large descriptor sets stand side by side.
                Err(Error::Refused(_)) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if listing.revision == 0 {
                listing.revision = page.revision;
            }
            listing.entries.extend(page.entries);
            let Some(last) = listing.entries.last().filter(|_| page.more) else { return Ok(listing) };
            from = format!("{}\0", last.key);
        }
    }

    async fn transact(&self, txn: Txn) -> Result<Outcome, Error> {
        let request = request(&txn);
        let commit =
            self.call(|mut client| async move { client.txn(request).await }, class_write, Error::Unknown);
        let response = commit.await?;
        if response.succeeded() {
            return Ok(Outcome::Committed(
                response.header().map_or(0, etcd_client::ResponseHeader::revision),
            ));
        }
        let mut present = Vec::new();
        for answer in response.op_responses() {
            if let TxnOpResponse::Get(get) = answer {
                present.extend(get.kvs().iter().map(entry));
            }
        }
        Ok(Outcome::Conflict(present))
    }
}

fn leave(current: &AtomicUsize, at: usize, members: usize) {
    let next = (at + 1) % members;
    let _others = current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
}

struct Page {
    revision: i64,
    more: bool,
    entries: Vec<Entry>,
}

fn request(txn: &Txn) -> etcd_client::Txn {
    let compare =
        |(key, revision): &(String, i64)| Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision);
    let put = |(key, value, lease): &(String, bytes::Bytes, i64)| {
        let options = PutOptions::new().with_lease(*lease);
        TxnOp::put(key.as_str(), value.as_ref(), Some(options))
    };
    let writes =
        txn.puts.iter().map(put).chain(txn.deletes.iter().map(|key| TxnOp::delete(key.as_str(), None)));
    let reads = txn.expect.iter().map(|(key, _)| TxnOp::get(key.as_str(), None));
    etcd_client::Txn::new()
        .when(txn.expect.iter().map(compare).collect::<Vec<_>>())
        .and_then(writes.collect::<Vec<_>>())
        .or_else(reads.collect::<Vec<_>>())
}

/// A key that is no text is none of ours; it is shown with what can be shown and quarantined.
fn entry(kv: &KeyValue) -> Entry {
    Entry {
        key: String::from_utf8_lossy(kv.key()).into_owned(),
        value: bytes::Bytes::copy_from_slice(kv.value()),
        mod_revision: kv.mod_revision(),
        lease: kv.lease(),
    }
}

/// The end of the range of keys that begin with `prefix`: its last byte plus one. Our prefixes are
/// ASCII, so that this is text again.
fn range_end(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    let last = end.pop().unwrap_or('\0');
    end.push(char::from_u32(u32::from(last) + 1).unwrap_or(char::MAX));
    end
}

impl Registry for Etcd {
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>> {
        self.pages(prefix).boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: i64,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<Update>, Error>> {
        async move {
            let cluster = self.cluster.load(Ordering::Relaxed);
            let stream = self.read(|client| watching::open(client, prefix.to_owned(), after)).await?;
            // A watch that is lost moves everybody on, too: a member can answer calls and watch nothing.
            let (current, at) = (self.current.clone(), self.current.load(Ordering::Relaxed));
            let members = self.members.len();
            Ok(watching::spawn(stream, after, cluster, move || leave(&current, at, members)))
        }
        .boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, Error>> {
        self.transact(txn).boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<i64, Error>> {
        async move {
            let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1);
            // A lease that was granted unheard runs out by itself.
            Ok(self.read(|mut client| async move { client.lease_grant(ttl, None).await }).await?.id())
        }
        .boxed()
    }

    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            self.read(|client| async move { client.lease_client().keep_alive(lease).await.map(drop) }).await
        }
        .boxed()
    }

    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        async move { self.read(|mut client| async move { client.lease_revoke(lease).await.map(drop) }).await }
            .boxed()
    }

    fn cluster(&self) -> u64 {
        self.cluster.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
pub(crate) mod tests;
