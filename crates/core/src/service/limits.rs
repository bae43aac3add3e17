//! How far a deployment may stray from the desired count.

/// `minimumHealthyPercent` and `maximumPercent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The share of the desired count that must stay healthy.
    pub minimum_healthy_percent: u32,
    /// The share of the desired count that may exist at once.
    pub maximum_percent: u32,
}

impl Limits {
    /// What a replica service gets where nothing is said (API reference,
    /// `DeploymentConfiguration`).
    pub const REPLICA: Limits =
        Limits { minimum_healthy_percent: 100, maximum_percent: 200 };
    /// What a daemon service gets where nothing is said.
    pub const DAEMON: Limits =
        Limits { minimum_healthy_percent: 0, maximum_percent: 100 };

    /// The fewest healthy tasks a deployment may leave: rounded up.
    pub fn fewest_healthy(self, desired: u32) -> u32 {
        let exact =
            u64::from(desired) * u64::from(self.minimum_healthy_percent);
        narrow(exact.div_ceil(100))
    }

    /// The most tasks a deployment may have at once: rounded down.
    pub fn most(self, desired: u32) -> u32 {
        let exact = u64::from(desired) * u64::from(self.maximum_percent);
        narrow(exact / 100)
    }
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_rounds_up_and_the_maximum_down() {
        for (desired, min, max, fewest, most) in [
            (4, 100, 200, 4, 8),
            (4, 50, 100, 2, 4),
            (2, 75, 100, 2, 2),
            (3, 100, 125, 3, 3),
            (1, 100, 200, 1, 2),
            (1, 0, 100, 0, 1),
            (10, 90, 110, 9, 11),
            (0, 100, 200, 0, 0),
        ] {
            let limits =
                Limits { minimum_healthy_percent: min, maximum_percent: max };
            assert_eq!(limits.fewest_healthy(desired), fewest, "{desired}");
            assert_eq!(limits.most(desired), most, "{desired}");
        }
    }

    #[test]
    fn nothing_overflows() {
        let limits = Limits {
            minimum_healthy_percent: u32::MAX,
            maximum_percent: u32::MAX,
        };
        assert_eq!(limits.most(u32::MAX), u32::MAX);
        assert_eq!(limits.fewest_healthy(u32::MAX), u32::MAX);
    }
}
