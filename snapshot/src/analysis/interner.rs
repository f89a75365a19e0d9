//! Interned texts: names outlive the generations that they are read from.

use crate::wire::OWN_REGION;
use std::collections::HashMap;

/// A text in [`Names`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(u32);

impl Name {
    /// What all names are called for which there was no room.
    pub(super) const OTHER: Self = Self(1);
    /// The name of the region in which a thread works for the recorder.
    pub(super) const OWN: Self = Self(2);
}

/// See the module. The number of names from one file is bounded; all further ones are one.
pub(super) struct Names {
    texts: Vec<Box<str>>,
    by_text: HashMap<Box<str>, Name>,
}

const MOST: usize = 1 << 16;

impl Default for Names {
    fn default() -> Self {
        let texts = vec!["?".into(), "(other names)".into(), OWN_REGION.into()];
        Self { texts, by_text: HashMap::from([(OWN_REGION.into(), Name::OWN)]) }
    }
}

impl Names {
    /// Interns a text.
    pub(super) fn name(&mut self, text: &str) -> Name {
        if let Some(name) = self.by_text.get(text) {
            return *name;
        }
        if text == "?" {
            return Name(0);
        }
        if self.texts.len() >= MOST {
            return Name::OTHER;
        }
        let name = Name(self.texts.len() as u32);
        self.texts.push(text.into());
        self.by_text.insert(text.into(), name);
        name
    }

    /// The name of a text that is interned already.
    pub(super) fn known(&self, text: &str) -> Option<Name> {
        self.by_text.get(text).copied()
    }

    /// The text.
    pub(super) fn text(&self, name: Name) -> &str {
        &self.texts[name.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_there_is_an_end_to_them() {
        let mut names = Names::default();
        let flush = names.name("flush");
        assert_eq!((names.name("flush"), names.text(flush)), (flush, "flush"));
        assert_eq!(names.text(Name::default()), "?");
        assert_eq!(names.name("?"), Name::default());
        for number in 0..MOST {
            names.name(&number.to_string());
        }
        let late = names.name("one too many");
        assert_eq!(names.text(late), "(other names)");
        assert_eq!(names.name("flush"), flush);
    }
}
