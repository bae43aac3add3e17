//! Filters of DescribeParameters and GetParametersByPath: a parameter is
//! shown if each filter has a value that fits.

use minato_wire::ApiError;
use minato_wire::ssm::{
    ParameterStringFilter, ParameterTier, ParameterType, ParametersFilter,
    ParametersFilterKey, error,
};

use super::names;
use super::rows::{ParameterRow, ParameterVersion};

/// What a filter looks at.
enum Subject {
    Name,
    Type,
    KeyId,
    Tier,
    DataType,
    Tag(String),
    Path,
    Label,
}

/// How a filter's values are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Equals,
    BeginsWith,
    Contains,
    OneLevel,
    Recursive,
}

/// The operation that filters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    DescribeParameters,
    GetParametersByPath,
}

/// A filter that was checked.
pub(super) struct Filter {
    subject: Subject,
    test: Match,
    values: Vec<String>,
}

/// Checks the filters of an operation.
pub(super) fn checked(
    of: Of,
    filters: Option<Vec<ParameterStringFilter>>,
) -> Result<Vec<Filter>, ApiError> {
    let filters = filters.unwrap_or_default().into_iter();
    filters.map(|filter| Filter::of(of, filter)).collect()
}

/// Checks filters in their deprecated form.
pub(super) fn deprecated(
    filters: Vec<ParametersFilter>,
) -> Result<Vec<Filter>, ApiError> {
    let of = |filter: ParametersFilter| {
        let subject = match filter.key {
            Some(ParametersFilterKey::Name) => Subject::Name,
            Some(ParametersFilterKey::Type) => Subject::Type,
            Some(ParametersFilterKey::KeyId) => Subject::KeyId,
            None => return Err(no_such_key("")),
        };
        Filter::with(subject, Match::Equals, filter.values)
    };
    filters.into_iter().map(of).collect()
}

impl Filter {
    fn of(of: Of, filter: ParameterStringFilter) -> Result<Filter, ApiError> {
        let key = filter.key.unwrap_or_default();
        let subject = Subject::of(of, &key).ok_or_else(|| no_such_key(&key))?;
        let test = match filter.option.as_deref() {
            None => subject.options()[0],
            Some(option) => subject
                .options()
                .iter()
                .copied()
                .find(|test| test.as_str() == option)
                .ok_or_else(|| no_such_option(&key, option))?,
        };
        Filter::with(subject, test, filter.values)
    }

    fn with(
        subject: Subject,
        test: Match,
        values: Option<Vec<String>>,
    ) -> Result<Filter, ApiError> {
        let values = values.unwrap_or_default();
        // A tag's key alone finds all that have the tag.
        let needs_value = !matches!(subject, Subject::Tag(_));
        if values.is_empty() && needs_value {
            return Err(error::invalid_filter_value(
                "The filter has no value.",
            ));
        }
        let is_value = |value: &String| match (&subject, test) {
            (Subject::Type, Match::Equals) => {
                value.parse::<ParameterType>().is_ok()
            }
            (Subject::Tier, Match::Equals) => {
                value.parse::<ParameterTier>().is_ok()
            }
            (Subject::Path, _) => names::checked_path(value).is_some(),
            (_, _) => true,
        };
        if let Some(value) = values.iter().find(|value| !is_value(value)) {
            return Err(error::invalid_filter_value(format!(
                "The filter value isn't valid: {value}"
            )));
        }
        Ok(Filter { subject, test, values })
    }

    /// Whether a parameter fits; by its newest version, but for labels.
    pub(super) fn fits(&self, row: &ParameterRow) -> bool {
        let newest = &row.newest;
        match &self.subject {
            Subject::Name => self.matches(&row.name),
            Subject::Type => self.matches(newest.r#type.as_str()),
            Subject::KeyId => {
                newest.key_id.as_deref().is_some_and(|id| self.matches(id))
            }
            Subject::Tier => self.matches(newest.tier.as_str()),
            Subject::DataType => self.matches(&newest.data_type),
            Subject::Tag(key) => row.tags.get(key).is_some_and(|value| {
                self.values.is_empty() || self.matches(value)
            }),
            Subject::Path => self.matches(&row.name),
            Subject::Label => {
                row.versions().any(|version| self.label_of(version).is_some())
            }
        }
    }

    /// The label by which this filter, if it is one of labels, finds a
    /// version.
    pub(super) fn label_of<'a>(
        &self,
        version: &'a ParameterVersion,
    ) -> Option<&'a str> {
        match self.subject {
            Subject::Label => {
                let mut labels = version.labels.iter();
                labels.find(|label| self.matches(label)).map(String::as_str)
            }
            Subject::Name
            | Subject::Type
            | Subject::KeyId
            | Subject::Tier
            | Subject::DataType
            | Subject::Tag(_)
            | Subject::Path => None,
        }
    }

    fn matches(&self, text: &str) -> bool {
        let is_in = |path: &str, recursive| {
            names::checked_path(path)
                .is_some_and(|path| names::is_in(text, path, recursive))
        };
        self.values.iter().any(|value| match self.test {
            Match::Equals => text == value,
            Match::BeginsWith => text.starts_with(value),
            Match::Contains => text.contains(value),
            Match::OneLevel => is_in(value, false),
            Match::Recursive => is_in(value, true),
        })
    }
}

impl Subject {
    /// What a key names, where the operation has it.
    fn of(of: Of, key: &str) -> Option<Subject> {
        let (subject, by_path) = match key {
            "Type" => return Some(Subject::Type),
            "KeyId" => return Some(Subject::KeyId),
            "Label" => (Subject::Label, true),
            "Name" => (Subject::Name, false),
            "Path" => (Subject::Path, false),
            "Tier" => (Subject::Tier, false),
            "DataType" => (Subject::DataType, false),
            _ => {
                let tag = key.strip_prefix("tag:")?;
                (Subject::Tag(tag.to_owned()), false)
            }
        };
        (by_path == (of == Of::GetParametersByPath)).then_some(subject)
    }

    /// The options it has (API reference, ParameterStringFilter), the default
    /// first.
    fn options(&self) -> &'static [Match] {
        match self {
            Subject::Name => {
                &[Match::Equals, Match::BeginsWith, Match::Contains]
            }
            Subject::Type
            | Subject::KeyId
            | Subject::Tier
            | Subject::DataType
            | Subject::Tag(_) => &[Match::Equals, Match::BeginsWith],
            Subject::Path => &[Match::OneLevel, Match::Recursive],
            Subject::Label => &[Match::Equals],
        }
    }
}

impl Match {
    fn as_str(self) -> &'static str {
        match self {
            Match::Equals => "Equals",
            Match::BeginsWith => "BeginsWith",
            Match::Contains => "Contains",
            Match::OneLevel => "OneLevel",
            Match::Recursive => "Recursive",
        }
    }
}

fn no_such_key(key: &str) -> ApiError {
    error::invalid_filter_key(format!("The filter key isn't valid: {key}"))
}

fn no_such_option(key: &str, option: &str) -> ApiError {
    error::invalid_filter_option(format!(
        "The filter option isn't valid for {key}: {option}"
    ))
}
