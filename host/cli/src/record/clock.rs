//! Reads times of the wall clock, as RFC 3339 has them.

/// Returns the microseconds from 1970 to a time such as `2026-11-26T12:00:00.25Z`; `None` if it is
/// none, or is before 1970.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let date: Vec<i64> = numbers(date, '-')?;
    let [year, month, day] = date[..] else {
        return None;
    };
    let split = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(split);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [hour, minute, second] = numbers(clock, ':')?[..] else {
        return None;
    };
    if !(1969..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = seconds - offset(zone)?;
    let micros = micros(fraction)?;
    u64::try_from(seconds)
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(micros)
}

fn numbers(text: &str, between: char) -> Option<Vec<i64>> {
    text.split(between)
        .map(|part| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            (digits && part.len() <= 4).then(|| part.parse().ok())?
        })
        .collect()
}

/// The microseconds of the digits behind the point.
fn micros(fraction: &str) -> Option<u64> {
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    digits.parse().ok()
}

/// The seconds by which a zone is ahead.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(&zone[1..], ':')?[..] else {
        return None;
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// The days from 1970 to a date. The year begins in March, so that its last day is the leap day.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::watch::wall::rfc3339;

    #[test]
    fn known_times_are_read() {
        for (text, micros) in [
            ("1970-01-01T00:00:00.000000Z", 0),
            ("2000-02-29T23:59:59.500000Z", 951_868_799_500_000),
            ("2024-12-31T12:00:00.000001Z", 1_735_646_400_000_001),
            ("2026-11-26T12:00:00.000000Z", 1_795_694_400_000_000),
        ] {
            assert_eq!(parse(text), Some(micros), "{text}");
        }
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse("1969-12-31T23:00:00-01:00"), Some(0));
        assert_eq!(parse("1970-01-01T00:00:01.25Z"), Some(1_250_000));
        assert_eq!(parse("1970-01-01T00:00:00.123456789Z"), Some(123_456));
    }

    #[test]
    fn every_day_that_is_written_is_read() {
        for day in 0..60_000 {
            let micros = day * 86_400_000_000 + 1;
            let text = rfc3339(UNIX_EPOCH + Duration::from_micros(micros));
            assert_eq!(parse(&text), Some(micros));
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "now",
            "2026-11-26",
            "2026-13-01T00:00:00Z",
            "2026-11-26T12:00:00",
            "2026-11-26T12:00Z",
            "2026-11-26T12:00:00.xZ",
            "2026-11-26T12:00:00+é",
            "+026-11-26T12:00:00Z",
            "1960-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
