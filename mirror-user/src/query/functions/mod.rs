//! Functions of one row:
//! [the list of CloudWatch](https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax-operations-functions.html).

mod ip;
mod number;
mod text;

use ipnet::IpNet;

pub(super) use ip::in_subnet;
pub(super) use number::arithmetic;

use super::value::{Numeric, Value};

/// A function of this tool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Function {
    Abs,
    Bin,
    Ceil,
    Coalesce,
    Concat,
    DateCeil,
    DateFloor,
    EndsWith,
    Floor,
    FromMillis,
    Greatest,
    If,
    IsBlank,
    IsEmpty,
    IsIpInSubnet,
    IsIpv4InSubnet,
    IsIpv6InSubnet,
    IsNumeric,
    IsPresent,
    IsPrivateIp,
    IsValidIp,
    IsValidIpV4,
    IsValidIpV6,
    Least,
    Log,
    Ltrim,
    Now,
    Replace,
    Rtrim,
    Sqrt,
    StartsWith,
    StrContains,
    StrLen,
    Substr,
    ToLower,
    ToMillis,
    ToUpper,
    Trim,
    Unmask,
}

/// Any number of arguments from the first on.
const MANY: usize = usize::MAX;

/// Function, name, fewest and most arguments; in the order of names.
const FUNCTIONS: [(Function, &str, usize, usize); 39] = [
    (Function::Abs, "abs", 1, 1),
    (Function::Bin, "bin", 1, 1),
    (Function::Ceil, "ceil", 1, 1),
    (Function::Coalesce, "coalesce", 1, MANY),
    (Function::Concat, "concat", 1, MANY),
    (Function::DateCeil, "dateceil", 2, 2),
    (Function::DateFloor, "datefloor", 2, 2),
    (Function::EndsWith, "endsWith", 2, 2),
    (Function::Floor, "floor", 1, 1),
    (Function::FromMillis, "fromMillis", 1, 1),
    (Function::Greatest, "greatest", 1, MANY),
    (Function::If, "if", 3, 3),
    (Function::IsBlank, "isblank", 1, 1),
    (Function::IsEmpty, "isempty", 1, 1),
    (Function::IsIpInSubnet, "isIpInSubnet", 2, 2),
    (Function::IsIpv4InSubnet, "isIpv4InSubnet", 2, 2),
    (Function::IsIpv6InSubnet, "isIpv6InSubnet", 2, 2),
    (Function::IsNumeric, "isNumeric", 1, 1),
    (Function::IsPresent, "ispresent", 1, 1),
    (Function::IsPrivateIp, "isPrivateIP", 1, 1),
    (Function::IsValidIp, "isValidIp", 1, 1),
    (Function::IsValidIpV4, "isValidIpV4", 1, 1),
    (Function::IsValidIpV6, "isValidIpV6", 1, 1),
    (Function::Least, "least", 1, MANY),
    (Function::Log, "log", 1, 1),
    (Function::Ltrim, "ltrim", 1, 2),
    (Function::Now, "now", 0, 0),
    (Function::Replace, "replace", 3, 3),
    (Function::Rtrim, "rtrim", 1, 2),
    (Function::Sqrt, "sqrt", 1, 1),
    (Function::StartsWith, "startsWith", 2, 2),
    (Function::StrContains, "strcontains", 2, 3),
    (Function::StrLen, "strlen", 1, 1),
    (Function::Substr, "substr", 2, 3),
    (Function::ToLower, "tolower", 1, 1),
    (Function::ToMillis, "toMillis", 1, 1),
    (Function::ToUpper, "toupper", 1, 1),
    (Function::Trim, "trim", 1, 2),
    (Function::Unmask, "unmask", 1, 1),
];

