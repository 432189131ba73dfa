//! Who may call what? (`suiyue app …`)
//!
//! Tokens are drawn here and printed here: the gateway and the registry get their hashes only.

use super::{
    audit,
    operator::Operator,
    output::{self, Format},
    refusal,
};
use crate::{
    cli::{Account, AddApp, App, Ask},
    exit::Guarded,
};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde::Serialize;
use suiyue_gateway::apps::token::{self, Hash};
use suiyue_proto::{
    reason::Reason,
    v1::{AppGrant, AppInfo, AppQuota, ChangeAppResponse, RevokeAppRequest, RotateAppRequest, SetAppRequest},
};
use tonic::Status;

/// Runs one of the verbs.
///
/// # Errors
/// [`Guarded`] where the gateway refuses, another one when no gateway or registry can be reached.
pub async fn run(verb: &App) -> anyhow::Result<()> {
    match verb {
        App::Add(flags) => add(flags).await,
        App::List { ask } => list(ask).await,
        App::Describe { ask, app } => describe(ask, app).await,
        App::Rotate { ask, app, keep_old_s, dry_run, account } => {
            let token = draw()?;
            let asked = RotateAppRequest {
                app: app.clone(),
                token_sha256: hash(&token),
                keep_old_s: *keep_old_s,
                expected_revision: 0,
                dry_run: *dry_run,
            };
            let mut operator = operator(ask, account).await?;
            let answer = operator.rotate_app(asked).await;
            let answer = judged(&operator, "RotateApp", *dry_run, answer)?;
            tell(ask.output, &Document::new(&answer, *dry_run, Some(token)))
        }
        App::Revoke { ask, app, delete, dry_run, account } => {
            let asked = RevokeAppRequest {
                app: app.clone(),
                delete: *delete,
                expected_revision: 0,
                dry_run: *dry_run,
            };
            let mut operator = operator(ask, account).await?;
            let answer = operator.revoke_app(asked).await;
            let answer = judged(&operator, "RevokeApp", *dry_run, answer)?;
            tell(ask.output, &Document::new(&answer, *dry_run, None))
        }
    }
}

/// The document of `app add`, `app rotate` and `app revoke` with `-o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The gateway that answered.
    pub gateway: String,
    /// The app.
    pub app: String,
    /// Revision of the grant now; with `dry_run` of the one that would be replaced.
    pub revision: i64,
    /// Nothing was to be written.
    pub dry_run: bool,
    /// The registry was written.
    pub written: bool,
    /// The new token; absent: it has none, or keeps the one that it had.
    pub token: Option<String>,
    /// Until when the token before is good, in milliseconds since 1970-01-01 UTC; 0: not any more.
    pub previous_until_unix_ms: i64,
    /// What is allowed but may not be meant.
    pub warnings: Vec<String>,
}

impl Document {
    fn new(answer: &ChangeAppResponse, dry_run: bool, token: Option<String>) -> Self {
        Self {
            gateway: answer.gateway.clone(),
            app: answer.app.clone(),
            revision: answer.revision,
            dry_run,
            written: answer.written,
            // A token that is good for nothing is not shown.
            token: token.filter(|_| answer.written),
            previous_until_unix_ms: answer.previous_until_unix_ms,
            warnings: answer.warnings.clone(),
        }
    }
}

async fn operator(ask: &Ask, account: &Account) -> anyhow::Result<Operator> {
    let mut operator = Operator::connect(&ask.gateways()).await?;
    operator.on_account(account)?;
    Ok(operator)
}

fn draw() -> anyhow::Result<String> {
    token::draw().ok().context("the system gives no random numbers")
}

fn hash(token: &str) -> Bytes {
    Bytes::copy_from_slice(&Hash::of(token.as_bytes()).0)
}

async fn add(flags: &AddApp) -> anyhow::Result<()> {
    let mut operator = operator(&flags.ask, &flags.account).await?;
    let present = match flags.replace {
        false => None,
        true => {
            let found = operator.apps(&flags.app).await;
            let found = found.map_err(|status| refused(&operator, "ListApps", &status))?;
            found.apps.into_iter().next()
        }
    };
    let certified = |info: &AppInfo| info.grant.as_ref().is_some_and(|grant| !grant.certificate.is_empty());
    let keeps = present.as_ref().is_some_and(|info| !info.token_fingerprint.is_empty() || certified(info));
    let token = if flags.certificate.is_some() || keeps { None } else { Some(draw()?) };
    let asked = SetAppRequest {
        app: flags.app.clone(),
        grant: Some(grant(flags, token.as_deref())),
        expected_revision: present.map_or(0, |info| info.revision),
        dry_run: flags.dry_run,
    };
    let answer = operator.set_app(asked).await;
    let answer = judged(&operator, "SetApp", flags.dry_run, answer)?;
    tell(flags.ask.output, &Document::new(&answer, flags.dry_run, token))
}

