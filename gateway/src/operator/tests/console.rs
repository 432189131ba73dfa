//! Who gets a token for the console.

use super::*;
use crate::audit::actor::{Actor, Role as OperatorRole};

fn asked(role: &str, actor: Option<Actor>) -> Request<v1::MintConsoleTokenRequest> {
    let mut request = Request::new(v1::MintConsoleTokenRequest { role: role.to_owned() });
    if let Some(actor) = actor {
        request.extensions_mut().insert(actor);
    }
    request
}

#[tokio::test]
async fn a_token_is_for_the_caller_in_its_role_or_a_lesser_one() {
    let gateway = Gateway::start().await;
    let wang = || Some(Actor::local("wang"));
    let mint = async |role, actor| {
        gateway.operator.mint_console_token(asked(role, actor)).await.map(Response::into_inner)
    };
    let own = mint("", wang()).await.unwrap();
    assert_eq!((&*own.actor, &*own.role, &*own.address), ("wang", "operator", "127.0.0.1:8442"));
    assert!(own.expires_unix_ms > 0 && own.session_s == 3600);
    assert_eq!(gateway.operator.doors.redeem(&own.token).map(|guest| guest.actor), wang());
    let lesser = mint("viewer", wang()).await.unwrap();
    assert_eq!(gateway.operator.doors.redeem(&lesser.token).unwrap().actor.role, OperatorRole::Viewer);
    refused(mint("approver", wang()).await, Reason::RoleInsufficient, &[("needed", "approver")]);
    refused(mint("king", wang()).await, Reason::FieldInvalid, &[("field", "role")]);
    refused(mint("", None).await, Reason::IdentityRequired, &[]);
}
