//! The values of one search as small numbers.
//!
//! Only what somebody observed can be told apart: all other values are [`OTHER`], whoever wrote
//! them. Where texts are appended to, every beginning of an observed text is a value of its own
//! as well, since it may grow into that text; it is known by its place among the sorted texts.

use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A value of a [`Domain`]; equal numbers are equal values, except for [`OTHER`].
pub(crate) type Id = u32;

/// [`Value::Nil`].
pub(crate) const NIL: Id = 0;

/// Some value that nobody observes.
pub(crate) const OTHER: Id = 1;

/// All values that a search tells apart.
#[derive(Debug)]
pub(crate) struct Domain {
    forms: Vec<Form>,
    atoms: BTreeMap<Value, Id>,
    /// Whether texts are looked into.
    grows: bool,
    /// The observed texts, sorted.
    texts: Vec<Vec<u8>>,
    places: BTreeMap<(usize, usize), Id>,
}

/// What stands behind an [`Id`].
#[derive(Clone, Debug)]
enum Form {
    Nil,
    Other,
    Atom(Value),
    /// What the observed texts `first..end`, and no others, begin with.
    Prefix {
        first: usize,
        end: usize,
        length: usize,
    },
}

impl Domain {
    /// The domain that tells the observed values apart; `grows` if texts are appended to.
    pub(crate) fn new(observed: BTreeSet<&Value>, grows: bool) -> Self {
        let mut domain = Self {
            forms: vec![Form::Nil, Form::Other],
            atoms: BTreeMap::from([(Value::Nil, NIL)]),
            grows,
            texts: Vec::new(),
            places: BTreeMap::new(),
        };
        for value in observed {
            match value {
                Value::Text(text) if grows => domain.texts.push(text.clone()),
                value => _ = domain.atom(value),
            }
        }
        domain
    }

    /// The number of a value.
    pub(crate) fn id(&mut self, value: &Value) -> Id {
        match value {
            Value::Text(text) if self.grows => self.grown(self.root(), text),
            // What is no text becomes one when something is appended to it.
            value if self.grows => self.atom(value),
            value => self.atoms.get(value).copied().unwrap_or(OTHER),
        }
    }

    /// The value that comes from appending `text` to another.
    pub(crate) fn append(&mut self, to: Id, text: &[u8]) -> Id {
        match self.forms[to as usize].clone() {
            Form::Nil => self.grown(self.root(), text),
            Form::Other => OTHER,
            Form::Atom(value) => {
                let start = self.grown(self.root(), &value.as_text());
                self.append(start, text)
            }
            Form::Prefix { first, end, length } => self.grown((first, end, length), text),
        }
    }

    /// Whether appending to the first value may lead to the second.
    pub(crate) fn leads(&self, from: Id, to: Id) -> bool {
        match (&self.forms[from as usize], &self.forms[to as usize]) {
            (Form::Nil | Form::Atom(_), Form::Prefix { .. }) => true,
            (
                Form::Prefix { first, end, length },
                Form::Prefix { first: at, length: whole, .. },
            ) => (first..end).contains(&at) && length <= whole,
            _ => false,
        }
    }

    /// The text that the value is, where texts are appended to.
    pub(crate) fn text(&self, id: Id) -> Option<&[u8]> {
        match self.forms[id as usize] {
            Form::Prefix { first, length, .. } => Some(&self.texts[first][..length]),
            _ => None,
        }
    }

    /// A text without so many of its last bytes; any other value as it is.
    pub(crate) fn shortened(&mut self, id: Id, by: usize) -> Id {
        let Some(text) = self.text(id) else { return id };
        let text = text[..text.len().saturating_sub(by)].to_vec();
        self.grown(self.root(), &text)
    }

    /// Whether the value is a text with this end.
    pub(crate) fn ends_with(&self, id: Id, end: &[u8]) -> bool {
        self.text(id).is_some_and(|text| text.ends_with(end))
    }

    /// The empty text: every text begins with it.
    fn root(&self) -> (usize, usize, usize) {
        (0, self.texts.len(), 0)
    }

    /// A beginning of the texts `first..end`, of this length, and more text behind it.
    fn grown(&mut self, (first, end, length): (usize, usize, usize), text: &[u8]) -> Id {
        let among = &self.texts[first..end];
        let rest = |whole: &Vec<u8>| whole[length..].len().min(text.len());
        let below = among.partition_point(|whole| whole[length..][..rest(whole)] < *text);
        let fits = among[below..].partition_point(|whole| whole[length..].starts_with(text));
        if fits == 0 {
            return OTHER;
        }
        let (first, length) = (first + below, length + text.len());
        let form = Form::Prefix { first, end: first + fits, length };
        *self.places.entry((first, length)).or_insert_with(|| push(&mut self.forms, form))
    }

    fn atom(&mut self, value: &Value) -> Id {
        if let Some(id) = self.atoms.get(value) {
            return *id;
        }
        let id = push(&mut self.forms, Form::Atom(value.clone()));
        self.atoms.insert(value.clone(), id);
        id
    }
}

fn push(forms: &mut Vec<Form>, form: Form) -> Id {
    forms.push(form);
    Id::try_from(forms.len() - 1).expect("fewer values than fit into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::from(text)
    }

    #[test]
    fn only_what_is_observed_is_told_apart() {
        let (one, two) = (Value::Int(1), text("1"));
        let mut domain = Domain::new(BTreeSet::from([&one, &two]), false);
        assert_ne!(domain.id(&one), domain.id(&two));
        assert_eq!(domain.id(&Value::Int(3)), OTHER);
        assert_eq!(domain.id(&text("")), OTHER);
        assert_eq!(domain.id(&Value::Nil), NIL);
    }

    #[test]
    fn a_text_grows_along_the_observed_ones() {
        let observed = [text("abc"), text("abd"), text("b")];
        let mut domain = Domain::new(observed.iter().collect(), true);
        let ab = domain.append(NIL, b"ab");
        let a = domain.id(&text("a"));
        assert_eq!(domain.append(a, b"b"), ab, "one text, one number");
        assert_eq!(domain.append(ab, b"d"), domain.id(&observed[1]));
        assert_eq!(domain.append(ab, b"x"), OTHER);
        assert_eq!(domain.append(OTHER, b""), OTHER);
        assert_eq!(domain.id(&text("ba")), OTHER);
        assert_ne!(domain.id(&text("")), NIL);
        let (abc, b) = (domain.id(&observed[0]), domain.id(&observed[2]));
        assert!(domain.leads(a, abc) && domain.leads(abc, abc) && domain.leads(NIL, b));
        assert!(!domain.leads(abc, ab) && !domain.leads(b, abc) && !domain.leads(OTHER, b));
        assert!(domain.ends_with(abc, b"bc") && !domain.ends_with(ab, b"bc"));
    }

    #[test]
    fn a_number_is_appended_to_in_decimal() {
        let observed = text("12x");
        let mut domain = Domain::new(BTreeSet::from([&observed]), true);
        let number = domain.id(&Value::Int(12));
        assert_ne!(number, domain.id(&text("12")));
        assert_eq!(domain.append(number, b"x"), domain.id(&observed));
    }
}