fn grant(flags: &AddApp, token: Option<&str>) -> AppGrant {
    let (rps, burst_s, in_flight_max) = (flags.rps, flags.burst_s, flags.in_flight);
    let limited = rps.is_some() || burst_s.is_some() || in_flight_max.is_some();
    AppGrant {
        token_sha256: token.map_or_else(Bytes::new, hash),
        certificate: flags.certificate.clone().unwrap_or_default(),
        methods: flags.methods.clone(),
        classes: flags.classes.iter().map(|class| class.to_proto().into()).collect(),
        regions: flags.regions.clone(),
        quota: limited.then_some(AppQuota { rps, burst_s, in_flight_max }),
        note: flags.note.clone(),
        ..Default::default()
    }
}

fn judged(
    operator: &Operator,
    method: &str,
    dry_run: bool,
    answer: Result<ChangeAppResponse, Status>,
) -> anyhow::Result<ChangeAppResponse> {
    answer.map_err(|status| {
        let status = if dry_run { status } else { refusal::heard(status) };
        refused(operator, method, &status)
    })
}

/// Exit code 3 where the gateway looked at it and refused.
fn refused(operator: &Operator, method: &str, status: &Status) -> anyhow::Error {
    let line = operator.refused(method, status);
    match Reason::of(status) {
        Some(Reason::AppInvalid) => {
            let detail = |key| refusal::detail(status, key).unwrap_or_default();
            let (field, problem, expected) = (detail("field"), detail("problem"), detail("expected"));
            Guarded(format!("{field}: expected {expected} [APP_INVALID {problem}]")).into()
        }
        Some(
            Reason::AppChanged
            | Reason::AppExists
            | Reason::AppNotFound
            | Reason::AppRevoked
            | Reason::RegistryNone
            | Reason::ReasonRequired
            | Reason::RoleInsufficient
            | Reason::AuditBroken,
        ) => Guarded(line).into(),
        _ => anyhow!(line),
    }
}

fn tell(format: Format, document: &Document) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(document);
    }
    let Document { app, revision, .. } = document;
    let mut text = match (document.written, document.dry_run) {
        (true, _) => format!("the app {app} is changed, revision {revision}\n"),
        (false, true) => format!("dry run: the app {app} can be changed so\n"),
        (false, false) => format!("nothing written: the app {app} is so already, revision {revision}\n"),
    };
    if document.written && document.previous_until_unix_ms > 0 {
        text.push_str(&format!(
            "its token before this one is good until {}\n",
            at(document.previous_until_unix_ms)
        ));
    }
    for warning in &document.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    if let Some(token) = &document.token {
        text.push_str(&format!("its token, which is shown this once and kept nowhere:\n{token}\n"));
    }
    output::line(&text)
}

/// An instant, and how long it is until then.
fn at(unix_ms: i64) -> String {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let now = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let left = u64::try_from(unix_ms.saturating_sub(now)).unwrap_or(0);
    format!("{} (in {})", audit::utc(unix_ms), output::age(left))
}

/// The document of `app list -o json`, and of `app describe` with one app.
#[derive(Debug, Serialize)]
pub struct Apps {
    /// The gateway that answered.
    pub gateway: String,
    /// Registry revision of its table.
    pub revision: i64,
    /// What it does with calls of nobody: `allow`, `deny` or `some`.
    pub anonymous: String,
    /// The apps.
    pub apps: Vec<Shown>,
}

/// One app.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Its name.
    pub app: String,
    /// Who it is.
    pub note: String,
    /// It may call nothing.
    pub disabled: bool,
    /// Revision of the grant.
    pub revision: i64,
    /// The gateway goes by it.
    pub in_force: bool,
    /// Why not.
    pub problem: String,
    /// First eight hex digits of the hash of its token.
    pub token_fingerprint: Option<String>,
    /// The same of the token before, while that is good.
    pub previous_fingerprint: Option<String>,
    /// Until when that is, in milliseconds since 1970-01-01 UTC.
    pub previous_until_unix_ms: i64,
    /// What its certificate proves.
    pub certificate: Option<String>,
    /// What it may call.
    pub methods: Vec<String>,
    /// Which classes; empty: all.
    pub classes: Vec<String>,
    /// About which regions.
    pub regions: Vec<String>,
    /// Calls a second over all gateways; absent: no limit.
    pub rps: Option<u32>,
    /// This gateway's part of them.
    pub rps_here: f64,
    /// Seconds' worth at once.
    pub burst_s: u32,
    /// Calls in flight over all gateways; absent: no limit.
    pub in_flight_max: Option<u32>,
    /// Its calls at this gateway since the gateway's start.
    pub calls: Calls,
}

/// What became of an app's calls at one gateway.
#[derive(Debug, Default, Serialize)]
pub struct Calls {
    /// Answered OK.
    pub ok: u64,
    /// Ended otherwise, after they were let in.
    pub error: u64,
    /// Refused: outside of the grant.
    pub denied: u64,
    /// Refused: over the calls a second.
    pub over_rate: u64,
    /// Refused: over the calls in flight.
    pub over_in_flight: u64,
    /// In flight now.
    pub in_flight: u32,
}

