use super::*;
use futures_util::future::join_all;
use std::time::Duration;
use suiyue_proto::metadata;
use suiyue_proto::priority::Cursor;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

/// Four calls at the same time; one place, which each of them takes for longer than anybody waits.
const BUSY: &str = "[admission]\nin_flight_max = 4\n[emulated_work]\nslots = 1\nwork_ms = 300\n";

#[tokio::test]
async fn whoever_is_sent_away_is_told_when_to_come_back_and_health_is_not() {
    let node = Node::start(&format!("{SUIKANG}{BUSY}")).await;
    let calls = join_all((0..12).map(|_| {
        let mut codes = node.codes.clone();
        let subject = somebody(Level::Green).to_vec().into();
        let ask = v1::ShowCodeRequest { region: GUANGZHOU, subject, max_staleness_s: None };
        async move { codes.show_code(ask).await }
    }));
    let mut health = HealthClient::new(node.channel.clone());
    let check = health.check(HealthCheckRequest { service: "suiyue.region.440100".to_owned() });
    let (answers, healthy) = tokio::join!(calls, check);
    assert!(healthy.is_ok(), "{healthy:?}");
    let refusals: Vec<Status> = answers.into_iter().filter_map(Result::err).collect();
    assert!((1..=8).contains(&refusals.len()), "{refusals:?}");
    for status in refusals {
        assert_eq!(Reason::of(&status), Some(Reason::ShedLowPriority), "{status:?}");
        let header = |name: &str| status.metadata().get(name).unwrap().to_str().unwrap();
        let millis: u64 = header(metadata::PUSHBACK.as_str()).parse().unwrap();
        let told = status.get_details_retry_info().unwrap().retry_delay;
        assert_eq!(told, Some(Duration::from_millis(millis)));
        assert!((500..5_000).contains(&millis));
        assert_eq!(header(metadata::ADMIT.as_str()).parse(), Ok(Cursor::OPEN));
    }
    drop(health);
    node.stop().await;
}
