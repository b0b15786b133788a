//! The values of one search, interned as small numbers.
//!
//! The search distinguishes only values that some operation observes. All others are one value,
//! [`UNOBSERVED`], because no verdict depends on which one it is. With appends, each prefix of an observed
//! text is a value as well, since it may grow into that text. A prefix is identified by its length and by
//! the range of the sorted texts that have it.

use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Number of a value in a [`Domain`]. Equal numbers mean equal values, except for [`UNOBSERVED`].
pub(crate) type Id = u32;

/// [`Value::Nil`].
pub(crate) const NIL: Id = 0;

/// Any value that no operation observes.
pub(crate) const UNOBSERVED: Id = 1;

/// The values that a search distinguishes.
#[derive(Debug)]
pub(crate) struct Domain {
    kinds: Vec<ValueKind>,
    /// The values that are compared as a whole: all but texts that may grow by appends.
    atoms: BTreeMap<Value, Id>,
    /// True if the prefixes of texts are values.
    has_appends: bool,
    /// The observed texts, sorted.
    texts: Vec<Vec<u8>>,
    prefixes: BTreeMap<(usize, usize), Id>,
}

/// The value of an [`Id`].
#[derive(Clone, Debug)]
enum ValueKind {
    Nil,
    Unobserved,
    Atom(Value),
    Prefix(Prefix),
}

/// A prefix of the sorted observed texts `first..end`, and of no other observed text.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    first: usize,
    end: usize,
    length: usize,
}

impl Domain {
    /// Creates the domain that distinguishes the observed values.
    pub(crate) fn new(observed: BTreeSet<&Value>, has_appends: bool) -> Self {
        let mut domain = Self {
            kinds: vec![ValueKind::Nil, ValueKind::Unobserved],
            atoms: BTreeMap::from([(Value::Nil, NIL)]),
            has_appends,
            texts: Vec::new(),
            prefixes: BTreeMap::new(),
        };
        for value in observed {
            match value {
                Value::Text(text) if has_appends => domain.texts.push(text.clone()),
                value => _ = domain.atom(value),
            }
        }
        domain
    }

    /// Returns the number of a value.
    pub(crate) fn id(&mut self, value: &Value) -> Id {
        match value {
            Value::Text(text) if self.has_appends => self.extended(self.root(), text),
            // An append turns any other value into a text.
            value if self.has_appends => self.atom(value),
            value => self.atoms.get(value).copied().unwrap_or(UNOBSERVED),
        }
    }

    /// Returns the value that results from appending `text` to another.
    pub(crate) fn append(&mut self, to: Id, text: &[u8]) -> Id {
        match self.kinds[to as usize].clone() {
            ValueKind::Nil => self.extended(self.root(), text),
            ValueKind::Unobserved => UNOBSERVED,
            ValueKind::Atom(value) => {
                let start = self.extended(self.root(), &value.as_text());
                self.append(start, text)
            }
            ValueKind::Prefix(prefix) => self.extended(prefix, text),
        }
    }

    /// Returns whether appends to `from`, if any, may produce the text `to`. False if `to` is not a text.
    pub(crate) fn may_grow_into(&self, from: Id, to: Id) -> bool {
        match (&self.kinds[from as usize], &self.kinds[to as usize]) {
            (ValueKind::Nil | ValueKind::Atom(_), ValueKind::Prefix(_)) => true,
            (ValueKind::Prefix(prefix), ValueKind::Prefix(whole)) => {
                (prefix.first..prefix.end).contains(&whole.first) && prefix.length <= whole.length
            }
            _ => false,
        }
    }

    /// Returns the text of a value, if it is a prefix of an observed text.
    pub(crate) fn text(&self, id: Id) -> Option<&[u8]> {
        match self.kinds[id as usize] {
            ValueKind::Prefix(prefix) => Some(&self.texts[prefix.first][..prefix.length]),
            _ => None,
        }
    }

    /// Returns a text without its last `by` bytes, and any other value unchanged.
    pub(crate) fn without_suffix(&mut self, id: Id, by: usize) -> Id {
        let Some(text) = self.text(id) else { return id };
        let text = text[..text.len().saturating_sub(by)].to_vec();
        self.extended(self.root(), &text)
    }

