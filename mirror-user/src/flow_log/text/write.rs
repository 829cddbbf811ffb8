//! Writes records as lines.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use crate::flow_log::{Format, Record, record::Value};

/// Writes records as lines of text, after a header line with the names of the fields, as in AWS's files in
/// S3. It writes line by line: the output should be buffered.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use mirror_user::flow_log::{Format, LogStatus, Record, TextWriter};
///
/// let format: Format = "${version} ${start} ${end} ${log-status}".parse()?;
/// let mut writer = TextWriter::new(Vec::new(), format)?;
/// writer.write(&Record::new(Arc::default(), LogStatus::NoData, 60, 119))?;
/// assert_eq!(writer.into_inner(), b"version start end log-status\n2 60 119 NODATA\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TextWriter<W> {
    out: W,
    format: Format,
    /// Reused, so that a record costs no allocation.
    line: Vec<u8>,
}

impl<W: Write> TextWriter<W> {
    /// Writes the header line.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn new(mut out: W, format: Format) -> io::Result<Self> {
        let mut line = Vec::new();
        for field in format.fields() {
            line.extend_from_slice(field.name().as_bytes());
            line.push(b' ');
        }
        end(&mut line);
        out.write_all(&line)?;
        Ok(Self { out, format, line })
    }

    /// Writes a record.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        for field in self.format.fields() {
            match record.value(*field, &self.format) {
                Value::Missing => line.push(b'-'),
                Value::Text(text) => line.extend_from_slice(text.as_bytes()),
                Value::Number(number) => write!(line, "{number}")?,
                // Its own `Display` formats into a buffer first, to honour widths.
                Value::Address(IpAddr::V4(address)) => {
                    let [a, b, c, d] = address.octets();
                    write!(line, "{a}.{b}.{c}.{d}")?;
                }
                Value::Address(address) => write!(line, "{address}")?,
            }
            line.push(b' ');
        }
        end(line);
        self.out.write_all(line)
    }

    /// The output.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// The output.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// A newline instead of the blank behind the last value.
fn end(line: &mut [u8]) {
    if let Some(last) = line.last_mut() {
        *last = b'\n';
    }
}
