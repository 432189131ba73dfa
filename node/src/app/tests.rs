//! A whole node on a free port, called by a real client.

mod bad_calls;
mod drain;
mod health;
mod join;
mod overload;
mod scans;
mod status;
mod verdicts;

use super::*;
use crate::config::Overrides;
use crate::population;
use std::sync::atomic::{AtomicI64, Ordering};
use suiyue_proto::reason::Reason;
use suiyue_proto::region::Code;
use suiyue_proto::sy1::Level;
use suiyue_proto::v1::code_service_client::CodeServiceClient;
use suiyue_proto::v1::status_service_client::StatusServiceClient;
use tonic::Status;
use tonic::transport::Channel;

const GUANGZHOU: u32 = 440_100;
const GUANGDONG: u32 = 440_000;
const NOW_MS: i64 = 1_800_000_000_000;
const SUIKANG: &str =
    "region = 440100\nname = \"suikang\"\n[[population]]\nregion = 440100\nholders = 3000\n";
const YUEKANG: &str = "region = 440000\nname = \"yuekang\"\nscopes = [440000, 440100]\n\
    [[population]]\nregion = 440100\nholders = 3000\n\
    [[authority]]\nregion = 440100\nnode = \"suikang\"\n";

/// A node under test.
struct Node {
    codes: CodeServiceClient<Channel>,
    statuses: StatusServiceClient<Channel>,
    channel: Channel,
    clock: Arc<AtomicI64>,
    parts: Parts,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Node {
    /// Starts a node and waits until it is ready.
    async fn start(text: &str) -> Self {
        let (clock, hand) = Clock::manual(NOW_MS);
        let config = Config::parse("test", text, &Overrides::default()).unwrap();
        Self::run(bind_at(config, clock).await.unwrap(), hand).await
    }

    /// Starts a node over a store of the test's.
    async fn with_store(text: &str, store: Arc<dyn store::Store>) -> Self {
        let (clock, hand) = Clock::manual(NOW_MS);
        let config = Config::parse("test", text, &Overrides::default()).unwrap();
        let (parts, store_thread) = parts::assemble(&config, clock, store).unwrap();
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let manifest = manifest(&config);
        Self::run(Bound { config, listener, address, parts, manifest, store_thread }, hand).await
    }

    async fn run(bound: Bound, clock: Arc<AtomicI64>) -> Self {
        let (address, mut ready) = (bound.address(), bound.readiness());
        // The test's share of the parts must not keep the store's thread alive.
        let parts = bound.parts.clone();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(bound.run(shutdown.clone()));
        ready.wait_for(|state| state.loaded).await.unwrap();
        let channel = connect(address).await;
        Self {
            codes: CodeServiceClient::new(channel.clone()),
            statuses: StatusServiceClient::new(channel.clone()),
            channel,
            clock,
            parts,
            shutdown,
            task,
        }
    }

    /// Drains the node and waits for its end.
    async fn stop(self) {
        self.shutdown.cancel();
        drop((self.codes, self.statuses, self.channel, self.parts));
        self.task.await.unwrap().unwrap();
    }

    fn pass_seconds(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    async fn show(&mut self, subject: [u8; 16]) -> Result<v1::ShowCodeResponse, Status> {
        let subject = subject.to_vec().into();
        let request = v1::ShowCodeRequest { region: GUANGZHOU, subject, max_staleness_s: None };
        Ok(self.codes.show_code(request).await?.into_inner())
    }

    async fn verify(&mut self, code: &str) -> Result<v1::VerifyCodeResponse, Status> {
        let request = v1::VerifyCodeRequest {
            region: GUANGZHOU,
            code: code.to_owned(),
            request_id: vec![1; 16].into(),
            max_staleness_s: None,
        };
        Ok(self.codes.verify_code(request).await?.into_inner())
    }

    async fn commit(
        &mut self,
        subject: [u8; 16],
        level: Level,
        id: u8,
    ) -> Result<v1::CommitStatusResponse, Status> {
        let request = v1::CommitStatusRequest {
            region: GUANGZHOU,
            subject: subject.to_vec().into(),
            level: level.number().into(),
            reason: "test-overdue".to_owned(),
            request_id: vec![id; 16].into(),
        };
        Ok(self.statuses.commit_status(request).await?.into_inner())
    }

    async fn status(&mut self, subject: [u8; 16]) -> Result<v1::GetStatusResponse, Status> {
        let subject = subject.to_vec().into();
        let request = v1::GetStatusRequest { region: GUANGZHOU, subject, max_staleness_s: None };
        Ok(self.statuses.get_status(request).await?.into_inner())
    }
}

async fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn guangzhou() -> Code {
    Code::new(GUANGZHOU).unwrap()
}

/// A holder of the generated population who has this level.
fn somebody(level: Level) -> [u8; 16] {
    let holders = (0..3000).map(|index| population::holder(guangzhou(), index, 1));
    holders.filter(|holder| holder.level == level).map(|holder| holder.subject).next().unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, reason: Reason) -> Status {
    let status = answer.unwrap_err();
    assert_eq!(Reason::of(&status), Some(reason), "{status:?}");
    status
}
