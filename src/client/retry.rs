//! Which calls may be made again: reads, calls with a request id, and calls that the vault refused before doing
//! anything.

use std::error::Error;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tonic::{Code, Response, Status};

/// Calls in all, the first one included.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Makes a call that changes nothing, again after UNAVAILABLE or RESOURCE_EXHAUSTED, or when the connection broke.
pub async fn read<T, F, C>(call: C) -> Result<T, Status>
where
    C: FnMut() -> F,
    F: Future<Output = Result<Response<T>, Status>>,
{
    retry(call, was_interrupted).await
}

/// Makes a call that carries a [`request_id`], again as [`read`] does: the vault does it once, however often it comes.
/// Each attempt must carry the same id.
pub async fn once<T, F, C>(call: C) -> Result<T, Status>
where
    C: FnMut() -> F,
    F: Future<Output = Result<Response<T>, Status>>,
{
    retry(call, was_interrupted).await
}

/// A fresh id for one change, whatever becomes of its calls.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn was_interrupted(status: &Status) -> bool {
    // A connection that breaks comes as UNKNOWN with a transport's error below it.
    let broke = status.source().is_some_and(|e| e.is::<tonic::transport::Error>());
    broke || matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
}

/// Makes a call that changes something, again only after RESOURCE_EXHAUSTED: the vault was full and did nothing.
/// After UNAVAILABLE nobody knows whether it took effect.
pub async fn when_refused<T, F, C>(call: C) -> Result<T, Status>
where
    C: FnMut() -> F,
    F: Future<Output = Result<Response<T>, Status>>,
{
    retry(call, |status| status.code() == Code::ResourceExhausted).await
}

async fn retry<T, F, C>(mut call: C, again: fn(&Status) -> bool) -> Result<T, Status>
where
    C: FnMut() -> F,
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut attempt = 1;
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if attempt < ATTEMPTS_MAX && again(&status) => {
                tokio::time::sleep(pause(attempt, RandomState::new().build_hasher().finish()))
                    .await;
                attempt += 1;
            }
            Err(status) => return Err(status),
        }
    }
}

/// Doubles with each attempt, and a random half of it so that clients do not come back in step.
fn pause(attempt: u32, random: u64) -> Duration {
    let whole = PAUSE_FIRST * 2_u32.saturating_pow(attempt.saturating_sub(1)).min(64);
    let half = whole / 2;
    let share = u32::try_from(random % 1_000).unwrap_or(0);
    half + half * share / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(code: Code) -> impl FnMut() -> std::future::Ready<Result<Response<u32>, Status>> {
        let mut calls = 0;
        move || {
            calls += 1;
            let answer =
                if calls < 3 { Err(Status::new(code, "")) } else { Ok(Response::new(calls)) };
            std::future::ready(answer)
        }
    }

    #[tokio::test]
    async fn reads_come_back_after_a_pause() {
        assert_eq!(read(answers(Code::Unavailable)).await.unwrap(), 3);
        assert_eq!(read(answers(Code::ResourceExhausted)).await.unwrap(), 3);
        assert_eq!(once(answers(Code::Unavailable)).await.unwrap(), 3);
        assert_eq!(read(answers(Code::NotFound)).await.unwrap_err().code(), Code::NotFound);
    }

    #[tokio::test]
    async fn a_write_of_unknown_outcome_is_never_made_again() {
        let error = when_refused(answers(Code::Unavailable)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(when_refused(answers(Code::ResourceExhausted)).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn it_gives_up() {
        let mut calls = 0;
        let always = || {
            calls += 1;
            std::future::ready(Err::<Response<()>, _>(Status::unavailable("")))
        };
        assert_eq!(read(always).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(calls, ATTEMPTS_MAX);
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert_eq!(pause(1, 0), Duration::from_millis(50));
        assert!(
            pause(3, 999) < Duration::from_millis(400) && pause(3, 0) >= Duration::from_millis(200)
        );
        assert!(pause(u32::MAX, 999) <= Duration::from_millis(6_400));
    }
}
