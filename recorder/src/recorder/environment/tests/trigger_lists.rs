//! `LOOKBACK_TRIGGERS`: what each list arms, and what a wrong one is answered.

use super::*;

/// The triggers as text.
fn triggers(list: &str) -> Vec<String> {
    let builder = with(&[("LOOKBACK_TRIGGERS", list)]).expect("it is valid");
    builder.triggers.iter().map(|trigger| format!("{trigger:?}")).collect()
}

#[test]
fn every_trigger_has_its_words() {
    let second = Duration::from_secs(1);
    let said = |trigger: crate::Trigger| format!("{trigger:?}");
    use crate::Trigger as T;
    let expected = [
        ("panic", T::panic()),
        ("error,per_hour=3", T::error().per_hour(3)),
        ("log=ERROR", T::log(Level::Error)),
        ("log=warn,target=shop::pay", T::log(Level::Warn).target("shop::pay")),
        ("slow_span=request,500ms", T::slow_span("request", second / 2)),
        ("slow_region = parse , 20ms", T::slow_region("parse", second / 50)),
        ("no_progress=request,10s", T::no_progress("request", second * 10)),
        ("error_rate=request,5%", T::error_rate("request", 0.05)),
        (
            "error_rate=request,0.5%,over=30s,at_least=50,cool_down=5m",
            T::error_rate("request", 0.005).over(second * 30).at_least(50).cool_down(second * 300),
        ),
        (
            "latency_quantile=request, p99 ,500ms,at_least=10",
            T::latency_quantile("request", 0.99, second / 2).at_least(10),
        ),
        ("latency_quantile=x,50%,1s", T::latency_quantile("x", 0.5, second)),
        ("memory=2GiB", T::memory(2 << 30)),
        ("memory=90%", T::memory_share(0.9)),
        ("pressure=memory,20%", T::pressure(crate::Pressure::Memory, 0.2)),
        ("pressure=cpu,50%,over=1m", T::pressure(crate::Pressure::Cpu, 0.5).over(second * 60)),
        ("pressure=io,20%", T::pressure(crate::Pressure::Io, 0.2)),
        ("deadlock", T::deadlock()),
        (
            "stalled_poll=100ms,cool_down=30s,per_hour=5,delay=1s",
            T::stalled_poll(second / 10).cool_down(second * 30).per_hour(5).delay(second),
        ),
        ("signal", T::signal()),
        ("signal=SIGUSR2", T::signal_number(libc::SIGUSR2)),
        ("signal=hup", T::signal_number(libc::SIGHUP)),
        ("signal=40", T::signal_number(40)),
    ];
    for (text, trigger) in &expected {
        assert_eq!(triggers(text), [said(trigger.clone())], "{text}");
    }
    let list: Vec<_> = expected.iter().map(|(text, _)| *text).collect();
    assert_eq!(triggers(&format!(" ;{} ; ", list.join(";"))).len(), expected.len());
    assert!(triggers("none").is_empty() && triggers(" ; ").is_empty());
}

#[test]
fn signals_that_have_a_name_can_be_used() {
    for (name, number) in triggers::SIGNALS {
        assert!(crate::Trigger::signal_number(number).check(Duration::MAX).is_ok(), "{name}");
    }
}

#[test]
fn none_takes_away_what_code_has_set() {
    let builder = Builder::default().trigger(crate::Trigger::error()).snapshot_dir("x");
    let variables = [("LOOKBACK_TRIGGERS".into(), "none; signal".into())];
    let builder = apply(builder, variables.into_iter()).unwrap();
    assert_eq!(builder.triggers.len(), 1);
    assert!(format!("{:?}", builder.triggers).contains("Signal"));
}

#[test]
fn a_wrong_list_of_triggers_or_a_wrong_name_is_told_in_words() {
    let expected = [
        ("TRIGGERS", "painc", "unknown trigger `painc`; expected a list like `panic;"),
        ("TRIGGERS", "panic; none", "`none` must be the first"),
        ("TRIGGERS", "panic=1", "`panic` takes no value"),
        ("TRIGGERS", "log", "`log` needs a level"),
        ("TRIGGERS", "log=LOUD", "unknown level `LOUD`; levels are ERROR, WARN"),
        ("TRIGGERS", "slow_span=request", "`slow_span` needs a time after the name"),
        ("TRIGGERS", "slow_span=request,fast", "`fast` is not a time"),
        ("TRIGGERS", "slow_span,1s", "`slow_span` needs a name"),
        ("TRIGGERS", "slow_region=parse,0s", "the limit must not be zero"),
        ("TRIGGERS", "no_progress=request", "`no_progress` needs a time after the name"),
        ("TRIGGERS", "error_rate=request", "`error_rate` needs a share after the name"),
        ("TRIGGERS", "error_rate=request,0.05", "`0.05` is not a share such as 5%"),
        ("TRIGGERS", "error_rate=request,101%", "`101%` is not a share such as 5%"),
        ("TRIGGERS", "latency_quantile=x,p101,1s", "`p101` is not a quantile such as p99"),
        ("TRIGGERS", "latency_quantile=x,99,1s", "`99` is not a quantile such as p99"),
        ("TRIGGERS", "latency_quantile=x,p99", "needs a time after the name"),
        ("TRIGGERS", "error_rate=x,5%,over=0s", "the limit must not be zero"),
        ("TRIGGERS", "memory", "`memory` needs a size or a share"),
        ("TRIGGERS", "memory=lots", "is not a whole number of bytes"),
        ("TRIGGERS", "pressure=disk,5%", "`disk` is none of cpu, memory, io"),
        (
            "TRIGGERS",
            "pressure=io,5%,at_least=2",
            "options are cool_down, per_hour, delay and over",
        ),
        ("TRIGGERS", "deadlock=1", "`deadlock` takes no value"),
        ("TRIGGERS", "stalled_poll=1us", "at least 1ms"),
        ("TRIGGERS", "signal=SIGKILL", "`SIGKILL` is not a usable signal"),
        ("TRIGGERS", "signal=11", "`11` is not a usable signal"),
        (
            "TRIGGERS",
            "panic,cooldown=1s",
            "`panic` has no option `cooldown`; options are cool_down,",
        ),
        ("TRIGGERS", "panic,cool_down=1", "cool_down: `1` has no unit of time"),
        ("TRIGGERS", "panic,per_hour=-1", "per_hour: `-1` is not a whole number"),
        ("TRIGGERS", "panic,target=shop", "`panic` takes no target; only `log` does"),
        ("TRIGGERS", ",", "nothing before the `,`"),
        ("WINDWO", "10s", "no such variable; did you mean LOOKBACK_WINDOW?"),
        ("window", "10s", "no such variable; did you mean LOOKBACK_WINDOW?"),
        ("MAXBYTES", "10", "did you mean LOOKBACK_MAX_BYTES?"),
    ];
    for (name, value, reason) in expected {
        let error = refused(&format!("LOOKBACK_{name}"), value);
        assert!(error.contains(reason), "{error}\nlacks {reason}");
    }
    let long = refused("LOOKBACK_WINDOW", &"\n".repeat(10_000));
    assert!(long.len() < 500, "{long}");
}
