//! Does the node say how it is, and what it serves?
//!
//! Gateways ask `grpc.health.v1` for every region; an app's developer asks reflection.

use super::{
    ask::{Asker, timed, told, within},
    report::{Question, Report},
    trial::Trial,
};
use suiyue_proto::{region::Code, sy1::Level};
use tonic::Status;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// Services that reflection must list.
const SERVICES: [&str; 3] = ["suiyue.v1.CodeService", "suiyue.v1.StatusService", "grpc.health.v1.Health"];

/// Checks health and reflection; the regions that are ready.
pub(super) async fn check(asker: &Asker, trial: &Trial, report: &mut Report) -> Vec<Code> {
    let whole = health(asker, "").await;
    report.note(asked_health(asker, "health", ""), serving(whole));
    let mut ready = Vec::new();
    for region in trial.regions() {
        let service = format!("suiyue.region.{region}");
        let came = serving(health(asker, &service).await);
        let is_ready = came.is_ok();
        report.note(asked_health(asker, &format!("health {region}"), &service), came);
        if is_ready {
            ready.push(region);
        } else {
            not_ready(asker, trial, region, report).await;
        }
    }
    let nowhere = "suiyue.region.000000";
    let came = match health(asker, nowhere).await {
        Err(status) if status.code() == tonic::Code::NotFound => Ok("NOT_FOUND".to_owned()),
        Err(status) => Err(told(&status)),
        Ok(status) => Err(status.as_str_name().to_owned()),
    };
    let mut question = asked_health(asker, "health unknown", nowhere);
    "NOT_FOUND: a name that is no service of the node".clone_into(&mut question.expected);
    report.note(question, came);
    reflection(asker, report).await;
    ready
}

async fn health(asker: &Asker, service: &str) -> Result<ServingStatus, Status> {
    let message = HealthCheckRequest { service: service.to_owned() };
    let mut client = HealthClient::new(asker.channel.clone());
    within(client.check(timed(message))).await.map(|answer| answer.status())
}

fn serving(came: Result<ServingStatus, Status>) -> Result<String, String> {
    match came {
        Ok(ServingStatus::Serving) => Ok("SERVING".to_owned()),
        Ok(other) => Err(other.as_str_name().to_owned()),
        Err(status) => Err(told(&status)),
    }
}

fn asked_health(asker: &Asker, name: &str, service: &str) -> Question {
    let message = serde_json::json!({ "service": service });
    Question {
        name: name.to_owned(),
        asked: format!("health of {service:?}"),
        expected: "SERVING".to_owned(),
        request: asker.grpcurl("grpc.health.v1.Health/Check", &message),
    }
}

/// A node that is not ready says so to calls too: a holder is never unknown because nothing is loaded.
async fn not_ready(asker: &Asker, trial: &Trial, region: Code, report: &mut Report) {
    let Some(holder) = Level::ALL.into_iter().find_map(|level| trial.some(region, level).pop()) else {
        return;
    };
    let question = Question {
        name: format!("not ready {region}"),
        asked: "ShowCode of a test holder while health does not say SERVING".to_owned(),
        expected: "UNAVAILABLE, or the code".to_owned(),
        request: asker.show_line(&holder),
    };
    let came = match asker.show(&holder).await {
        Ok(_) => Ok("a code".to_owned()),
        Err(status) if status.code() == tonic::Code::Unavailable => Ok(told(&status)),
        Err(status) => Err(told(&status)),
    };
    report.note(question, came);
}

async fn reflection(asker: &Asker, report: &mut Report) {
    let question = Question {
        name: "reflection".to_owned(),
        asked: "list of services, grpc.reflection.v1".to_owned(),
        expected: format!("{} among them", SERVICES.join(", ")),
        request: format!("grpcurl -plaintext {} list", asker.address),
    };
    let came = match listed(asker).await {
        Err(status) => Err(told(&status)),
        Ok(services) => {
            let missing: Vec<_> =
                SERVICES.into_iter().filter(|wanted| !services.iter().any(|s| s == wanted)).collect();
            match missing.is_empty() {
                true => Ok(services.join(", ")),
                false => Err(format!("{} missing; there are {}", missing.join(", "), services.join(", "))),
            }
        }
    };
    report.note(question, came);
}

async fn listed(asker: &Asker) -> Result<Vec<String>, Status> {
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(asker.channel.clone());
    let mut answers = within(client.server_reflection_info(timed(futures_util::stream::iter([ask])))).await?;
    let answer = answers.message().await?.and_then(|answer| answer.message_response);
    match answer {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => Err(Status::internal(format!("no list of services: {other:?}"))),
    }
}
