//! The aggregates of `stats`, each in bounded memory.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::value::{Value, float, whole};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aggregate {
    CountAll,
    Count,
    CountDistinct,
    Sum,
    Avg,
    Min,
    Max,
    /// The part of the values below it, from 0 to 1.
    Pct(f64),
    Stddev,
    Earliest,
    Latest,
    SortsFirst,
    SortsLast,
}

const TABLE: &[(&str, Aggregate)] = &[
    ("count", Aggregate::Count),
    ("count_distinct", Aggregate::CountDistinct),
    ("sum", Aggregate::Sum),
    ("avg", Aggregate::Avg),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("stddev", Aggregate::Stddev),
    ("earliest", Aggregate::Earliest),
    ("latest", Aggregate::Latest),
    ("sortsFirst", Aggregate::SortsFirst),
    ("sortsLast", Aggregate::SortsLast),
    ("pct", Aggregate::Pct(0.5)),
];

impl Aggregate {
    /// An aggregate by its name, in any case; the part of `pct` comes later.
    pub(super) fn named(name: &str) -> Option<Aggregate> {
        let mut known = TABLE.iter();
        let found = known.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, aggregate)| *aggregate)
    }

    pub(super) fn start(self) -> State {
        match self {
            Aggregate::CountAll | Aggregate::Count => State::Count(0),
            Aggregate::CountDistinct => {
                State::Distinct(Distinct::Exact(HashSet::new()))
            }
            Aggregate::Sum => State::Sum(None),
            Aggregate::Avg | Aggregate::Stddev => {
                State::Spread(Spread::default())
            }
            Aggregate::Pct(_) => State::Sketch(Sketch::default()),
            Aggregate::Min
            | Aggregate::Max
            | Aggregate::Earliest
            | Aggregate::Latest
            | Aggregate::SortsFirst
            | Aggregate::SortsLast => State::One(None),
        }
    }

    /// Takes one event's value in; gives the bytes by which it grew.
    pub(super) fn add(
        self,
        state: &mut State,
        value: &Value<'_>,
        at: (i64, u64),
    ) -> usize {
        match state {
            State::Count(count) => {
                let counts = self == Aggregate::CountAll || !value.is_null();
                *count += u64::from(counts);
                0
            }
            State::Distinct(distinct) => distinct.add(value),
            State::Sum(sum) => {
                if let Some(number) = value.number() {
                    *sum = Some(sum.unwrap_or(0.0) + number);
                }
                0
            }
            State::Spread(spread) => {
                value.number().inspect(|number| spread.add(*number));
                0
            }
            State::Sketch(sketch) => {
                value.number().map_or(0, |number| sketch.add(number))
            }
            State::One(kept) => {
                let wins = !value.is_null()
                    && kept.as_ref().is_none_or(
                        |(known, known_at)| match self {
                            Aggregate::Earliest => at < *known_at,
                            Aggregate::Latest => at > *known_at,
                            Aggregate::Min | Aggregate::SortsFirst => {
                                value.order(known).is_lt()
                            }
                            _ => value.order(known).is_gt(),
                        },
                    );
                if !wins {
                    return 0;
                }
                let before = kept.as_ref().map_or(0, |(v, _)| v.weight());
                *kept = Some((value.clone().into_owned(), at));
                value.weight().saturating_sub(before)
            }
        }
    }

    /// What it comes to.
    pub(super) fn finish(self, state: State) -> Value<'static> {
        let number = |n: f64| Value::Number(n);
        match state {
            State::Count(count) => counted(count),
            State::Distinct(distinct) => counted(distinct.count()),
            State::Sum(sum) => sum.map_or(Value::Null, number),
            State::Spread(spread) => match self {
                Aggregate::Avg => spread.mean().map_or(Value::Null, number),
                _ => spread.deviation().map_or(Value::Null, number),
            },
            State::Sketch(sketch) => match self {
                Aggregate::Pct(part) => {
                    sketch.quantile(part).map_or(Value::Null, number)
                }
                _ => Value::Null,
            },
            State::One(kept) => kept.map_or(Value::Null, |(value, _)| value),
        }
    }
}

