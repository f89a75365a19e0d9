//! A Python extension: the recorder starts when the module is imported, and lives as long as the
//! process. What Python calls is a region; Python's threads have Python's names.

use lookback::Recorder;
use lookback_recipes::{Seen, start};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Mutex;

static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// Adds numbers, slowly enough to be seen.
#[pyfunction]
fn add(numbers: Vec<f64>) -> f64 {
    let _region = lookback::region!("add");
    let sum = numbers.iter().sum();
    lookback::event!("added", count = numbers.len(), sum);
    sum
}

/// What the thread is called in a snapshot.
#[pyfunction]
fn name_thread(name: &str) {
    lookback::set_thread_name(name);
}

/// Saves a snapshot.
#[pyfunction]
fn save(path: &str) -> PyResult<()> {
    let snapshot =
        lookback::snapshot().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    snapshot.save(path).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Stops recording, and says how many calls of `add` were recorded.
#[pyfunction]
fn stop() -> usize {
    let recorder = RECORDER.lock().unwrap().take().expect("it was imported");
    let seen = Seen::of(&recorder.stop().expect("it stops"));
    seen.tell("a Python extension");
    seen.regions("add").len()
}

#[pymodule]
fn recorded(module: &Bound<'_, PyModule>) -> PyResult<()> {
    *RECORDER.lock().unwrap() = Some(start());
    module.add_function(wrap_pyfunction!(add, module)?)?;
    module.add_function(wrap_pyfunction!(name_thread, module)?)?;
    module.add_function(wrap_pyfunction!(save, module)?)?;
    module.add_function(wrap_pyfunction!(stop, module)?)
}
