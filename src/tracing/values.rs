//! The values of fields, encoded as `tracing` hands them over.

use super::redaction::{REDACTED, Redaction};
use lookback_recorder::integration::{FieldBuf, Fields, Site, StackText};
use std::error::Error;
use std::fmt;
use tracing_core::Field;
use tracing_core::field::Visit;

/// Encodes the fields of a span or an event. The field `message` of an event is its message.
pub(super) struct Values<'a> {
    pub(super) fields: Fields<'a>,
    pub(super) message: Option<StackText<'a>>,
    redaction: &'a Redaction,
    /// Which fields are secrets, by name or because their names are unknown.
    secrets: u64,
    /// How many fields have names in the site's definition.
    named: usize,
    /// Leaves out the fields of `log`'s records that repeat the metadata.
    is_log: bool,
}

impl<'a> Values<'a> {
    #[inline(always)]
    pub(super) fn of_span(site: &Site, room: &'a mut FieldBuf, redaction: &'a Redaction) -> Self {
        Self {
            fields: Fields::new(room),
            message: None,
            redaction,
            secrets: site.mark() | site.hidden(),
            named: site.named_fields(),
            is_log: false,
        }
    }

    #[inline(always)]
    pub(super) fn of_event(
        site: &Site,
        room: &'a mut FieldBuf,
        message: StackText<'a>,
        redaction: &'a Redaction,
        is_log: bool,
    ) -> Self {
        Self {
            fields: Fields::new(room),
            message: Some(message),
            redaction,
            secrets: site.mark() | site.hidden(),
            named: site.named_fields(),
            is_log,
        }
    }

    /// Where to write the value of this field. `None` if it is not recorded.
    #[inline(always)]
    fn index(&mut self, field: &Field) -> Option<usize> {
        if self.is_log && field.name().starts_with("log.") {
            return None;
        }
        let index = field.index();
        if index >= self.named {
            self.fields.omit(index);
            return None;
        }
        let is_secret = index < 64 && self.secrets >> index & 1 != 0;
        if self.redaction.covers(field.name(), is_secret) {
            self.fields.text(index, REDACTED);
            return None;
        }
        Some(index)
    }

    /// Where to write the message, if this field is the message and none was written.
    #[inline(always)]
    fn message(&mut self, field: &Field) -> Option<&mut StackText<'a>> {
        match &mut self.message {
            Some(message) if field.name() == "message" && message.as_str().is_empty() => {
                Some(message)
            }
            _ => None,
        }
    }
}

impl Visit for Values<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if let Some(index) = self.index(field) {
            self.fields.float(index, value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if let Some(index) = self.index(field) {
            self.fields.signed(index, value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if let Some(index) = self.index(field) {
            self.fields.unsigned(index, value);
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        if let Some(index) = self.index(field) {
            self.fields.wide(index, value);
        }
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        if let Some(index) = self.index(field) {
            self.fields.wide_signed(index, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if let Some(index) = self.index(field) {
            self.fields.flag(index, value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(message) = self.message(field) {
            let _ = fmt::Write::write_str(message, value);
        } else if let Some(index) = self.index(field) {
            self.fields.text(index, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        if let Some(index) = self.index(field) {
            self.fields.error(index, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(message) = self.message(field) {
            let _ = fmt::Write::write_fmt(message, format_args!("{value:?}"));
        } else if let Some(index) = self.index(field) {
            self.fields.formatted(index, format_args!("{value:?}"));
        }
    }
}
