//! What does the end of an attempt say about the endpoint?
//!
//! | end of the attempt | says | in a row | rate |
//! |---|---|---|---|
//! | an answer, also one that blames the caller | good | ends the run | success |
//! | INTERNAL, UNKNOWN: one app's garbage may cause them | soft | – | failure |
//! | its connection was lost | lost | –, the connection counts once | failure |
//! | UNAVAILABLE without pushback, a broken stream, a try as long as the class's default allows | own | + 1 | failure |
//! | RESOURCE_EXHAUSTED, or any answer with pushback | refused | – | – |
//! | the caller hung up, or its own deadline was short | nothing | – | – |

use tonic::Code;

/// What an attempt's end says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answers.
    Good,
    /// It fails, but perhaps only this caller.
    Soft,
    /// It fails, and it is its own making.
    Own,
    /// Its connection was lost, with whatever else was on it.
    Lost,
    /// It has too much to do.
    Refused,
    /// Nothing can be said.
    Unjudged,
}

/// How long an attempt was given, compared with what its class allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// As long as the class's default deadline would have given it, or longer.
    Enough,
    /// Less: the caller was in a hurry.
    Short,
}

/// What an answer with this gRPC status says.
#[must_use]
pub fn of_answer(code: u8, pushback: bool, given: Given) -> Outcome {
    match Code::from_i32(code.into()) {
        Code::ResourceExhausted => Outcome::Refused,
        _ if pushback => Outcome::Refused,
        Code::Unavailable => Outcome::Own,
        Code::Internal | Code::Unknown => Outcome::Soft,
        // The node gave up: by its own clock, or because our stream was reset.
        Code::DeadlineExceeded | Code::Cancelled => of_silence(given),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => Outcome::Good,
    }
}

/// What it says that no answer came in the time that was given.
#[must_use]
pub const fn of_silence(given: Given) -> Outcome {
    match given {
        Given::Enough => Outcome::Own,
        Given::Short => Outcome::Unjudged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_judged() {
        use Outcome::*;
        let expected = [
            Good, Unjudged, Soft, Good, Unjudged, Good, Good, Good, Refused, Good, Good, Good, Good, Soft,
            Own, Good, Good,
        ];
        for (code, expected) in (0u8..).zip(expected) {
            assert_eq!(of_answer(code, false, Given::Short), expected, "{code}");
            assert_eq!(of_answer(code, true, Given::Enough), Refused, "{code} with pushback");
        }
        for code in [1, 4] {
            assert_eq!(of_answer(code, false, Given::Enough), Own, "{code} after all of the time");
        }
        assert_eq!((of_silence(Given::Enough), of_silence(Given::Short)), (Own, Unjudged));
    }
}
