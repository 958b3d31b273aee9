//! How long a call may take: what the caller grants (`grpc-timeout`, gRPC over HTTP/2, "Timeout"), at most a limit.

use std::time::Duration;

use tonic::Status;
use tonic::codegen::http::{HeaderMap, HeaderName};

/// The header that carries a caller's deadline.
pub static HEADER: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time for a call with these headers. A header that cannot be read is the caller's error: to serve the call as if
/// none had been sent would do work that nobody waits for.
pub fn of(headers: &HeaderMap, max: Duration) -> Result<Duration, Status> {
    let mut values = headers.get_all(&HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(max),
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(parse)
            .map(|granted| granted.min(max))
            .ok_or_else(|| Status::invalid_argument("grpc-timeout cannot be read")),
        (Some(_), Some(_)) => Err(Status::invalid_argument("grpc-timeout is given twice")),
    }
}

/// At most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let at = text.len().checked_sub(1)?;
    let (digits, unit) = text.split_at_checked(at)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_the_cap() {
        let max = Duration::from_secs(60);
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(&HEADER, value.parse().unwrap());
            of(&headers, max).ok()
        };
        assert_eq!(super::of(&HeaderMap::new(), max).ok(), Some(max));
        assert_eq!(of("5S"), Some(Duration::from_secs(5)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("7u"), Some(Duration::from_micros(7)));
        assert_eq!(of("0n"), Some(Duration::ZERO));
        for capped in ["61S", "2M", "1H", "99999999H"] {
            assert_eq!(of(capped), Some(max), "{capped}");
        }
        for bad in ["", "S", "5", "5s", "-5S", "+5S", "5 S", "123456789S", "5S5", "5\u{b5}"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let mut twice = HeaderMap::new();
        twice.append(&HEADER, "1S".parse().unwrap());
        twice.append(&HEADER, "2S".parse().unwrap());
        assert!(super::of(&twice, max).is_err());
    }
}
