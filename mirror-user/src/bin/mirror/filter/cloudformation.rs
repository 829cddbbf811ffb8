//! Resources of Traffic Mirroring in CloudFormation templates, YAML or JSON:
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_EC2.html>.

use anyhow::Context as _;
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value};

use super::template::{Kind, NotLiteral, Resource};

/// Reads the resources; none of a text that is no template.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Resource>> {
    let documents = Yaml::load_from_str(text)?;
    let template = documents.first().context("there is no document")?;
    let parameters = template.as_mapping_get("Parameters").and_then(Yaml::as_mapping);
    let default = |name: &str| {
        let (_, parameter) = parameters?.iter().find(|(key, _)| key.as_str() == Some(name))?;
        parameter.as_mapping_get("Default")
    };
    let resources = template.as_mapping_get("Resources").and_then(Yaml::as_mapping);
    let mut found = Vec::new();
    for (name, resource) in resources.into_iter().flatten() {
        let (Some(name), Some(kind)) = (name.as_str(), kind(resource)) else { continue };
        let mut properties = Map::new();
        let declared = resource.as_mapping_get("Properties").and_then(Yaml::as_mapping);
        for (property, value) in declared.into_iter().flatten() {
            let property = property.as_str().unwrap_or_default();
            let value = literal(value, &default).map_err(|found| {
                let (resource, property) = (name.to_owned(), property.to_owned());
                anyhow::anyhow!("{}", NotLiteral { resource, property, found })
            })?;
            properties.insert(property.to_owned(), value);
        }
        found.push(Resource { kind, name: name.to_owned(), properties });
    }
    Ok(found)
}

fn kind(resource: &Yaml<'_>) -> Option<Kind> {
    Some(match resource.as_mapping_get("Type")?.as_str()? {
        "AWS::EC2::TrafficMirrorTarget" => Kind::Target,
        "AWS::EC2::TrafficMirrorFilter" => Kind::Filter,
        "AWS::EC2::TrafficMirrorFilterRule" => Kind::Rule,
        "AWS::EC2::TrafficMirrorSession" => Kind::Session,
        _ => return None,
    })
}

/// A value, with names in place of references, and defaults in place of parameters; or what is there instead.
fn literal<'y>(
    value: &'y Yaml<'y>,
    default: &impl Fn(&str) -> Option<&'y Yaml<'y>>,
) -> Result<Value, String> {
    Ok(match value {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(boolean)) => (*boolean).into(),
        Yaml::Value(Scalar::Integer(number)) => (*number).into(),
        Yaml::Value(Scalar::String(text)) => text.to_string().into(),
        Yaml::Sequence(values) => {
            Value::Array(values.iter().map(|value| literal(value, default)).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(mapping) => match mapping.iter().next() {
            Some((key, value)) if mapping.len() == 1 && is_function(key) => {
                call(key.as_str().unwrap_or_default(), value, default)?
            }
            _ => {
                let entry = |(key, value): (&Yaml<'_>, &'y Yaml<'y>)| {
                    Ok((key.as_str().unwrap_or_default().to_owned(), literal(value, default)?))
                };
                Value::Object(mapping.iter().map(entry).collect::<Result<_, String>>()?)
            }
        },
        Yaml::Tagged(tag, value) if tag.handle == "!" => {
            let name = &tag.suffix;
            let name = if name == "Ref" { name.clone() } else { format!("Fn::{name}") };
            call(&name, value, default)?
        }
        _ => return Err("this".to_owned()),
    })
}

fn is_function(key: &Yaml<'_>) -> bool {
    key.as_str().is_some_and(|key| key == "Ref" || key.starts_with("Fn::"))
}

fn call<'y>(
    function: &str,
    argument: &'y Yaml<'y>,
    default: &impl Fn(&str) -> Option<&'y Yaml<'y>>,
) -> Result<Value, String> {
    let first = match argument {
        Yaml::Sequence(words) => words.first().and_then(Yaml::as_str),
        argument => argument.as_str(),
    };
    match (function, first) {
        // An empty default stands for a value that is to be given.
        ("Ref", Some(name)) => match default(name).filter(|value| value.as_str() != Some("")) {
            Some(value) => literal(value, default),
            None => Ok(name.into()),
        },
        // The id of what it belongs to.
        ("Fn::GetAtt", Some(path)) => Ok(path.split('.').next().unwrap_or(path).into()),
        _ => Err(function.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"
Parameters:
  Source: {Type: String, Default: ""}
  Number: {Type: Number, Default: 7}
Resources:
  Bucket: {Type: "AWS::S3::Bucket", Properties: {BucketName: !Sub "x-${Number}"}}
  Sensor:
    Type: AWS::EC2::TrafficMirrorTarget
    Properties: {NetworkInterfaceId: !GetAtt Capture.Id}
  Web:
    Type: AWS::EC2::TrafficMirrorFilter
    Properties: {NetworkServices: [amazon-dns]}
  Https:
    Type: AWS::EC2::TrafficMirrorFilterRule
    Properties:
      TrafficMirrorFilterId: !Ref Web
      TrafficDirection: ingress
      RuleNumber: "100"
      RuleAction: accept
      Protocol: 6
      SourceCidrBlock: 0.0.0.0/0
      DestinationCidrBlock: 10.0.0.0/16
      DestinationPortRange: {FromPort: "443", ToPort: 443}
  Session:
    Type: AWS::EC2::TrafficMirrorSession
    Properties:
      NetworkInterfaceId: {Ref: Source}
      TrafficMirrorTargetId: {"Fn::GetAtt": [Sensor, Id]}
      TrafficMirrorFilterId: !Ref Web
      SessionNumber: !Ref Number
"#;

    #[test]
    fn names_stand_for_references_and_defaults_for_parameters() {
        let resources = read(TEMPLATE).unwrap();
        let kinds: Vec<_> =
            resources.iter().map(|resource| (resource.kind, resource.name.as_str())).collect();
        assert_eq!(
            kinds,
            [
                (Kind::Target, "Sensor"),
                (Kind::Filter, "Web"),
                (Kind::Rule, "Https"),
                (Kind::Session, "Session")
            ]
        );
        let session = &resources[3].properties;
        assert_eq!(
            (session["NetworkInterfaceId"].as_str(), session["SessionNumber"].as_i64()),
            (Some("Source"), Some(7))
        );
        assert_eq!(session["TrafficMirrorTargetId"], "Sensor");
        assert_eq!(resources[0].properties["NetworkInterfaceId"], "Capture");
    }

    #[test]
    fn what_is_not_known_from_the_template_is_named() {
        let text = TEMPLATE.replace("SessionNumber: !Ref Number", "SessionNumber: !If [A, 1, 2]");
        let error = read(&text).unwrap_err().to_string();
        assert!(error.starts_with("Session: SessionNumber: Fn::If is neither a literal"), "{error}");
    }

    #[test]
    fn any_text_is_read_or_refused() {
        for text in
            ["", "- a", "Resources: 7", "Resources: {A: 7, B: {Type: [x]}}", "a: &x [*x]", "{", "\t- :"]
        {
            if let Ok(resources) = read(text) {
                assert!(resources.is_empty(), "{text}");
            }
        }
    }
}
