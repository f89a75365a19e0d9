//! The definitions of one generation: the meanings of its ids.
//!
//! All kinds of definitions share one space of ids. Texts stay where they are in the content; definitions
//! point to them.

use super::bytes::{Fault, Span, TextAt};
use super::stacks::StackDefinitions;
use crate::read::heap_totals::ListedHeap;
use crate::read::system_reading::{RuntimeReading, SystemReading};
use crate::read::thread_times::ThreadTimes;
use crate::wire::{MAX_TEXT, Ticks, TypeName, ValueType};
use std::collections::HashMap;

/// A site, a schema or a callsite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SiteDefinition {
    pub(crate) name: TextAt,
    pub(crate) file: TextAt,
    pub(crate) line: u32,
    /// The range of its fields.
    first_field: u32,
    field_count: u32,
    /// Only for a callsite.
    pub(crate) target: Option<(TextAt, u8)>,
    /// Whether it belongs to closures that run where blocking is allowed.
    pub(crate) blocking: bool,
}

/// A field of a schema or a callsite. For a callsite, only each value tells its type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) kind: ValueType,
    pub(crate) name: TextAt,
}

/// The meaning of an id: the kind in the low three bits, and an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning(u32);

impl Meaning {
    const NONE: Self = Self(0);
    const STRING: u32 = 1;
    const SITE: u32 = 2;
    const SCHEMA: u32 = 3;
    const CALLSITE: u32 = 4;

    fn new(kind: u32, index: usize) -> Self {
        Self((index as u32) << 3 | kind)
    }

    #[inline]
    fn index(self, kind: u32) -> Option<usize> {
        (self.0 & 7 == kind).then_some((self.0 >> 3) as usize)
    }
}

/// No site: unknown.
pub(crate) const NO_SITE: u32 = u32::MAX;
/// All ids are smaller than this.
const MAX_ID: u64 = 1 << 24;

/// A range that was open when the generation ended; `site` is an id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListedRange {
    pub(crate) range: u64,
    pub(crate) site: u64,
    pub(crate) began: Ticks,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Definitions {
    /// By id, for ids that lie close together, as recorders assign them.
    dense: Vec<Meaning>,
    sparse: HashMap<u64, Meaning>,
    strings: Vec<Span>,
    sites: Vec<SiteDefinition>,
    fields: Vec<Field>,
    pub(crate) stacks: StackDefinitions,
    pub(crate) thread_times: Vec<ThreadTimes>,
    pub(crate) heap: ListedHeap,
    pub(crate) system: Vec<SystemReading>,
    pub(crate) runtimes: Vec<RuntimeReading>,
    pub(crate) ranges: Vec<ListedRange>,
    /// The sizes of the futures of sites, by their ids.
    pub(crate) task_sizes: Vec<(u64, u64)>,
    /// How many more bytes the tables may take.
    room: u64,
}

impl Definitions {
    /// Tables that take `room` bytes at most.
    pub(crate) fn new(room: u64) -> Self {
        Self { room, ..Self::default() }
    }

