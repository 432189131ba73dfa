//! Which command line does `suiyue console` take?

use super::Ask;
use clap::{
    Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use suiyue_proto::identity::Role;

/// `suiyue console`.
#[derive(Debug, Subcommand)]
pub enum Console {
    /// Print an address that opens a gateway's web console, once.
    #[command(after_help = "Examples:
  suiyue console token
  suiyue console token --role viewer                 who opens it sees everything and changes nothing
  suiyue console token --actor li                    li's name stands in the audit
  ssh -N -L 8442:127.0.0.1:8442 GATEWAY              then open the address here

The address is good once, for minutes, at the gateway that was asked, in your own role at most. Without
TLS the console opens on the gateway's machine only; with an operator's certificate in the browser it needs
no token.")]
    Token {
        /// Which gateway's console.
        #[command(flatten)]
        ask: Ask,
        /// Let whoever opens it do less than you may.
        #[arg(long, env = "SUIYUE_ROLE", value_name = "ROLE", value_parser = role())]
        role: Option<Role>,
        /// Who, for the audit; a certificate wins over this.
        #[arg(long, env = "SUIYUE_ACTOR", value_name = "NAME")]
        actor: Option<String>,
    },
}

/// Reads a role, and names all of them in the help.
fn role() -> impl TypedValueParser<Value = Role> {
    let known = [Role::Viewer, Role::Operator, Role::Approver];
    let words = PossibleValuesParser::new(known.map(Role::as_str));
    words.map(|word| word.parse().expect("only words of roles are possible values"))
}