    /// Returns whether the value is a text with this suffix.
    pub(crate) fn ends_with(&self, id: Id, end: &[u8]) -> bool {
        self.text(id).is_some_and(|text| text.ends_with(end))
    }

    /// Returns the empty text, a prefix of all texts.
    fn root(&self) -> Prefix {
        Prefix { first: 0, end: self.texts.len(), length: 0 }
    }

    /// Returns a prefix extended by more text, or [`UNOBSERVED`] if no observed text has the result as a prefix.
    fn extended(&mut self, prefix: Prefix, text: &[u8]) -> Id {
        let Prefix { first, end, length } = prefix;
        let among = &self.texts[first..end];
        let rest = |whole: &Vec<u8>| whole[length..].len().min(text.len());
        let below = among.partition_point(|whole| whole[length..][..rest(whole)] < *text);
        let fits = among[below..].partition_point(|whole| whole[length..].starts_with(text));
        if fits == 0 {
            return UNOBSERVED;
        }
        let (first, length) = (first + below, length + text.len());
        let kind = ValueKind::Prefix(Prefix { first, end: first + fits, length });
        *self.prefixes.entry((first, length)).or_insert_with(|| push(&mut self.kinds, kind))
    }

    /// Returns the number of a value that is compared as a whole.
    fn atom(&mut self, value: &Value) -> Id {
        if let Some(id) = self.atoms.get(value) {
            return *id;
        }
        let id = push(&mut self.kinds, ValueKind::Atom(value.clone()));
        self.atoms.insert(value.clone(), id);
        id
    }
}

/// Adds a value and returns its number.
fn push(kinds: &mut Vec<ValueKind>, kind: ValueKind) -> Id {
    kinds.push(kind);
    Id::try_from(kinds.len() - 1).expect("the number of distinct values should be below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::from(text)
    }

    #[test]
    fn unobserved_values_have_one_number() {
        let (one, two) = (Value::Int(1), text("1"));
        let mut domain = Domain::new(BTreeSet::from([&one, &two]), false);
        assert_ne!(domain.id(&one), domain.id(&two));
        assert_eq!(domain.id(&Value::Int(3)), UNOBSERVED);
        assert_eq!(domain.id(&text("")), UNOBSERVED);
        assert_eq!(domain.id(&Value::Nil), NIL);
    }

    #[test]
    fn append_produces_a_prefix_of_an_observed_text_or_an_unobserved_value() {
        let observed = [text("abc"), text("abd"), text("b")];
        let mut domain = Domain::new(observed.iter().collect(), true);
        let ab = domain.append(NIL, b"ab");
        let a = domain.id(&text("a"));
        assert_eq!(domain.append(a, b"b"), ab, "equal texts have one number");
        assert_eq!(domain.append(ab, b"d"), domain.id(&observed[1]));
        assert_eq!(domain.append(ab, b"x"), UNOBSERVED);
        assert_eq!(domain.append(UNOBSERVED, b""), UNOBSERVED);
        assert_eq!(domain.id(&text("ba")), UNOBSERVED);
        assert_ne!(domain.id(&text("")), NIL);
        let (abc, b) = (domain.id(&observed[0]), domain.id(&observed[2]));
        assert!(
            domain.may_grow_into(a, abc)
                && domain.may_grow_into(abc, abc)
                && domain.may_grow_into(NIL, b)
        );
        assert!(
            !domain.may_grow_into(abc, ab)
                && !domain.may_grow_into(b, abc)
                && !domain.may_grow_into(UNOBSERVED, b)
        );
        assert!(domain.ends_with(abc, b"bc") && !domain.ends_with(ab, b"bc"));
    }

    #[test]
    fn append_to_a_number_uses_its_decimal_form() {
        let observed = text("12x");
        let mut domain = Domain::new(BTreeSet::from([&observed]), true);
        let number = domain.id(&Value::Int(12));
        assert_ne!(number, domain.id(&text("12")));
        assert_eq!(domain.append(number, b"x"), domain.id(&observed));
    }
}
