use super::*;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn health_says_which_regions_are_loaded_and_when_the_node_leaves() {
    let node = Node::start(YUEKANG).await;
    let mut health = HealthClient::new(node.channel.clone());
    let request = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for (service, expected) in [
        ("", ServingStatus::Serving),
        ("suiyue.region.440100", ServingStatus::Serving),
        ("suiyue.region.440000", ServingStatus::NotServing),
    ] {
        let status = health.check(request(service)).await.unwrap().into_inner().status();
        assert_eq!(status, expected, "{service:?}");
    }
    for service in ["suiyue.region.610100", "suiyue.region.x", "other"] {
        assert_eq!(health.check(request(service)).await.unwrap_err().code(), tonic::Code::NotFound);
    }
    let mut watch = health.watch(request("suiyue.region.440100")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    node.shutdown.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    refused(watch.message().await, Reason::NodeDraining);
    drop(health);
    node.stop().await;
}

#[tokio::test]
async fn a_bad_line_of_holders_stops_the_node_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holders.jsonl");
    std::fs::write(&path, "{\"region\":440100}\n").unwrap();
    let text = format!("region = 440100\nname = \"s\"\n[[holders]]\nfile = {path:?}\n");
    let config = Config::parse("test", &text, &Overrides::default()).unwrap();
    let bound = bind(config).await.unwrap();
    let error = bound.run(CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("holders.jsonl, line 1: "), "{error}");
}

#[tokio::test]
async fn holders_of_a_file_are_served_and_reflection_lists_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holders.jsonl");
    let holder = population::Holder { region: guangzhou(), subject: [3; 16], level: Level::Red };
    let mut lines = Vec::new();
    population::write_line(&mut lines, &holder).unwrap();
    std::fs::write(&path, lines).unwrap();
    let text = format!("region = 440100\nname = \"s\"\n[[holders]]\nfile = {path:?}\n");
    let mut node = Node::start(&text).await;
    assert_eq!(node.show([3; 16]).await.unwrap().level(), v1::Level::Red);

    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(node.channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) =
        answer.message_response
    else {
        panic!("no list of services")
    };
    for name in ["suiyue.v1.CodeService", "suiyue.v1.StatusService", "grpc.health.v1.Health"] {
        assert!(service.iter().any(|service| service.name == name), "{name}");
    }
    drop(reflection);
    node.stop().await;
}