/// Functions that CloudWatch documents and this tool does not have.
pub(super) const NOT_SUPPORTED: [&str; 24] = [
    "base64decode",
    "base64encode",
    "case",
    "decToHex",
    "formatDate",
    "hexToAscii",
    "hexToDec",
    "ipv4ToNumber",
    "isPublicIP",
    "isReservedIP",
    "jsonArrayContains",
    "jsonArraySize",
    "jsonParse",
    "jsonStringify",
    "messageSize",
    "parseDate",
    "queryEndTime",
    "queryStartTime",
    "queryTimeRange",
    "regexReplace",
    "split",
    "strftime",
    "urldecode",
    "urlencode",
];

impl Function {
    /// Finds a function by its name, whatever its capitals.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = FUNCTIONS.into_iter().find(|(_, known, ..)| known.eq_ignore_ascii_case(name));
        found.map(|(function, ..)| function)
    }

    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.into_iter().map(|(_, name, ..)| name)
    }

    pub(super) fn name(self) -> &'static str {
        self.entry().map_or("", |(_, name, ..)| name)
    }

    /// The fewest and the most arguments.
    pub(super) fn arguments(self) -> (usize, usize) {
        self.entry().map_or((0, 0), |(.., fewest, most)| (fewest, most))
    }

    /// Whether its last argument is a period.
    pub(super) fn takes_period(self) -> bool {
        matches!(self, Self::Bin | Self::DateCeil | Self::DateFloor)
    }

    /// Whether its second argument is a subnet.
    pub(super) fn takes_subnet(self) -> bool {
        matches!(self, Self::IsIpInSubnet | Self::IsIpv4InSubnet | Self::IsIpv6InSubnet)
    }

    /// A text as a subnet of the family that it takes.
    pub(super) fn subnet(self, text: &str) -> Option<IpNet> {
        ip::subnet(self, text)
    }

    /// The result for values; [`Value::Null`] where the function has none for them.
    ///
    /// What takes a period or needs the time of the query is computed elsewhere.
    pub(super) fn call<'a>(self, arguments: Vec<Value<'a>>) -> Value<'a> {
        let mut arguments = arguments.into_iter();
        let first = arguments.next().unwrap_or(Value::Null);
        match self {
            Self::Abs | Self::Ceil | Self::Floor | Self::Log | Self::Sqrt => number::unary(self, &first),
            Self::Greatest | Self::Least => number::extreme(self, first, arguments),
            Self::FromMillis => first.number().and_then(Numeric::whole).map_or(Value::Null, Value::Timestamp),
            Self::ToMillis => first.number().map_or(Value::Null, Value::from),
            Self::Coalesce => [first]
                .into_iter()
                .chain(arguments)
                .find(|value| *value != Value::Null)
                .unwrap_or(Value::Null),
            Self::If => {
                let (yes, no) = (arguments.next(), arguments.next());
                let chosen = if first.is_true() == Some(true) { yes } else { no };
                chosen.unwrap_or(Value::Null)
            }
            Self::IsPresent => Value::truth(first != Value::Null),
            Self::IsNumeric => Value::truth(first.number().is_some()),
            Self::IsIpInSubnet
            | Self::IsIpv4InSubnet
            | Self::IsIpv6InSubnet
            | Self::IsPrivateIp
            | Self::IsValidIp
            | Self::IsValidIpV4
            | Self::IsValidIpV6 => ip::call(self, &first, &arguments.next().unwrap_or(Value::Null)),
            Self::Unmask => first,
            Self::Bin | Self::DateCeil | Self::DateFloor | Self::Now => Value::Null,
            Self::Concat
            | Self::EndsWith
            | Self::IsBlank
            | Self::IsEmpty
            | Self::Ltrim
            | Self::Replace
            | Self::Rtrim
            | Self::StartsWith
            | Self::StrContains
            | Self::StrLen
            | Self::Substr
            | Self::ToLower
            | Self::ToUpper
            | Self::Trim => text::call(self, first, arguments),
        }
    }

    fn entry(self) -> Option<(Self, &'static str, usize, usize)> {
        FUNCTIONS.into_iter().find(|(function, ..)| *function == self)
    }
}

#[cfg(test)]
mod tests;
