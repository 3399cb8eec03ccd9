//! A and B in turns.

use super::stats::Reading;

/// The median of A ÷ B over `rounds`; which of the two goes first alternates.
pub(crate) async fn ratio(
    rounds: usize,
    mut a: impl AsyncFnMut() -> anyhow::Result<f64>,
    mut b: impl AsyncFnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<Reading> {
    let mut ratios = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let (of_a, of_b) = if round % 2 == 0 {
            let of_a = a().await?;
            (of_a, b().await?)
        } else {
            let of_b = b().await?;
            (a().await?, of_b)
        };
        ratios.push(of_a / of_b);
    }
    Ok(Reading::median_of(&ratios))
}
