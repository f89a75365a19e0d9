//! A batch job: no server, no executor. Spans for its phases, regions for its steps, a counter for how
//! far it is; and a snapshot of the item that failed.

use lookback_recipes::{Seen, start};
use std::time::Duration;

fn main() {
    let recorder = start();
    tracing::subscriber::set_global_default(lookback::tracing::subscriber())
        .expect("the first one");
    let mut failed = None;
    {
        let _phase = tracing::info_span!("import", file = "orders.csv").entered();
        for row in 0..500_u64 {
            let _region = lookback::region!("row");
            lookback::counter!("rows", row);
            if row == 333 {
                std::thread::sleep(Duration::from_millis(5));
                tracing::error!(row, "no such customer");
                failed = Some(recorder.snapshot().expect("a snapshot"));
            }
        }
    }
    let at_failure = Seen::of(&failed.expect("a row fails"));
    assert_eq!(at_failure.count("region_begin", "row"), 334);
    let seen = Seen::of(&recorder.stop().expect("it stops"));
    assert_eq!(seen.regions("row").len(), 500);
    assert_eq!(seen.count("counter", "rows"), 500);
    let errors = seen.events().filter(|event| event.kind_name() == "log");
    assert_eq!(errors.count(), 1);
    seen.tell("a batch job");
}
