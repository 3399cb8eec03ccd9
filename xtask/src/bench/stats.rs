//! Medians, percentiles and their uncertainty.

/// A value and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Reading {
    /// Something that has no spread, such as a file's size.
    pub(crate) fn exact(value: f64) -> Self {
        Self { value, low: value, high: value }
    }

    /// The median of `samples`, with a bootstrap interval.
    pub(crate) fn median_of(samples: &[f64]) -> Self {
        const RESAMPLES: usize = 2000;
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn: Vec<f64> = samples.iter().map(|_| samples[random.below(samples.len())]).collect();
                median(&drawn)
            })
            .collect();
        Self { value: median(samples), low: percentile(&medians, 0.025), high: percentile(&medians, 0.975) }
    }
}

/// The middle sample.
pub(crate) fn median(samples: &[f64]) -> f64 {
    percentile(samples, 0.5)
}

/// The sample below which a `share` of them lies, interpolated.
pub(crate) fn percentile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[(place.ceil() as usize).min(last)]);
    below + (above - below) * place.fract()
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0]), 1.5);
        assert_eq!(percentile(&[0.0, 10.0], 0.99), 9.9);
    }

    #[test]
    fn the_interval_surrounds_the_median() {
        let samples: Vec<f64> = (0..100).map(f64::from).collect();
        let reading = Reading::median_of(&samples);
        assert!(reading.low < reading.value && reading.value < reading.high);
        assert!(reading.high - reading.low < 40.0);
    }
}
