//! Frames of stacks as text and as JSON.

use lookback::Trace;
use lookback::read::symbols::{Location, Symbolizer};
use lookback::read::wire::key;
use lookback::read::{Event, EventKind, Frame, OwnedFrame, StackReason};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// How many functions of a stack to show: the innermost of the service's own.
const MOST_FUNCTIONS: usize = 5;

/// Opens the paths in a snapshot of this machine since its last boot. Those in another one are opened only on request,
/// which is a directory to look in; else it has to do with the names that are in the snapshot itself, if there are any.
pub fn symbolizer(trace: &Trace, folders: &[PathBuf]) -> Option<Symbolizer> {
    let here = crate::process::boot_id_text();
    let is_here = here.is_some() && here.as_deref() == trace.metadata().text(key::BOOT_ID);
    if is_here || !folders.is_empty() {
        return Some(opening(trace, folders));
    }
    let inside = Symbolizer::new().with_names_of(trace);
    inside.has_names().then(|| inside.without_files())
}

/// Opens the paths in a snapshot wherever it is from.
pub fn opening(trace: &Trace, folders: &[PathBuf]) -> Symbolizer {
    let symbolizer = Symbolizer::new().with_names_of(trace);
    folders.iter().fold(symbolizer, |of, folder| of.with_folder(folder))
}

/// The innermost few of the service's own functions, with their lines; as they were recorded without a symbolizer.
pub fn in_short(stack: &[OwnedFrame], symbolizer: Option<&mut Symbolizer>) -> Vec<String> {
    match symbolizer {
        Some(symbolizer) => all_own(stack, symbolizer),
        None => stack.iter().take(MOST_FUNCTIONS).map(|frame| offset(&frame.frame())).collect(),
    }
}

fn all_own(stack: &[OwnedFrame], symbolizer: &mut Symbolizer) -> Vec<String> {
    let all = stack
        .iter()
        .flat_map(|frame| own_functions(&symbolizer.locations(&frame.frame())).collect::<Vec<_>>());
    all.take(MOST_FUNCTIONS).collect()
}

/// Those of these functions that are the service's own, with their lines.
pub fn own_functions(functions: &[Location]) -> impl Iterator<Item = String> {
    let own = functions.iter().filter(|location| !location.is_foreign());
    own.map(|location| match &location.place {
        Some((file, line)) => format!("{}  {file}:{line}", location.function),
        None => location.function.to_string(),
    })
}

/// A frame without a known function.
pub fn offset(frame: &Frame<'_>) -> String {
    let file = frame.module.and_then(|of| Path::new(of.path).file_name());
    let file = file.map_or_else(|| "?".into(), |file| file.to_string_lossy());
    format!("{file}+{:#x}", frame.offset)
}

/// The frames of a stack.
pub fn json(stack: &[OwnedFrame], mut symbolizer: Option<&mut Symbolizer>) -> Value {
    let frames = stack.iter().map(|frame| {
        let frame = frame.frame();
        let functions = symbolizer.as_deref_mut().map(|symbolizer| symbolizer.locations(&frame));
        frame_json(&frame, &functions.unwrap_or_default())
    });
    frames.collect()
}

/// A frame with its functions.
pub fn frame_json(frame: &Frame<'_>, functions: &[Location]) -> Value {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    one_json(
        frame.module.map(|of| (of.path, hex(of.build_id))),
        (frame.offset, frame.is_exact),
        functions,
    )
}

/// One frame: its file and build id, its offset in that and whether it is exact, its functions.
pub fn one_json(
    module: Option<(&str, String)>,
    (offset, is_exact): (u64, bool),
    functions: &[Location],
) -> Value {
    let function = |location: &Location| {
        json!({
            "name": location.function.to_string(),
            "file": location.place.as_ref().map(|(file, _)| file),
            "line": location.place.as_ref().map(|(_, line)| line),
            "inlined": location.is_inlined,
        })
    };
    if module.is_none() && offset > 0 {
        return json!({ "left_out": offset });
    }
    let (path, build_id) = module.unzip();
    json!({
        "module": path,
        "build_id": build_id,
        "offset": offset,
        "exact": is_exact,
        "functions": functions.iter().map(function).collect::<Vec<_>>(),
    })
}

/// The stack of the thread that got the fatal signal, innermost frame first; empty if there is none.
pub fn of_crash(trace: &Trace) -> Vec<OwnedFrame> {
    let is_crash = |event: &Event| {
        let crash = Some(StackReason::Crash);
        matches!(event.kind(), EventKind::ThreadStack { reason, .. } if reason == crash)
    };
    let newest = trace.generations().last().and_then(|last| trace.generation(last.number).ok());
    let found = newest.and_then(|newest| newest.events().flatten().find(is_crash));
    let frames = |event: &Event| {
        event.stack().map(|stack| stack.frames().map(OwnedFrame::from).collect::<Vec<_>>())
    };
    found.as_ref().and_then(frames).unwrap_or_default()
}
