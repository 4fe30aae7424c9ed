//! A histogram of the daemon's `/metrics`, and what came between two readings of it.

use std::net::SocketAddr;

use anyhow::Context;

/// Cumulative counts under their upper bounds, in seconds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

/// All that the daemon shows now.
pub(crate) async fn scrape(address: SocketAddr) -> anyhow::Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(format!("http://{address}/metrics")).send().await?;
    answer.error_for_status()?.text().await.context("cannot read the metrics")
}

/// The sum of a counter over its labels.
pub(crate) fn counter(page: &str, name: &str) -> f64 {
    page.lines().filter_map(|line| sample(line, name)).map(|(_, value)| value).sum()
}

/// Labels and value of a line that is a sample of `name`.
fn sample<'p>(line: &'p str, name: &str) -> Option<(&'p str, f64)> {
    let rest = line.strip_prefix(name)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest.strip_prefix(' ')?),
    };
    Some((labels, value.trim().parse().ok()?))
}

impl Histogram {
    /// The histogram of this name, over all labels.
    pub(crate) fn read(page: &str, name: &str) -> Self {
        let mut all = Self::default();
        let (bucket, sum, count) =
            (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
        for line in page.lines() {
            if let Some((labels, value)) = sample(line, &bucket) {
                let bound = labels
                    .split("le=\"")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .and_then(|text| text.replace("+Inf", "inf").parse().ok());
                let Some(bound) = bound else { continue };
                match all.buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                    Some((_, known)) => *known += value,
                    None => all.buckets.push((bound, value)),
                }
            }
        }
        all.sum = counter(page, &sum);
        all.count = counter(page, &count);
        all.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    }

    /// What was recorded since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let earlier = |bound: f64| {
            before
                .buckets
                .iter()
                .find(|(known, _)| known.total_cmp(&bound).is_eq())
                .map_or(0.0, |(_, n)| *n)
        };
        Self {
            buckets: self.buckets.iter().map(|(bound, n)| (*bound, n - earlier(*bound))).collect(),
            sum: self.sum - before.sum,
            count: self.count - before.count,
        }
    }

    /// What two readings recorded together.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (bound, n) in &other.buckets {
            match both.buckets.iter_mut().find(|(known, _)| known.total_cmp(bound).is_eq()) {
                Some((_, known)) => *known += n,
                None => both.buckets.push((*bound, *n)),
            }
        }
        both.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        both.sum += other.sum;
        both.count += other.count;
        both
    }

    /// Milliseconds that so many of a hundred do not pass; within a bucket as if evenly spread.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let rank = self.count * percent / 100.0;
        let (mut below, mut low) = (0.0, 0.0);
        for (bound, n) in &self.buckets {
            if *n >= rank && *n > below {
                let high = if bound.is_finite() { *bound } else { low };
                return 1e3 * (low + (high - low) * (rank - below) / (n - below));
            }
            (below, low) = (*n, *bound);
        }
        0.0
    }

    /// Milliseconds on average: exact, whatever the buckets.
    pub(crate) fn mean(&self) -> f64 {
        if self.count > 0.0 { 1e3 * self.sum / self.count } else { 0.0 }
    }
}
