//! Resources of Traffic Mirroring in Terraform files:
//! <https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/ec2_traffic_mirror_session>.

use hcl::{Block, Body, Expression, Structure, TraversalOperator};
use serde_json::{Map, Value, json};

use super::template::{Kind, NotLiteral, Resource};

/// Reads the resources of a file.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Resource>> {
    let body: Body = hcl::parse(text)?;
    let mut found = Vec::new();
    for block in body.blocks().filter(|block| block.identifier.as_str() == "resource") {
        let [kind_name, name] = &block.labels[..] else { continue };
        let Some(kind) = kind(kind_name.as_str()) else { continue };
        let name = format!("{}.{}", kind_name.as_str(), name.as_str());
        let properties = properties(block).map_err(|(property, found)| {
            anyhow::anyhow!("{}", NotLiteral { resource: name.clone(), property, found })
        })?;
        found.push(Resource { kind, name, properties });
    }
    Ok(found)
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "aws_ec2_traffic_mirror_target" => Kind::Target,
        "aws_ec2_traffic_mirror_filter" => Kind::Filter,
        "aws_ec2_traffic_mirror_filter_rule" => Kind::Rule,
        "aws_ec2_traffic_mirror_session" => Kind::Session,
        _ => return None,
    })
}

/// By the names of the EC2 API; or the property that is not known from the file, and what is there instead.
fn properties(block: &Block) -> Result<Map<String, Value>, (String, String)> {
    let mut properties = Map::new();
    for structure in &block.body {
        match structure {
            Structure::Attribute(attribute) => {
                let name = attribute.key.as_str();
                // As many as its value says, or in another place: this one resource does not stand for that.
                if matches!(name, "count" | "for_each") {
                    return Err((name.to_owned(), "their number".to_owned()));
                }
                if matches!(name, "provider" | "depends_on" | "lifecycle" | "region") {
                    continue;
                }
                let value = literal(&attribute.expr).map_err(|found| (name.to_owned(), found))?;
                match (name, value) {
                    ("tags", Value::Object(tags)) => {
                        let tags = tags.into_iter().map(|(key, value)| json!({"Key": key, "Value": value}));
                        properties.insert("Tags".to_owned(), tags.collect());
                    }
                    (name, value) => drop(properties.insert(of_api(name), value)),
                }
            }
            Structure::Block(nested) => {
                let name = nested.identifier.as_str();
                if name != "lifecycle" {
                    properties.insert(of_api(name), Value::Object(self::properties(nested)?));
                }
            }
        }
    }
    Ok(properties)
}

/// `network_load_balancer_arn` is `NetworkLoadBalancerArn` there.
fn of_api(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    };
    name.split('_').map(capital).collect()
}

/// A value, with names in place of references; or what is there instead.
fn literal(expression: &Expression) -> Result<Value, String> {
    Ok(match expression {
        Expression::Null => Value::Null,
        Expression::Bool(boolean) => (*boolean).into(),
        Expression::Number(number) => {
            number.as_i64().map(Value::from).ok_or_else(|| format!("the number {number}"))?
        }
        Expression::String(text) => text.as_str().into(),
        Expression::Array(values) => Value::Array(values.iter().map(literal).collect::<Result<_, _>>()?),
        Expression::Object(object) => {
            let entry = |(key, value): (&hcl::ObjectKey, &Expression)| {
                let key = match key {
                    hcl::ObjectKey::Identifier(name) => name.as_str().to_owned(),
                    hcl::ObjectKey::Expression(Expression::String(name)) => name.clone(),
                    _ => return Err("a computed key".to_owned()),
                };
                Ok((key, literal(value)?))
            };
            Value::Object(object.iter().map(entry).collect::<Result<_, _>>()?)
        }
        Expression::Parenthesis(inner) => literal(inner)?,
        Expression::Traversal(traversal) => {
            let Expression::Variable(first) = &traversal.expr else { return Err("an expression".to_owned()) };
            let mut path = vec![first.as_str().to_owned()];
            for operator in &traversal.operators {
                match operator {
                    TraversalOperator::GetAttr(name) => path.push(name.as_str().to_owned()),
                    _ => return Err("one of several resources".to_owned()),
                }
            }
            // The attribute is its id or ARN.
            if path.len() > 2 {
                path.pop();
            }
            path.join(".").into()
        }
        Expression::Conditional(_) => return Err("a condition".to_owned()),
        Expression::FuncCall(call) => return Err(format!("{}()", call.name)),
        _ => return Err("an expression".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
resource "aws_s3_bucket" "b" { bucket = "x-${var.name}" }
resource "aws_ec2_traffic_mirror_target" "sensor" {
  network_load_balancer_arn = aws_lb.fleet.arn
}
resource "aws_ec2_traffic_mirror_filter" "web" {
  network_services = ["amazon-dns"]
  tags             = { Name = "web", "cost centre" = "7" }
}
resource "aws_ec2_traffic_mirror_filter_rule" "https" {
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.web.id
  traffic_direction        = "ingress"
  rule_number              = 100
  rule_action              = "accept"
  protocol                 = "6"
  source_cidr_block        = "0.0.0.0/0"
  destination_cidr_block   = "10.0.0.0/16"
  destination_port_range {
    from_port = 443
    to_port   = 443
  }
}
resource "aws_ec2_traffic_mirror_session" "web" {
  network_interface_id     = var.source
  traffic_mirror_target_id = (aws_ec2_traffic_mirror_target.sensor.id)
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.web.id
  session_number           = 1
  virtual_network_id       = 12345
  lifecycle {
    ignore_changes = [tags]
  }
}
"#;

    #[test]
    fn names_stand_for_references() {
        let resources = read(FILE).unwrap();
        let names: Vec<_> = resources.iter().map(|resource| resource.name.as_str()).collect();
        assert_eq!(names[0], "aws_ec2_traffic_mirror_target.sensor");
        assert_eq!(names.len(), 4);
        assert_eq!(resources[0].properties["NetworkLoadBalancerArn"], "aws_lb.fleet");
        assert_eq!(
            resources[1].properties["Tags"],
            json!([{"Key": "Name", "Value": "web"}, {"Key": "cost centre", "Value": "7"}])
        );
        assert_eq!(resources[2].properties["DestinationPortRange"], json!({"FromPort": 443, "ToPort": 443}));
        let session = &resources[3].properties;
        assert_eq!(session["TrafficMirrorTargetId"], names[0]);
        assert_eq!(
            (&session["NetworkInterfaceId"], &session["VirtualNetworkId"]),
            (&json!("var.source"), &json!(12345))
        );
    }

    #[test]
    fn what_is_not_known_from_the_file_is_named() {
        for (from, to, expected) in [
            (
                "session_number           = 1",
                "session_number = var.a ? 1 : 2",
                "session_number: a condition is neither",
            ),
            (
                "session_number           = 1",
                "session_number = max(1, 2)",
                "session_number: max() is neither",
            ),
            (
                "session_number           = 1",
                "session_number = 1 + 1",
                "session_number: an expression is neither",
            ),
            ("session_number           = 1", "count = 3", "count: their number is neither"),
            (
                "filter.web.id",
                "filter.web[0].id",
                "traffic_mirror_filter_id: one of several resources is neither",
            ),
        ] {
            let error = read(&FILE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn any_text_is_read_or_refused() {
        for text in [
            "",
            "resource {}",
            "resource \"a\" \"b\" \"c\" {}",
            "x = ",
            "{",
            "resource \"aws_ec2_traffic_mirror_target\" \"\" {}",
        ] {
            let _ = read(text);
        }
    }
}
