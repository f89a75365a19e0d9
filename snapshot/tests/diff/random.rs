//! Random numbers of known distributions, from a seed.

/// A pseudo-random sequence of numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1, neither included.
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.uniform() * bound as f64) as usize
    }

    /// Between these, each order of magnitude as likely as any other.
    pub fn log_uniform(&mut self, least: f64, most: f64) -> f64 {
        (least.ln() + self.uniform() * (most / least).ln()).exp()
    }

    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.uniform().ln()
    }

    /// When something happens within so many seconds, at this rate; in clusters of so many on average.
    pub fn arrivals(&mut self, per_second: f64, seconds: f64, cluster: f64) -> Vec<f64> {
        let mut found = Vec::new();
        let mut at = 0.0;
        loop {
            at += self.exponential(cluster / per_second);
            if at >= seconds {
                return found;
            }
            let mut inside = at;
            loop {
                if inside < seconds {
                    found.push(inside);
                }
                if self.uniform() < 1.0 / cluster {
                    break;
                }
                inside += self.exponential(0.002);
            }
        }
    }
}
