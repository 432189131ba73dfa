//! What can be asked of a running federation from the command line?
//!
//! Operators ask a gateway's control port ([`nodes`], [`regions`], [`registry`], [`route`], [`apps`],
//! [`shifts`], [`audit`], [`gateways`], [`console`]) through
//! [`operator`], which goes on to the next gateway when one cannot be reached; what all of them say
//! together ([`survey`]) is what [`top`] and [`status`] show. What operators write in files
//! is read by [`mod@file`]. Past all of that, on a gateway's machine, there is [`breakglass`]. Who runs a node has it checked by [`verify`]. Developers of apps
//! show and verify single codes on the data port ([`code`]). Everything prints a table, or with
//! `-o json` one document whose fields are our own structs and stay as they are.

pub mod apps;
pub mod audit;
pub mod breakglass;
pub mod code;
pub mod console;
pub mod file;
pub mod gateways;
pub mod load;
pub mod nodes;
pub mod operator;
pub mod output;
pub mod qr;
pub mod refusal;
pub mod regions;
pub mod registry;
pub mod route;
pub mod seed;
pub mod shifts;
pub mod status;
pub mod survey;
pub mod top;
pub mod trust;
pub mod verify;
