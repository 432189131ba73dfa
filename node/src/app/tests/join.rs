use super::*;
use crate::register::tests::registrar;
use suiyue_proto::v1::Verdict;
use suiyue_proto::v1::register_request::Message as Say;
use suiyue_proto::v1::register_response::Message as Heard;

#[tokio::test]
async fn a_node_registers_learns_the_federations_keys_and_says_goodbye_before_it_drains() {
    let (gateway, mut streams, _end) = registrar().await;
    let text = format!("{SUIKANG}[join]\ngateways = [{gateway:?}]\ntoken = \"t\"\n");
    let mut node = Node::start(&text).await;
    let mut stream = streams.recv().await.unwrap();
    let hello = stream.hello().await;
    let manifest = hello.manifest.unwrap();
    assert_eq!((manifest.node.as_str(), manifest.region), ("suikang", GUANGZHOU));
    assert_eq!((manifest.scopes, hello.endpoint.as_str()), (vec![GUANGZHOU], "suikang-1"));
    assert_eq!((hello.keys.len(), hello.keys[0].regions.as_slice()), (1, &[GUANGZHOU][..]));
    stream.welcome(60_000).await;

    // Another node's code cannot be judged until its key is known.
    let mut other = Node::start(SUIKANG).await;
    let code = other.show(somebody(Level::Green)).await.unwrap().code;
    assert_eq!(node.verify(&code).await.unwrap().result.unwrap().verdict(), Verdict::Unknown);
    let keys = other.parts.keys.verifying().iter().map(v1::VerifyingKey::from).collect();
    stream.say(Heard::Keys(v1::FederationKeys { revision: 1, keys })).await;
    while node.verify(&code).await.unwrap().result.unwrap().verdict() != Verdict::Pass {
        tokio::task::yield_now().await;
    }
    other.stop().await;

    node.shutdown.cancel();
    // Heartbeats may still be under way, the first of them from before the holders were loaded.
    loop {
        if let Say::Report(report) = stream.hear().await
            && report.draining
        {
            assert_eq!(report.ready[0].region, GUANGZHOU);
            break;
        }
    }
    while matches!(stream.hear().await, Say::Report(_)) {}
    assert!(!node.parts.watches.is_cancelled(), "no GOAWAY before the farewell");
    node.show(somebody(Level::Green)).await.unwrap();
    stream.say(Heard::Farewell(v1::Farewell {})).await;
    node.stop().await;
}
