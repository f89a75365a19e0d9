//! Patterns that select names.

/// Matches a part of a name, or, with `*` or `?` in it, the whole name.
#[derive(Clone, Debug)]
pub struct Pattern(Vec<char>);

impl Pattern {
    pub fn new(text: &str) -> Self {
        let mut pattern: Vec<char> = text.chars().collect();
        if !text.contains(['*', '?']) {
            pattern.insert(0, '*');
            pattern.push('*');
        }
        Self(pattern)
    }

    /// Matches the whole name.
    pub fn whole(text: &str) -> Self {
        Self(text.chars().collect())
    }

    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (&self.0, name.chars().collect::<Vec<_>>());
        let (mut at, mut reached) = (0, 0);
        // Where to continue if the last `*` must match one character more.
        let mut retry = None;
        while reached < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    retry = Some((at, reached));
                    at += 1;
                }
                Some(wanted) if *wanted == '?' || *wanted == name[reached] => {
                    at += 1;
                    reached += 1;
                }
                _ => match &mut retry {
                    Some((star, from)) => {
                        *from += 1;
                        (at, reached) = (*star + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|rest| *rest == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_part_or_the_shape_of_the_whole() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).matches(name);
        assert!(matches("lock", "inventory_locked"));
        assert!(matches("", ""));
        assert!(matches("", "any"));
        assert!(!matches("lock?", "inventory_locked"));
        assert!(matches("*lock?d", "inventory_locked"));
        assert!(matches("cache*", "cache_fill"));
        assert!(!matches("cache*", "the_cache"));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(!matches("a*b*c", "a-b-b-d"));
        assert!(matches("????", "größ"));
    }
}