impl From<AppInfo> for Shown {
    fn from(info: AppInfo) -> Self {
        let grant = info.grant.unwrap_or_default();
        let quota = grant.quota.unwrap_or_default();
        let some = |text: String| (!text.is_empty()).then_some(text);
        let classes = grant.classes().map(|class| output::word(class.as_str_name(), "CLASS_")).collect();
        let calls = info.calls.map(|calls| Calls {
            ok: calls.ok,
            error: calls.error,
            denied: calls.denied,
            over_rate: calls.over_rate,
            over_in_flight: calls.over_in_flight,
            in_flight: calls.in_flight,
        });
        Self {
            app: info.app,
            note: grant.note,
            disabled: grant.disabled,
            revision: info.revision,
            in_force: info.in_force,
            problem: info.problem,
            token_fingerprint: some(info.token_fingerprint),
            previous_until_unix_ms: if info.previous_fingerprint.is_empty() {
                0
            } else {
                grant.previous_until_unix_ms
            },
            previous_fingerprint: some(info.previous_fingerprint),
            certificate: some(grant.certificate),
            methods: grant.methods,
            classes,
            regions: grant.regions,
            rps: quota.rps,
            rps_here: info.rps_here,
            burst_s: quota.burst_s.unwrap_or(2),
            in_flight_max: quota.in_flight_max,
            calls: calls.unwrap_or_default(),
        }
    }
}

async fn fetch(ask: &Ask, app: &str) -> anyhow::Result<Apps> {
    let mut operator = Operator::connect(&ask.gateways()).await?;
    let answer = operator.apps(app).await.map_err(|status| refused(&operator, "ListApps", &status))?;
    Ok(Apps {
        gateway: answer.gateway,
        revision: answer.revision,
        anonymous: answer.anonymous,
        apps: answer.apps.into_iter().map(Shown::from).collect(),
    })
}

async fn list(ask: &Ask) -> anyhow::Result<()> {
    let document = fetch(ask, "").await?;
    if ask.output == Format::Json {
        return output::json(&document);
    }
    let mut table =
        output::table(["app", "state", "methods", "classes", "regions", "rps", "in flight", "note"]);
    for app in &document.apps {
        table.add_row([
            app.app.clone(),
            state(app).to_owned(),
            app.methods.join(" "),
            or(app.classes.join(" "), "all"),
            app.regions.join(" "),
            or(app.rps.map_or_else(String::new, |rps| rps.to_string()), "-"),
            or(app.in_flight_max.map_or_else(String::new, |max| max.to_string()), "-"),
            app.note.clone(),
        ]);
    }
    output::line(&format!("{table}\n{}", footer(&document)))
}

fn footer(document: &Apps) -> String {
    let Apps { gateway, revision, anonymous, .. } = document;
    let nobody = match anonymous.as_str() {
        "allow" => "taken",
        "deny" => "refused",
        _ => "taken for the methods that its configuration names",
    };
    format!("gateway {gateway}, table at revision {revision}; calls of nobody are {nobody}")
}

fn or(text: String, empty: &str) -> String {
    if text.is_empty() { empty.to_owned() } else { text }
}

fn state(app: &Shown) -> &'static str {
    match (app.problem.is_empty(), app.disabled, app.in_force) {
        (false, ..) => "unusable",
        (_, true, _) => "revoked",
        (_, _, true) => "in force",
        _ => "on its way",
    }
}

async fn describe(ask: &Ask, name: &str) -> anyhow::Result<()> {
    let document = fetch(ask, name).await?;
    if ask.output == Format::Json {
        return output::json(&document);
    }
    let app = document.apps.first().context("the gateway named no app")?;
    let mut text = format!("{}: {}, revision {}\n", app.app, state(app), app.revision);
    let mut say = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<12} {value}\n"));
        }
    };
    say("problem", app.problem.clone());
    say("note", app.note.clone());
    say("token", or(app.token_fingerprint.clone().unwrap_or_default(), "none"));
    if let Some(previous) = &app.previous_fingerprint {
        say("before it", format!("{previous}, good until {}", at(app.previous_until_unix_ms)));
    }
    say("certificate", app.certificate.clone().unwrap_or_default());
    say("methods", app.methods.join(" "));
    say("classes", or(app.classes.join(" "), "all"));
    say("regions", app.regions.join(" "));
    let rate = app
        .rps
        .map(|rps| format!("{rps} calls a second ({:.1} here), {} s at once", app.rps_here, app.burst_s));
    say("quota", rate.unwrap_or_else(|| "no calls a second are set".to_owned()));
    say("in flight", app.in_flight_max.map_or_else(|| "no limit".to_owned(), |max| format!("at most {max}")));
    let Calls { ok, error, denied, over_rate, over_in_flight, in_flight } = app.calls;
    say(
        "calls here",
        format!(
            "{ok} ok, {error} error, {denied} denied, {over_rate} over rate, {over_in_flight} over in flight; {in_flight} in flight"
        ),
    );
    output::line(&format!("{text}{}", footer(&document)))
}
