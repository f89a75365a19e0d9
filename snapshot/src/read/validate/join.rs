//! Walks two lists in the same order, side by side.

/// An item of one of them, or of both.
pub(super) enum Pair<'a, T> {
    Left(&'a T),
    Right(&'a T),
    Both(&'a T, &'a T),
}

/// Pairs items with the same key. Both lists must be in ascending order.
pub(super) fn join<'a, T, K: Ord>(
    left: &'a [T],
    right: &'a [T],
    key: impl Fn(&T) -> K,
) -> impl Iterator<Item = Pair<'a, T>> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (Some(one), Some(other)) => key(one).cmp(&key(other)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return None,
        };
        Some(match order {
            std::cmp::Ordering::Less => Pair::Left(left.next()?),
            std::cmp::Ordering::Greater => Pair::Right(right.next()?),
            std::cmp::Ordering::Equal => Pair::Both(left.next()?, right.next()?),
        })
    })
}