fn counted(count: u64) -> Value<'static> {
    Value::Number(float(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// What has come in so far.
#[derive(Clone, Debug)]
pub(super) enum State {
    Count(u64),
    Distinct(Distinct),
    Sum(Option<f64>),
    Spread(Spread),
    Sketch(Sketch),
    /// The value that won, and the time and order of its event.
    One(Option<(Value<'static>, (i64, u64))>),
}

/// Mean and squared distance from it (Welford).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, number: f64) {
        self.count += 1.0;
        let before = number - self.mean;
        self.mean += before / self.count;
        self.squares += before * (number - self.mean);
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then_some(self.mean)
    }

    fn deviation(&self) -> Option<f64> {
        (self.count > 0.0).then(|| (self.squares / self.count).sqrt())
    }
}

/// Distinct values: exactly while they are few, then estimated to about 1.6 %
/// (HyperLogLog with 4,096 registers).
#[derive(Clone, Debug)]
pub(super) enum Distinct {
    Exact(HashSet<u64>),
    Estimate(Box<[u8]>),
}

const EXACT_DISTINCT: usize = 1024;
const REGISTER_BITS: u32 = 12;

impl Distinct {
    fn add(&mut self, value: &Value<'_>) -> usize {
        let Some(text) = value.text() else { return 0 };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        match self {
            Distinct::Exact(seen) => {
                let grew = seen.insert(hash);
                if seen.len() <= EXACT_DISTINCT {
                    return if grew { 16 } else { 0 };
                }
                let mut registers =
                    vec![0; 1 << REGISTER_BITS].into_boxed_slice();
                for hash in seen.iter() {
                    register(&mut registers, *hash);
                }
                *self = Distinct::Estimate(registers);
            }
            Distinct::Estimate(registers) => register(registers, hash),
        }
        0
    }

    fn count(&self) -> u64 {
        let registers = match self {
            Distinct::Exact(seen) => return seen.len() as u64,
            Distinct::Estimate(registers) => registers,
        };
        let size = f64::from(1_u32 << REGISTER_BITS);
        let sum: f64 = registers.iter().map(|r| (-f64::from(*r)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / size) * size * size / sum;
        let zeros = registers.iter().filter(|r| **r == 0).count();
        let estimate = match u32::try_from(zeros) {
            Ok(zeros) if zeros > 0 && raw <= 2.5 * size => {
                size * (size / f64::from(zeros)).ln()
            }
            _ => raw,
        };
        whole(estimate.round()).unsigned_abs()
    }
}

fn register(registers: &mut [u8], hash: u64) {
    let index = usize::try_from(hash >> (64 - REGISTER_BITS)).unwrap_or(0);
    let rest = hash << REGISTER_BITS | 1 << (REGISTER_BITS - 1);
    let rank = u8::try_from(rest.leading_zeros() + 1).unwrap_or(u8::MAX);
    if let Some(register) = registers.get_mut(index) {
        *register = (*register).max(rank);
    }
}

/// Quantiles: exact while values are few, then within 1 % of the value
/// (buckets that grow by a constant factor, as in DDSketch).
#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    exact: Vec<f64>,
    /// By sign and magnitude; smaller keys are smaller values.
    buckets: BTreeMap<i32, u64>,
    count: u64,
}

const EXACT_VALUES: usize = 1024;
/// Beyond so many the smallest are joined: 40 orders of magnitude.
const MOST_BUCKETS: usize = 4096;
/// Two neighbours' ratio: the middle is at most 1 % from either edge.
const GROWTH: f64 = 1.02;
/// Keys of positive values lie above it, those of negative ones below.
const ZERO_KEY: i32 = 0;
/// The least magnitude that is told from zero.
const TINY: f64 = 1e-9;

impl Sketch {
    fn add(&mut self, number: f64) -> usize {
        self.count += 1;
        if self.buckets.is_empty() && self.exact.len() < EXACT_VALUES {
            self.exact.push(number);
            return size_of::<f64>();
        }
        let before = self.buckets.len();
        for known in std::mem::take(&mut self.exact) {
            *self.buckets.entry(key(known)).or_default() += 1;
        }
        *self.buckets.entry(key(number)).or_default() += 1;
        while self.buckets.len() > MOST_BUCKETS {
            let Some((_, count)) = self.buckets.pop_first() else { break };
            if let Some(mut least) = self.buckets.first_entry() {
                *least.get_mut() += count;
            }
        }
        self.buckets.len().saturating_sub(before) * 32
    }

    fn quantile(mut self, part: f64) -> Option<f64> {
        let last = self.count.checked_sub(1)?;
        let last = float(i64::try_from(last).unwrap_or(i64::MAX));
        let rank = (part * last).round();
        if self.buckets.is_empty() {
            self.exact.sort_unstable_by(f64::total_cmp);
            let index = usize::try_from(whole(rank)).unwrap_or(0);
            return self.exact.get(index).copied();
        }
        let rank = whole(rank).unsigned_abs();
        let mut seen = 0;
        for (key, count) in &self.buckets {
            seen += count;
            if seen > rank {
                return Some(middle(*key));
            }
        }
        None
    }
}

fn key(number: f64) -> i32 {
    if number.abs() < TINY {
        return ZERO_KEY;
    }
    // At most ln(1e317) / ln(1.02), about 37,000.
    let steps = (number.abs().ln() - TINY.ln()) / GROWTH.ln();
    let steps = i32::try_from(whole(steps)).unwrap_or(i32::MAX - 1);
    if number > 0.0 { steps + 1 } else { -(steps + 1) }
}

fn middle(key: i32) -> f64 {
    if key == ZERO_KEY {
        return 0.0;
    }
    // By logarithms: the power alone may be beyond what a float holds.
    let steps = f64::from(key.abs() - 1);
    let low = (TINY.ln() + steps * GROWTH.ln()).exp();
    let middle = low * 2.0 * GROWTH / (1.0 + GROWTH);
    if key > 0 { middle } else { -middle }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn over(aggregate: Aggregate, numbers: &[f64]) -> f64 {
        let mut state = aggregate.start();
        for (at, number) in (0..).zip(numbers) {
            aggregate.add(&mut state, &Value::Number(*number), (at, 0));
        }
        aggregate.finish(state).number().unwrap()
    }

    #[test]
    fn many_distinct_values_are_estimated() {
        for count in [1000_u32, 5000, 200_000] {
            let numbers: Vec<f64> = (0..count).map(f64::from).collect();
            let found = over(Aggregate::CountDistinct, &numbers);
            let wrong = (found / f64::from(count) - 1.0).abs();
            assert!(wrong < 0.05, "{found} of {count}");
        }
    }

    #[test]
    fn many_quantiles_are_near() {
        let numbers: Vec<f64> = (1..=100_000).map(f64::from).collect();
        for part in [0.01, 0.5, 0.99, 1.0] {
            let found = over(Aggregate::Pct(part), &numbers);
            let right = part * 100_000.0;
            assert!((found / right - 1.0).abs() < 0.02, "{found} at {part}");
        }
    }

    #[test]
    fn sums_and_spreads_are_right() {
        let numbers = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9);
        close(over(Aggregate::Avg, &numbers), 5.0);
        close(over(Aggregate::Stddev, &numbers), 2.0);
        close(over(Aggregate::Sum, &numbers), 40.0);
        close(over(Aggregate::Min, &numbers), 2.0);
        close(over(Aggregate::Max, &numbers), 9.0);
        close(over(Aggregate::Latest, &numbers), 9.0);
        close(over(Aggregate::Pct(0.5), &numbers), 5.0);
    }

    proptest! {
        #[test]
        fn any_number_has_a_bucket_near_it(number in -1e300_f64..1e300) {
            let near = middle(key(number));
            let error = (near - number).abs();
            prop_assert!(error <= number.abs() * 0.011 + TINY);
        }
    }
}
