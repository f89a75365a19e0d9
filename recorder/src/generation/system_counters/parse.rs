//! The texts of the kernel. Whatever is not as expected is not there.

#![forbid(unsafe_code)]

/// As much of it as is text.
pub(super) fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// The number that the text is.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number that follows this name at the beginning of a line, after spaces or a colon.
pub(super) fn line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.strip_prefix(':').or_else(|| rest.strip_prefix(' '))
    })?;
    number(rest)
}

/// The numbers of the first line, from this column on.
pub(super) fn columns<const N: usize>(text: &str, first: usize) -> Option<[u64; N]> {
    let mut words = text.lines().next()?.split_whitespace().skip(first);
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = words.next()?.parse().ok()?;
    }
    Some(numbers)
}

/// The microseconds in a line of a pressure file (`some` or `full`), in nanoseconds.
pub(super) fn pressure(text: &str, which: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(which))?;
    let total = line.split_whitespace().find_map(|word| word.strip_prefix("total="))?;
    number(total).map(|micros| micros.saturating_mul(1000))
}

/// A column of a table of `/proc/net`: a line of names, then one of numbers, both after the name of the table.
pub(super) fn network(text: &str, table: &str, name: &str) -> Option<u64> {
    let mut lines = text
        .lines()
        .filter(|line| line.strip_prefix(table).is_some_and(|rest| rest.starts_with(':')));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|one| one == name)?;
    number(numbers.split_whitespace().nth(at)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_of_the_kernel_are_understood() {
        assert_eq!(columns("100 30 12 5 0 40 0\n", 0), Some([100, 30, 12]));
        assert_eq!(columns::<1>("cpu  1 2 3 4 5 6 7 88 0 0\ncpu0 1\n", 8), Some([88]));
        assert_eq!(line("rchar: 5\nread_bytes: 4096\n", "read_bytes"), Some(4096));
        let throttled = "nr_periods 9\nnr_throttled 4\nthrottled_usec 123\n";
        assert_eq!((line(throttled, "nr_throttled"), line(throttled, "nr")), (Some(4), None));
        let pressed = "some avg10=0.00 avg60=0.00 avg300=0.00 total=42\n\
                       full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(
            (pressure(pressed, "some"), pressure(pressed, "full")),
            (Some(42_000), Some(7000))
        );
        assert_eq!(pressure("some avg10=0.00", "some"), None);
        let net = "Tcp: RtoAlgorithm MaxConn OutSegs RetransSegs\nTcp: 1 -1 900 12\n\
                   TcpExt: ListenOverflows ListenDrops\nTcpExt: 3 5\n";
        assert_eq!(network(net, "Tcp", "RetransSegs"), Some(12));
        assert_eq!(network(net, "Tcp", "MaxConn"), None);
        assert_eq!(
            (network(net, "TcpExt", "ListenDrops"), network(net, "Udp", "x")),
            (Some(5), None)
        );
        assert_eq!(number("max\n"), None);
        assert_eq!(text(b"12 \xff34"), "12 ");
    }

    proptest! {
        #[test]
        fn any_text_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let some = text(&bytes);
            let _ = (number(some), line(some, "a"), columns::<3>(some, 1), pressure(some, "s"));
            let _ = network(some, "", "");
        }

        #[test]
        fn any_text_that_looks_like_theirs_does_no_harm(
            some in "((some|full|Tcp|cpu|total=|[0-9]{1,25}|:|-| |\n)){0,60}",
        ) {
            let _ = (number(&some), line(&some, "cpu"), columns::<8>(&some, 1));
            let _ = (pressure(&some, "some"), network(&some, "Tcp", "cpu"));
        }
    }
}
