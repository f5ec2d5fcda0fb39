//! Figures in Prometheus' text format (version 0.0.4).

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Histogram;

/// What the text is, as `Content-Type` says it.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// No labels.
const NONE: [(&str, &str); 0] = [];

/// Where figures are written to. Names are `vouchsafe_…`; those of counters get `_total` added, and every help
/// a full stop.
pub struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    /// One number that only rises.
    ///
    /// # Errors
    /// What the encoder gives.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(NONE, value)])
    }

    /// Numbers that only rise, apart by their labels. Labels are of a closed set: never from a request.
    ///
    /// # Errors
    /// What the encoder gives.
    pub fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, impl EncodeCounterValue)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    /// One number that rises and falls.
    ///
    /// # Errors
    /// What the encoder gives.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(name, help, [(NONE, value)])
    }

    /// Numbers that rise and fall, apart by their labels. Labels are of a closed set.
    ///
    /// # Errors
    /// What the encoder gives.
    pub fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    /// How durations are spread, in seconds.
    ///
    /// # Errors
    /// What the encoder gives.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let (buckets, sum) = histogram.buckets();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    /// Words that say what something is.
    ///
    /// # Errors
    /// What the encoder gives.
    pub fn info(&mut self, name: &str, help: &str, labels: impl EncodeLabelSet) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }
}

/// The text of what `write` writes.
pub(super) fn text(write: impl Fn(&mut Page<'_>) -> fmt::Result + Send + Sync + 'static) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Written(write)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Written<W>(W);

impl<W> fmt::Debug for Written<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written")
    }
}

impl<W: Fn(&mut Page<'_>) -> fmt::Result + Send + Sync + 'static> Collector for Written<W> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut Page(encoder))
    }
}
