//! Delivery of events: how often, how fast, and which answers count (`kncloudevents/retries.go`).

use std::time::Duration;

use crate::manifest::subscription::{BackoffPolicy, DeliverySpec};

/// Longest pause between two attempts; Knative has no bound, an exponent needs one.
pub const MAX_BACKOFF: Duration = Duration::from_secs(24 * 3600);

/// A `delivery` that can be computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryPlan {
    /// Attempts after the first.
    pub retries: u32,
    /// Of one attempt; `None` waits for ever.
    pub timeout: Option<Duration>,
    policy: BackoffPolicy,
    delay: Duration,
}

impl From<&DeliverySpec> for DeliveryPlan {
    /// Durations that are no ISO 8601 count as absent. No pause is made unless both policy and delay are given.
    fn from(spec: &DeliverySpec) -> Self {
        let duration = |text: &Option<String>| text.as_deref().and_then(iso8601);
        let backoff = spec.backoff_policy.zip(duration(&spec.backoff_delay));
        let (policy, delay) = backoff.unwrap_or((BackoffPolicy::Linear, Duration::ZERO));
        Self {
            retries: spec.retry.and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
            timeout: duration(&spec.timeout),
            policy,
            delay,
        }
    }
}

impl DeliveryPlan {
    /// The pause after the failed attempt `attempt`, counted from 0: the delay times `attempt`, or times 2^`attempt`.
    #[must_use]
    pub fn backoff(&self, attempt: u32) -> Duration {
        let factor = match self.policy {
            BackoffPolicy::Linear => attempt,
            BackoffPolicy::Exponential => 2_u32.saturating_pow(attempt),
        };
        self.delay.saturating_mul(factor).min(MAX_BACKOFF)
    }
}

/// What an answer means for the delivery of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is done.
    Delivered,
    /// It may work later.
    Retry,
    /// It will never work.
    Fatal,
}

/// What the status of a subscriber's answer means. No answer at all is [`Verdict::Retry`].
#[must_use]
pub fn verdict(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        404 | 408 | 409 | 429 | 500.. => Verdict::Retry,
        _ => Verdict::Fatal,
    }
}

/// A duration of days, hours, minutes and seconds; fractions are allowed. Years and months have no fixed length.
#[must_use]
pub fn iso8601(text: &str) -> Option<Duration> {
    let rest = text.strip_prefix('P')?;
    let (date, time) = rest.split_once('T').unwrap_or((rest, ""));
    if rest.is_empty() || rest.ends_with('T') {
        return None;
    }
    let seconds = components(date, &[('W', 604_800.0), ('D', 86_400.0)])?
        + components(time, &[('H', 3_600.0), ('M', 60.0), ('S', 1.0)])?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The sum of `<number><unit>` groups, units in the order given, each once at most.
fn components(mut text: &str, units: &[(char, f64)]) -> Option<f64> {
    let mut sum = 0.0;
    let mut units = units.iter();
    while let Some(end) = text.find(|c: char| c.is_ascii_alphabetic()) {
        let (number, unit) = (&text[..end], text[end..].chars().next()?);
        let (_, factor) = units.by_ref().find(|(name, _)| *name == unit)?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        sum += number.parse::<f64>().ok()? * factor;
        text = &text[end + 1..];
    }
    text.is_empty().then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |text| iso8601(text).map(|d| d.as_millis());
        for (text, expected) in [
            ("PT1S", Some(1_000)),
            ("PT0.2S", Some(200)),
            ("PT600S", Some(600_000)),
            ("PT1M30S", Some(90_000)),
            ("P1DT1H", Some(90_000_000)),
            ("P2W", Some(1_209_600_000)),
            ("PT0S", Some(0)),
            ("", None),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("1S", None),
            ("PT1", None),
            ("PTS", None),
            ("PT-1S", None),
            ("PT1S1M", None),
            ("P1Y", None),
            ("PT1e3S", None),
        ] {
            assert_eq!(ms(text), expected, "{text}");
        }
    }

    #[test]
    fn pauses() {
        let plan = |policy, delay: Option<&str>| {
            DeliveryPlan::from(&DeliverySpec {
                retry: Some(3),
                backoff_policy: policy,
                backoff_delay: delay.map(str::to_owned),
                ..DeliverySpec::default()
            })
        };
        let seconds = |plan: DeliveryPlan| (0..4).map(|n| plan.backoff(n).as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(plan(Some(BackoffPolicy::Exponential), Some("PT1S"))), [1, 2, 4, 8]);
        assert_eq!(seconds(plan(Some(BackoffPolicy::Linear), Some("PT2S"))), [0, 2, 4, 6]);
        assert_eq!(seconds(plan(None, Some("PT2S"))), [0, 0, 0, 0]);
        assert_eq!(seconds(plan(Some(BackoffPolicy::Linear), Some("soon"))), [0, 0, 0, 0]);
        assert_eq!(plan(Some(BackoffPolicy::Exponential), Some("PT1S")).backoff(u32::MAX), MAX_BACKOFF);
        assert_eq!(DeliveryPlan::from(&DeliverySpec::default()).retries, 0);
        assert_eq!(
            DeliveryPlan::from(&DeliverySpec { retry: Some(-1), ..DeliverySpec::default() }).retries,
            0
        );
    }

    #[test]
    fn verdicts() {
        for status in [200, 202, 204, 299] {
            assert_eq!(verdict(status), Verdict::Delivered);
        }
        for status in [404, 408, 409, 429, 500, 502, 503, 504, 599] {
            assert_eq!(verdict(status), Verdict::Retry);
        }
        for status in [100, 301, 304, 400, 401, 403, 405, 413] {
            assert_eq!(verdict(status), Verdict::Fatal);
        }
    }
}
