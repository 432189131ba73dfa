//! What does it cost when a city's node answers, but badly?
//!
//! Slow, failing now and then, or with nothing loaded: it is left alone while the province has room, and
//! taken back when it is well.

use crate::scene::{MANY, PATIENT_MS, STEADY, Scene, callers, city_and_province};
use suiyue_tests::v1::Faults;
use tonic::Code;

#[tokio::test]
async fn a_slow_city_is_left_and_fails_no_call() -> anyhow::Result<()> {
    let wish = callers().timeout_ms(PATIENT_MS);
    let mut scene = Scene::open("city slowed to 2 s", city_and_province(), wish).await?;
    let fault = scene.arrange("city", Faults { delay_ms: 2_000, ..Faults::default() }).await?;
    scene.leaves("city", fault).await?;
    scene.load.reaches("province", STEADY).await?;
    let end = scene.arrange("city", Faults::default()).await?;
    scene.returns("city", end).await?;
    // Slow is not failing, not even for calls that are not sent again.
    scene.finish().await?.report.flawless()
}

/// What three of ten calls are answered with. After the city was left nobody gets it any more.
async fn failing(fault: &str, code: Code) -> anyhow::Result<()> {
    let mut scene = Scene::open(fault, city_and_province(), callers()).await?;
    let ill = Faults { fail_percent: 30, fail_code: code.into(), ..Faults::default() };
    let fault = scene.arrange("city", ill).await?;
    let left = scene.leaves("city", fault).await?;
    scene.load.reaches("province", STEADY).await?;
    let end = scene.arrange("city", Faults::default()).await?;
    scene.returns("city", end).await?;
    let outcome = scene.finish().await?;
    outcome.some_ambiguous()?;
    outcome.nobody_failed_after(left)
}

#[tokio::test]
async fn a_city_with_three_of_ten_calls_unavailable_is_left() -> anyhow::Result<()> {
    failing("city 30 % UNAVAILABLE", Code::Unavailable).await
}

#[tokio::test]
async fn a_city_with_three_of_ten_calls_internal_is_left() -> anyhow::Result<()> {
    failing("city 30 % INTERNAL", Code::Internal).await
}

/// Health checks go on to pass: an empty store must not look healthy.
#[tokio::test]
async fn a_city_that_is_ready_for_nothing_costs_no_call() -> anyhow::Result<()> {
    let mut scene =
        Scene::open("city ready for nothing", city_and_province(), callers().timeout_ms(PATIENT_MS)).await?;
    let fault = scene.arrange("city", Faults { not_ready: true, ..Faults::default() }).await?;
    scene.leaves("city", fault).await?;
    scene.load.reaches("province", STEADY).await?;
    let end = scene.arrange("city", Faults::default()).await?;
    scene.returns("city", end).await?;
    scene.finish().await?.report.flawless()
}

/// What calls say wins over what health checks say: whether the city is left or not, nobody loses a call.
#[tokio::test]
async fn a_city_that_only_says_that_it_does_not_serve_costs_no_call() -> anyhow::Result<()> {
    let mut scene =
        Scene::open("city NOT_SERVING, data well", city_and_province(), callers().timeout_ms(PATIENT_MS))
            .await?;
    scene.arrange("city", Faults { not_serving: true, ..Faults::default() }).await?;
    scene.load.proceeds(MANY).await?;
    scene.arrange("city", Faults::default()).await?;
    scene.load.reaches("city", STEADY).await?;
    scene.finish().await?.report.flawless()
}
