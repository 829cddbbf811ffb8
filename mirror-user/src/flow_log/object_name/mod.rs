//! Names of files in Amazon S3, as AWS delivers flow logs there.

use std::fmt;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use sha1::{Digest as _, Sha1};

/// Names files as AWS does when it delivers flow logs to
/// [Amazon S3](https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-s3-path.html), so that tables of
/// Athena over AWS's files take ours, too.
///
/// Two hosts never give the same name, as the id of the flow log is a hash of the host, nor do two runs of a
/// host or two files of a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectNames {
    layout: Layout,
    /// Whether each hour has a folder.
    hourly: bool,
    file_type: FileType,
    /// `fl-` and 17 hexadecimal digits.
    flow_log: String,
    run: String,
}

/// How folders are named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// By values alone: `2026/12/01/`.
    Plain,
    /// By keys and values, which become columns in Athena, Spark and DuckDB: `year=2026/month=12/day=01/`.
    Hive,
}

/// What files hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileType {
    /// Lines in gzip: `.log.gz`.
    Text,
    /// Parquet: `.log.parquet`.
    Parquet,
}

/// What a file has records of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Contents<'c> {
    /// The account, if it is known.
    pub account: Option<&'c str>,
    /// The region, if it is known.
    pub region: Option<&'c str>,
    /// When the first window of the file begins, in Unix seconds.
    pub start: i64,
    /// Which file of this run it is.
    pub sequence: u32,
}

/// Why a file cannot have a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A part of the path has characters that it cannot have there.
    #[error(
        "the {what} {value:?} cannot be part of a path: only letters, digits and - are; correct the metadata"
    )]
    Part {
        /// Which part.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// Its time is beyond the years that can be written.
    #[error("no date is {0} seconds after 1970")]
    Time(i64),
}

/// In place of an account or region that is not known, as AWS has it in records.
const UNKNOWN: &str = "unknown";

impl ObjectNames {
    /// Names for files of a host and one of its runs: texts of any form, by which others differ.
    #[must_use]
    pub fn new(layout: Layout, hourly: bool, file_type: FileType, host: &str, run: &str) -> Self {
        let mut flow_log = format!("fl-{:x}", Sha1::digest(host));
        flow_log.truncate("fl-".len() + 17);
        Self { layout, hourly, file_type, flow_log, run: run.to_owned() }
    }

    /// The folder of a file, with a slash at its end:
    /// `AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/12/01/`.
    ///
    /// # Errors
    ///
    /// If the account or region is none, or the time is beyond all calendars.
    pub fn folder(&self, contents: &Contents<'_>) -> Result<String, NameError> {
        let (account, region, time) = parts(contents)?;
        let (year, month, day) = (time.year(), time.month(), time.day());
        let mut folder = match self.layout {
            Layout::Plain => {
                format!("AWSLogs/{account}/vpcflowlogs/{region}/{year:04}/{month:02}/{day:02}/")
            }
            Layout::Hive => format!(
                "AWSLogs/aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}/\
                year={year:04}/month={month:02}/day={day:02}/"
            ),
        };
        if self.hourly {
            let key = if self.layout == Layout::Hive { "hour=" } else { "" };
            folder += &format!("{key}{:02}/", time.hour());
        }
        Ok(folder)
    }

    /// The name of a file in its folder:
    /// `123456789012_vpcflowlogs_us-east-1_fl-0123456789abcdef0_20261201T0300Z_2ad4bef5.log.gz`.
    ///
    /// # Errors
    ///
    /// As those of [`folder`](Self::folder).
    pub fn file(&self, contents: &Contents<'_>) -> Result<String, NameError> {
        let (account, region, time) = parts(contents)?;
        let time = time.strftime("%Y%m%dT%H%MZ");
        let (flow_log, hash, suffix) = (&self.flow_log, self.hash(contents), self.file_type);
        Ok(format!("{account}_vpcflowlogs_{region}_{flow_log}_{time}_{hash:08x}{suffix}"))
    }

    /// Differs among the files of a run that begin in the same minute, as the sequence number is added to a
    /// hash of all else.
    fn hash(&self, contents: &Contents<'_>) -> u32 {
        let of = Sha1::new().chain_update(&self.flow_log).chain_update(&self.run);
        let digest = of.chain_update(contents.start.div_euclid(60).to_be_bytes()).finalize();
        let first = digest.iter().take(4).fold(0, |word, byte| word << 8 | u32::from(*byte));
        first.wrapping_add(contents.sequence)
    }
}

fn parts<'c>(contents: &Contents<'c>) -> Result<(&'c str, &'c str, DateTime), NameError> {
    let part = |what, value: Option<&'c str>| {
        let value = value.unwrap_or(UNKNOWN);
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if value.is_empty() || !value.bytes().all(is_part) {
            return Err(NameError::Part { what, value: value.to_owned() });
        }
        Ok(value)
    };
    let time = Timestamp::from_second(contents.start).map_err(|_| NameError::Time(contents.start))?;
    let time = TimeZone::UTC.to_datetime(time);
    Ok((part("account", contents.account)?, part("region", contents.region)?, time))
}

/// The end of a file's name.
impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => ".log.gz",
            Self::Parquet => ".log.parquet",
        })
    }
}

#[cfg(test)]
mod tests;
