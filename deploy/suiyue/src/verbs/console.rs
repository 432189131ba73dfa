//! How does an operator get into a gateway's web console? (`suiyue console`)
//!
//! With an address that holds a token behind `#`, where no server and no log sees it. It stands alone on
//! stdout, to be opened; what else there is to know goes to stderr.

use super::{
    operator::{Operator, checked},
    output::{self, Format},
};
use crate::cli::{Account, Console};
use serde::Serialize;
use std::net::SocketAddr;
use suiyue_proto::{identity::Role, v1::MintConsoleTokenResponse};

/// The document of `console token -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// Opens the console, once.
    pub url: String,
    /// Until when, in UTC.
    pub expires: String,
    /// Who signs in with it.
    pub actor: String,
    /// In which role.
    pub role: String,
    /// The console asks for a new token after so many seconds.
    pub session_s: u32,
}

impl From<MintConsoleTokenResponse> for Document {
    fn from(minted: MintConsoleTokenResponse) -> Self {
        Self {
            url: url(&minted.address, &minted.token),
            expires: super::audit::utc(minted.expires_unix_ms),
            actor: minted.actor,
            role: minted.role,
            session_s: minted.session_s,
        }
    }
}

/// Where a token opens the console. An address that is not of this machine takes TLS only.
#[must_use]
pub fn url(address: &str, token: &str) -> String {
    let here = address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
    let scheme = if here { "http" } else { "https" };
    format!("{scheme}://{address}/console/sign-in#{token}")
}

/// Runs one of the verbs.
///
/// # Errors
/// [`crate::exit::Guarded`] where the gateway refuses, another one when none can be reached.
pub async fn run(verb: &Console) -> anyhow::Result<()> {
    let Console::Token { ask, role, actor } = verb;
    let account = Account { actor: actor.clone(), reason: None };
    checked(&account)?;
    let mut operator = Operator::connect(&ask.gateways()).await?;
    operator.on_account(&account)?;
    let minted = operator.mint_console_token(role.map_or("", Role::as_str)).await?;
    let document = Document::from(minted);
    if ask.output == Format::Json {
        return output::json(&document);
    }
    eprintln!(
        "opens the console once, until {}, for {} ({}); after {} it asks again",
        document.expires,
        document.actor,
        document.role,
        output::age(u64::from(document.session_s) * 1_000),
    );
    output::line(&document.url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_behind_the_hash_and_in_the_clear_on_this_machine_only() {
        assert_eq!(url("127.0.0.1:8442", "ab12"), "http://127.0.0.1:8442/console/sign-in#ab12");
        assert_eq!(url("[::1]:8442", "ab12"), "http://[::1]:8442/console/sign-in#ab12");
        assert_eq!(url("10.0.0.1:8442", "ab12"), "https://10.0.0.1:8442/console/sign-in#ab12");
    }
}
