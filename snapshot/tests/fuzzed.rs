//! Each input of `fuzz/corpus` again: the seeds, and what fuzzing has found.
#![cfg(feature = "read")]

#[path = "../../fuzz/judge.rs"]
mod judge;

use std::path::Path;

fn replay(target: &str, judged: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        judged(&std::fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "there is no corpus of {target}");
}

#[test]
fn files_are_read_with_an_error_in_words_or_with_what_is_left() {
    replay("lbk", |input| judge::lbk(judge::file(input)));
    replay("frames", |input| judge::lbk(input.to_vec()));
}

#[test]
fn events_are_shown_in_a_size_that_fits_the_file() {
    replay("events", |input| judge::events(judge::file(input)));
}

#[test]
fn summaries_are_short_whatever_is_in_the_file() {
    replay("summary", |input| judge::summary(judge::file(input)));
}

#[test]
fn exports_are_of_a_size_that_fits_the_file() {
    replay("export_go", |input| judge::export_go(judge::file(input)));
}

#[test]
fn the_text_form_is_read_with_an_error_in_words() {
    replay("text_form", judge::text_form);
}
