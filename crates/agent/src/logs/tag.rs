//! Log tags: Docker's templates, as far as they name the container.
//!
//! <https://docs.docker.com/engine/logging/log_tags/>

/// A tag with places for what is known of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(TagField),
}

/// What a template may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagField {
    Id,
    FullId,
    Name,
    ImageId,
    ImageFullId,
    ImageName,
    DaemonName,
}

impl TagField {
    fn of(name: &str) -> Option<TagField> {
        Some(match name {
            ".ID" => TagField::Id,
            ".FullID" => TagField::FullId,
            ".Name" => TagField::Name,
            ".ImageID" => TagField::ImageId,
            ".ImageFullID" => TagField::ImageFullId,
            ".ImageName" => TagField::ImageName,
            ".DaemonName" => TagField::DaemonName,
            _ => return None,
        })
    }
}

impl TagTemplate {
    /// Reads a template. The error is the part that cannot be had.
    pub fn parse(text: &str) -> Result<TagTemplate, String> {
        let mut parts = vec![];
        let mut rest = text;
        while let Some(begin) = rest.find("{{") {
            if begin > 0 {
                parts.push(Part::Text(rest[..begin].to_owned()));
            }
            let inner = &rest[begin + 2..];
            let end =
                inner.find("}}").ok_or_else(|| rest[begin..].to_owned())?;
            let field = TagField::of(inner[..end].trim())
                .ok_or_else(|| format!("{{{{{}}}}}", &inner[..end]))?;
            parts.push(Part::Field(field));
            rest = &inner[end + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(TagTemplate(parts))
    }

    /// A tag that is the same for all.
    pub fn literal(text: String) -> TagTemplate {
        TagTemplate(vec![Part::Text(text)])
    }

    /// The tag, with what `value` says of the fields.
    pub(crate) fn render(&self, value: impl Fn(TagField) -> String) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => value(*field),
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_or_refused() {
        let of = |text: &str| {
            let tag = TagTemplate::parse(text)?;
            Ok(tag.render(|field| format!("{field:?}")))
        };
        let good = |text: &str| of(text).map_err(|error: String| error);
        assert_eq!(good("{{.ID}}").unwrap(), "Id");
        assert_eq!(
            good("a/{{ .Name }}-{{.ImageName}}!").unwrap(),
            "a/Name-ImageName!"
        );
        assert_eq!(good("").unwrap(), "");
        assert_eq!(good("x{{.Nope}}").unwrap_err(), "{{.Nope}}");
        assert_eq!(good("x{{.ID").unwrap_err(), "{{.ID");
        assert_eq!(good("é{{.ID}}é").unwrap(), "éIdé");
    }
}