    /// Charges bytes against the limit of a generation's tables.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        let rest = self.room.checked_sub(bytes as u64);
        self.room = rest.ok_or("the generation's tables are larger than the limit")?;
        Ok(())
    }

    /// How many more bytes may be charged.
    pub(crate) fn room(&self) -> u64 {
        self.room
    }

    pub(crate) fn add_string(&mut self, id: u64, text: Span) -> Result<(), Fault> {
        let meaning = Meaning::new(Meaning::STRING, self.strings.len());
        if self.add(id, meaning)? {
            self.strings.push(text);
        }
        Ok(())
    }

    pub(crate) fn add_site(
        &mut self,
        id: u64,
        place: (TextAt, TextAt, u64),
        fields: Option<&[Field]>,
    ) -> Result<(), Fault> {
        let kind = if fields.is_some() { Meaning::SCHEMA } else { Meaning::SITE };
        self.add_place(id, kind, place, fields.unwrap_or_default(), None)
    }

    /// Adds the site of closures that run where blocking is allowed.
    pub(crate) fn add_blocking(
        &mut self,
        id: u64,
        place: (TextAt, TextAt, u64),
    ) -> Result<(), Fault> {
        let before = self.sites.len();
        self.add_site(id, place, None)?;
        self.sites[before..].iter_mut().for_each(|site| site.blocking = true);
        Ok(())
    }

    /// Adds a callsite: its place, its target and level, the names of its fields.
    pub(crate) fn add_callsite(
        &mut self,
        id: u64,
        place: (TextAt, TextAt, u64),
        target: (TextAt, u64),
        names: &[Field],
    ) -> Result<(), Fault> {
        let level = u8::try_from(target.1).unwrap_or(u8::MAX);
        self.add_place(id, Meaning::CALLSITE, place, names, Some((target.0, level)))
    }

    fn add_place(
        &mut self,
        id: u64,
        kind: u32,
        (name, file, line): (TextAt, TextAt, u64),
        fields: &[Field],
        target: Option<(TextAt, u8)>,
    ) -> Result<(), Fault> {
        let meaning = Meaning::new(kind, self.sites.len());
        if self.add(id, meaning)? {
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            self.push_site(name, file, line, fields, target)?;
        }
        Ok(())
    }

    fn push_site(
        &mut self,
        name: TextAt,
        file: TextAt,
        line: u32,
        fields: &[Field],
        target: Option<(TextAt, u8)>,
    ) -> Result<u32, Fault> {
        self.charge(size_of_val(fields))?;
        let (first_field, field_count) = (self.fields.len() as u32, fields.len() as u32);
        self.fields.extend_from_slice(fields);
        self.sites.push(SiteDefinition {
            name,
            file,
            line,
            first_field,
            field_count,
            target,
            blocking: false,
        });
        Ok((self.sites.len() - 1) as u32)
    }

    /// Adds a site without an id, with the names of its fields; returns its index.
    pub(crate) fn add_nameless(
        &mut self,
        name: Span,
        file: Span,
        line: u32,
        fields: &[Field],
    ) -> Result<u32, Fault> {
        self.charge(256)?;
        self.push_site(TextAt::Span(name), TextAt::Span(file), line, fields, None)
    }

    pub(crate) fn set_blocking(&mut self, site: u32, blocking: bool) {
        if let Some(site) = self.sites.get_mut(site as usize) {
            site.blocking = blocking;
        }
    }

    /// Shortens names that are types of futures for people. Appends the new names to the content.
    pub(crate) fn say_types(&mut self, content: &mut Vec<u8>) -> Result<(), Fault> {
        let mut index = 0;
        while let Some(site) = self.sites.get(index) {
            let (name, file) = (self.text(content, site.name), self.text(content, site.file));
            if site.target.is_none()
                && let Some(said) = TypeName::new(name, file, site.line)
            {
                let said = said.to_string();
                self.charge(said.len())?;
                if content.len() + said.len() > u32::MAX as usize - 64 * MAX_TEXT {
                    return Err("it is too large");
                }
                let span = Span::new(content.len() as u32, said.len() as u32, false);
                content.extend_from_slice(said.as_bytes());
                self.sites[index].name = TextAt::Span(span);
            }
            index += 1;
        }
        Ok(())
    }

    /// Whether the id is new. The first meaning of an id stays.
    fn add(&mut self, id: u64, meaning: Meaning) -> Result<bool, Fault> {
        if id >= MAX_ID {
            return Err("an id is larger than any may be");
        }
        self.charge(size_of::<SiteDefinition>() + size_of::<Meaning>())?;
        if !matches!(self.meaning(id), Meaning::NONE) {
            return Ok(false);
        }
        let index = id as usize;
        if index >= 1024.max(2 * self.dense.len()) && index >= self.dense.len() {
            self.charge(64)?;
            self.sparse.insert(id, meaning);
            return Ok(true);
        }
        if index >= self.dense.len() {
            self.dense.resize(index + 1, Meaning::NONE);
        }
        self.dense[index] = meaning;
        Ok(true)
    }

    #[inline]
    fn meaning(&self, id: u64) -> Meaning {
        match self.dense.get(id as usize).copied().unwrap_or(Meaning::NONE) {
            Meaning::NONE if !self.sparse.is_empty() => {
                self.sparse.get(&id).copied().unwrap_or(Meaning::NONE)
            }
            found => found,
        }
    }

    /// The index of the site with this id, or [`NO_SITE`].
    #[inline]
    pub(crate) fn site_index(&self, id: u64) -> u32 {
        self.meaning(id).index(Meaning::SITE).map_or(NO_SITE, |index| index as u32)
    }

    /// The index of the site or callsite with this id, or [`NO_SITE`].
    #[inline]
    pub(crate) fn place_index(&self, id: u64) -> u32 {
        let meaning = self.meaning(id);
        let site = meaning.index(Meaning::CALLSITE).or_else(|| meaning.index(Meaning::SITE));
        site.map_or(NO_SITE, |index| index as u32)
    }

    /// The index of the schema with this id among the sites.
    #[inline]
    pub(crate) fn schema_index(&self, id: u64) -> Option<u32> {
        self.meaning(id).index(Meaning::SCHEMA).map(|index| index as u32)
    }

    pub(crate) fn schema(&self, id: u64) -> Option<&SiteDefinition> {
        self.meaning(id).index(Meaning::SCHEMA).map(|index| &self.sites[index])
    }

    pub(crate) fn site(&self, index: u32) -> Option<&SiteDefinition> {
        self.sites.get(index as usize)
    }

    #[inline]
    pub(crate) fn fields(&self, schema: &SiteDefinition) -> &[Field] {
        &self.fields[schema.first_field as usize..][..schema.field_count as usize]
    }

    /// The name behind an id: the text of a string, the name of a site.
    pub(crate) fn name_of(&self, id: u64) -> Option<TextAt> {
        let meaning = self.meaning(id);
        let mut kinds = [Meaning::SITE, Meaning::SCHEMA, Meaning::CALLSITE].into_iter();
        let site = kinds.find_map(|kind| meaning.index(kind));
        let string = meaning.index(Meaning::STRING).map(|_| TextAt::Id(id));
        site.map(|index| self.sites[index].name).or(string)
    }

    /// Where a text is; `None` if its id is not a string's.
    pub(crate) fn span(&self, text: TextAt) -> Option<Span> {
        match text {
            TextAt::Span(span) => Some(span),
            TextAt::Id(id) => {
                self.meaning(id).index(Meaning::STRING).map(|index| self.strings[index])
            }
        }
    }

    /// The error if a definition refers to a string that does not exist.
    pub(crate) fn dangling(&self) -> Option<&'static str> {
        let names = self.sites.iter().flat_map(|site| [site.name, site.file]);
        let targets = self.sites.iter().filter_map(|site| site.target.map(|(text, _)| text));
        let mut all = names.chain(targets).chain(self.fields.iter().map(|field| field.name));
        all.any(|text| self.span(text).is_none())
            .then_some("a definition refers to a string that is not defined")
    }

    /// A text, or `?` if it is unknown.
    pub(crate) fn text<'a>(&self, content: &'a [u8], text: TextAt) -> &'a str {
        self.span(text).map_or("?", |span| span.of(content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_far_apart_take_no_room_in_between() {
        let mut tables = Definitions::new(1 << 20);
        tables.add_string((1 << 24) - 1, Span::new(7, 1, false)).unwrap();
        tables.add_string(3, Span::new(9, 1, false)).unwrap();
        assert!(tables.dense.len() <= 1024);
        assert_eq!(tables.span(TextAt::Id((1 << 24) - 1)).unwrap().start, 7);
        assert_eq!(tables.span(TextAt::Id(3)).unwrap().start, 9);
        assert_eq!(tables.span(TextAt::Id(4)), None);
        assert!(tables.add_string(1 << 24, Span::default()).is_err());
    }

    #[test]
    fn an_id_has_one_meaning_and_the_first_one_stands() {
        let mut tables = Definitions::new(1 << 20);
        tables.add_string(1, Span::new(7, 1, false)).unwrap();
        let text = TextAt::Id(1);
        tables.add_site(1, (text, text, 5), None).unwrap();
        assert_eq!(tables.site_index(1), NO_SITE);
        assert_eq!(tables.span(text).unwrap().start, 7);
    }

    #[test]
    fn tables_stay_within_their_room() {
        let mut tables = Definitions::new(1000);
        assert!((0..1000).any(|id| tables.add_string(id, Span::default()).is_err()));
    }
}
