//! Values with a unit: `"250ms"`, `"50/s"`, `"20MiB"` (pure).

use std::time::Duration;

/// Reads a duration: a whole number and `ms`, `s`, `m`, `h` or `d`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// Reads a rate as a number per second: `50/s`, `600/min`, `10000/h`, `100000/d`.
pub fn rate(text: &str) -> Option<f64> {
    rate_and_unit(text).map(|(rate, _)| rate)
}

/// The same with the unit's length in seconds.
pub fn rate_and_unit(text: &str) -> Option<(f64, f64)> {
    let (number, unit) = text.trim().split_once('/')?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number = number.trim();
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    (number > 0.0 && number.is_finite()).then(|| (number / seconds, seconds))
}

/// Reads a size in bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let number: u64 = number.parse().ok()?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Writes a duration as [`duration`] reads it, in the largest unit that is exact.
pub fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis > 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// Writes a size as [`size`] reads it, in the largest unit that is exact.
pub fn written_size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// Writes a rate per second as [`rate`] reads it, in the first unit that makes it a whole number.
pub fn written_rate(per_second: f64) -> String {
    for (unit, seconds) in [("s", 1.0), ("min", 60.0), ("h", 3_600.0), ("d", 86_400.0)] {
        let number = per_second * seconds;
        if number >= 0.999_999 && (number - number.round()).abs() < 1e-6 * number {
            return format!("{}/{unit}", number.round());
        }
    }
    format!("{per_second:.3}/s")
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_read_as_written() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("3d"), Some(Duration::from_secs(259_200)));
        assert_eq!(rate("600/min"), Some(10.0));
        assert_eq!(rate("0.5/s"), Some(0.5));
        assert_eq!(size("20MiB"), Some(20 << 20));
        assert_eq!(size("512 B"), Some(512));
        assert_eq!(written_size(20 << 20), "20MiB");
        assert_eq!(written_size(1_000), "1000B");
    }

    #[test]
    fn rates_are_written_in_the_unit_that_fits() {
        let written = ["50/s", "90/min", "10000/h", "100000/d", "600/min"]
            .map(|text| written_rate(rate(text).expect("a rate")));
        assert_eq!(written, ["50/s", "90/min", "10000/h", "100000/d", "10/s"]);
        assert_eq!(written_rate(0.123_456_7), "0.123/s");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "5", "s", "-5s", "5 weeks", "99999999999999999999s", "9999999999999999999d"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
        for text in ["", "50", "50/", "0/s", "-1/s", "inf/s", "NaN/s", "1e3/s", "5/fortnight"] {
            assert_eq!(rate(text), None, "{text}");
        }
        for text in ["", "20", "MiB", "20MB", "99999999999999999999GiB", "17179869184GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(millis in 0u64..1_000_000_000_000) {
            let value = Duration::from_millis(millis);
            prop_assert_eq!(duration(&written(value)), Some(value));
        }

        #[test]
        fn no_text_makes_a_reader_panic(text in ".*") {
            let _ = (duration(&text), rate(&text), size(&text));
        }
    }
}
